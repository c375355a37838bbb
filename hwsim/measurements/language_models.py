"""Whole models as parts of a question: a built-in one by name, or any transformer of known widths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs import open_layers
from hwsim.measurements.question import Part

OPEN_DTYPE = "bf16"  # of graphs with open widths; a question's own dtypes replace it


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Widths of a transformer without a built-in model; numbers may be arrays over rows.

    With experts, `inter` is the width of one of them, `top_k` of `experts` see each token, and the first
    `dense_layers` have an MLP of width `dense_inter` instead. `vocab` 0 is a model without a head.
    """

    layers: Any
    hidden: Any
    heads: Any
    kv_heads: Any
    head_dim: Any
    inter: Any
    vocab: Any = 0
    gated: bool = True
    norm: str = "rms_norm"
    causal: bool = True
    activation: str = "silu"
    experts: int = 0
    top_k: int = 0


def of_parameters(total: float, active: float) -> Shape:
    """A generic dense decoder of `active` parameters; with fewer active than total ones, of experts.

    Depth grows with width as in published models (a layer per 128 of width); 12 width^2 parameters per layer.
    """
    layers = max(8.0, round((active / (12 * 128**2)) ** (1 / 3)))
    hidden = 128.0 * max(1.0, round((active / 12 / layers) ** 0.5 / 128))
    heads = hidden / 128
    dense = Shape(
        layers=layers, hidden=hidden, heads=heads, kv_heads=max(1.0, heads / 8), head_dim=128,
        inter=3.5 * hidden, vocab=128_000,
    )  # fmt: skip
    if total <= 1.5 * active:
        return dense
    experts, top_k = 128, max(1, round(128 * active / total))
    return Shape(
        layers=layers, hidden=hidden, heads=heads, kv_heads=max(1.0, heads / 8), head_dim=128,
        inter=3.5 * hidden / top_k, vocab=128_000, experts=experts, top_k=top_k,
    )  # fmt: skip


def prefill(
    model: str | Shape, *, batch: Any, seq: Any, context: Any = 0.0, repeats: Any = 1.0
) -> tuple[Part, ...]:
    """`seq` new tokens after `context` cached ones; logits of the last."""
    if isinstance(model, str):
        sizes = {"batch": batch, "seq": seq, "context": context}
        return (Part(graph=model, phase="prefill", sizes=sizes, repeats=repeats),)
    return _layers(model, batch, seq, context, repeats) + _head(model, batch, repeats)


def decode(model: str | Shape, *, batch: Any, context: Any, repeats: Any = 1.0) -> tuple[Part, ...]:
    """One new token per sequence after `context` cached ones."""
    if isinstance(model, str):
        sizes = {"batch": batch, "context": context}
        return (Part(graph=model, phase="decode", sizes=sizes, repeats=repeats),)
    return _layers(model, batch, 1.0, context, repeats) + _head(model, batch, repeats)


def forward(model: str | Shape, *, batch: Any, seq: Any, repeats: Any = 1.0) -> tuple[Part, ...]:
    """`seq` tokens, logits of all of them."""
    if isinstance(model, str):
        return (Part(graph=model, sizes={"batch": batch, "seq": seq}, repeats=repeats),)
    return _layers(model, batch, seq, 0.0, repeats) + _head(model, np.multiply(batch, seq), repeats)


def generation(model: str | Shape, *, batch: Any, prompt: Any, tokens: Any) -> tuple[Part, ...]:
    """A prompt and the decode steps after it, the first of `tokens` coming out of the prefill."""
    return prefill(model, batch=batch, seq=prompt) + steps(model, batch=batch, prompt=prompt, tokens=tokens)


def steps(model: str | Shape, *, batch: Any, prompt: Any, tokens: Any) -> tuple[Part, ...]:
    """The decode steps of `tokens` tokens after a prompt, all at the mean context (cost is linear in it)."""
    count = np.maximum(np.subtract(tokens, 1.0), 0.0)
    return decode(model, batch=batch, context=np.add(prompt, np.floor(count / 2)), repeats=count)


def _layers(one: Shape, batch: Any, seq: Any, context: Any, repeats: Any) -> tuple[Part, ...]:
    rows = {"batch": batch, "seq": seq, "hidden": one.hidden}
    heads = {"heads": one.heads, "kv_heads": one.kv_heads, "head_dim": one.head_dim}
    attention = Part(
        graph=open_layers.attention_block(
            OPEN_DTYPE, causal=one.causal, norm=one.norm, rotary=one.norm == "rms_norm"
        ),
        sizes={**rows, **heads, "context": context},
        repeats=np.multiply(one.layers, repeats),
    )
    if not one.experts:
        graph = open_layers.mlp_block(OPEN_DTYPE, gated=one.gated, norm=one.norm, activation=one.activation)
        sizes = {**rows, "inter": one.inter}
        return (attention, Part(graph=graph, sizes=sizes, repeats=attention.repeats))
    tokens = np.multiply(batch, seq)
    active = np.maximum(one.top_k, one.experts * (1 - (1 - one.top_k / one.experts) ** tokens))
    sizes = {
        **rows,
        "inter": one.inter,
        "experts": one.experts,
        "active": active,
        "expert_tokens": tokens * one.top_k / active,
    }
    graph = open_layers.expert_block(OPEN_DTYPE, gated=one.gated)
    return (attention, Part(graph=graph, sizes=sizes, repeats=attention.repeats))


def _head(one: Shape, rows: Any, repeats: Any) -> tuple[Part, ...]:
    if np.ndim(one.vocab) == 0 and not one.vocab:
        return ()
    sizes = {"rows": rows, "hidden": one.hidden, "vocab": one.vocab}
    return (Part(graph=open_layers.head(OPEN_DTYPE, norm=one.norm), sizes=sizes, repeats=repeats),)
