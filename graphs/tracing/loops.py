"""Loops over tokens kept whole: recurrent layers, selective scans and delta rules are one operator each.

Written in torch they run token by token or chunk by chunk, which fixes the length and makes an op of every
step; on an accelerator each is one kernel. The operators here have shapes and a work rule
(`graphs.work.loops`) and no arithmetic: they are only ever traced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import define, register_autograd, register_fake

from graphs.tracing.torch_private import lstm_impl

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}

define(
    "hwsim::recurrence",
    "(Tensor gates, Tensor weight, Tensor? bias, Tensor state, Tensor? cell, str kind)"
    " -> (Tensor, Tensor, Tensor)",
)
define(
    "hwsim::recurrence_backward",
    "(Tensor gradient, Tensor gates, Tensor weight, Tensor out, str kind) -> (Tensor, Tensor)",
)
define(
    "hwsim::selective_scan",
    "(Tensor x, Tensor dt, Tensor a, Tensor b, Tensor c, Tensor? d, Tensor? z, Tensor? bias)"
    " -> (Tensor, Tensor)",
)
define(
    "hwsim::delta_rule",
    "(Tensor query, Tensor key, Tensor value, Tensor decay, Tensor beta, Tensor? state, int chunk)"
    " -> (Tensor, Tensor)",
)


@register_fake("hwsim::recurrence")  # type: ignore[untyped-decorator]
def _recurrence(
    gates: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor, cell: Tensor | None, kind: str
) -> tuple[Tensor, Tensor, Tensor]:
    """gates [steps, batch, n hidden]; all hidden states, the last one and, of an LSTM, the last cell."""
    out = gates.new_empty(gates.shape[0], gates.shape[1], weight.shape[1])
    return out, torch.empty_like(state), gates.new_empty(0) if cell is None else torch.empty_like(cell)


@register_fake("hwsim::recurrence_backward")  # type: ignore[untyped-decorator]
def _recurrence_backward(
    gradient: Tensor, gates: Tensor, weight: Tensor, out: Tensor, kind: str
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(gates), torch.empty_like(weight)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    gates, weight, bias, _, _, kind = inputs
    ctx.kind, ctx.biased = kind, bias is not None
    ctx.save_for_backward(gates, weight, output[0])


def _derived(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Any, ...]:
    """Gradients of gates, weight and bias; initial states are taken for constants."""
    of_gates, of_weight = torch.ops.hwsim.recurrence_backward(gradient, *ctx.saved_tensors, ctx.kind)
    return of_gates, of_weight, of_gates.sum((0, 1)) if ctx.biased else None, None, None, None


register_autograd("hwsim::recurrence", _derived, setup_context=_keep)


@register_fake("hwsim::selective_scan")  # type: ignore[untyped-decorator]
def _selective_scan(
    x: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """x [batch, width, tokens], a [width, states]."""
    return torch.empty_like(x), x.new_empty(x.shape[0], x.shape[1], a.shape[-1])


@register_fake("hwsim::delta_rule")  # type: ignore[untyped-decorator]
def _delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    decay: Tensor,
    beta: Tensor,
    state: Tensor | None,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """key [batch, tokens, heads, key width], value [batch, tokens, value heads, value width]."""
    batch, _, heads, width = value.shape
    last = value.new_empty(batch, heads, key.shape[-1], width, dtype=torch.float32)
    return value.new_empty(value.shape, dtype=query.dtype), last


def recurrent_layers(
    kind: str,
    x: Tensor,
    states: Sequence[Tensor],
    parameters: Sequence[Tensor],
    *,
    biased: bool,
    layers: int,
    dropout: float,
    both_ways: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """What torch's recurrent layers return: inputs of all steps are one product, the loop is one operator."""
    ways = 2 if both_ways else 1
    per = 4 if biased else 2
    x = x.transpose(0, 1) if batch_first else x
    last: list[tuple[Tensor, Tensor]] = []
    for layer in range(layers):
        found = []
        for way in range(ways):
            at = layer * ways + way
            inner, outer, *biases = parameters[per * at : per * at + per]
            gates = torch.nn.functional.linear(x, inner, biases[0] if biases else None)
            cell = states[1][at] if len(states) > 1 else None
            out, *end = torch.ops.hwsim.recurrence(
                gates, outer, biases[1] if biases else None, states[0][at], cell, kind
            )
            found.append(out)
            last.append((end[0], end[1]))
        x = torch.cat(found, -1) if both_ways else found[0]
        if dropout > 0 and layer < layers - 1:
            x = torch.dropout(x, dropout, True)
    ends = [torch.stack([pair[place] for pair in last]) for place in range(len(states))]
    return (x.transpose(0, 1) if batch_first else x, *ends)


def replacements() -> Iterator[tuple[str, Any]]:
    """torch's recurrent layers by operator, and what to run instead of each."""
    for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        yield f"{kind}.input", _layers_of(kind)


def _layers_of(kind: str) -> Any:
    def layers_of(
        x: Tensor,
        given: Tensor | Sequence[Tensor],
        parameters: Sequence[Tensor],
        biased: bool,
        layers: int,
        dropout: float,
        train: bool,
        both_ways: bool,
        batch_first: bool,
    ) -> tuple[Tensor, ...]:
        states = [given] if isinstance(given, Tensor) else given  # an LSTM has two
        if states[0].shape[-1] != states[-1].shape[-1]:  # projected: step by step, as torch does
            made: tuple[Tensor, ...] = lstm_impl(
                x, states, parameters, biased, layers, dropout, train, both_ways, batch_first
            )
            return made
        return recurrent_layers(
            kind,
            x,
            states,
            parameters,
            biased=biased,
            layers=layers,
            dropout=dropout if train else 0.0,
            both_ways=both_ways,
            batch_first=batch_first,
        )

    return layers_of
