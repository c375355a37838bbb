"""Functions that transformers runs as one kernel on a GPU and as a loop over tokens or chunks elsewhere.

While a model is traced without gradients each is one operator of `graphs.tracing.loops`. Experts that a model
visits one by one, as data tells, are the grouped product that transformers has for most others.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers.integrations import moe

import graphs.tracing.loops  # noqa: F401  defines the operators

_MODELS = "transformers.models."


def selective_scan(
    hidden_states: Any,
    dt: Any,
    A: Any,
    B: Any,
    C: Any,
    D: Any = None,
    z: Any = None,
    delta_bias: Any = None,
    return_last_state: bool = False,
    **_: Any,
) -> Any:
    out, last = torch.ops.hwsim.selective_scan(hidden_states, dt, A, B, C, D, z, delta_bias)
    return (out, last) if return_last_state else out


def delta_rule(
    query: Any,
    key: Any,
    value: Any,
    g: Any,
    beta: Any,
    chunk_size: int = 64,
    initial_state: Any = None,
    output_final_state: bool = False,
    **_: Any,
) -> Any:
    out, last = torch.ops.hwsim.delta_rule(query, key, value, g, beta, initial_state, chunk_size)
    return out, last if output_final_state else None


WHOLE: dict[str, Callable[..., Any]] = {
    "mamba_selective_scan": selective_scan,
    "torch_chunk_gated_delta_rule": delta_rule,
    "chunk_kimi_delta_attention": delta_rule,
}


@contextmanager
def kept_whole() -> Iterator[None]:
    """While the block runs, the functions of all imported models are these operators."""
    found: list[tuple[Any, str, Callable[..., Any]]] = [
        (module, name, getattr(module, name))
        for path, module in list(sys.modules.items())
        if path.startswith(_MODELS)
        for name in WHOLE
        if name in vars(module)
    ]
    found += [(one, "forward", one.forward) for one in _visited_one_by_one()]
    for module, name, stepwise in found:
        whole = WHOLE[name] if name in WHOLE else _grouped(stepwise)
        setattr(module, name, _either(whole, stepwise))
    try:
        yield
    finally:
        for module, name, stepwise in found:
            setattr(module, name, stepwise)


_FIRST = (["hidden_states"], ["inputs"])


def _visited_one_by_one() -> list[type[nn.Module]]:
    """Classes of stacked experts whose forward is a loop of its own."""
    found = {
        one: None
        for path, module in list(sys.modules.items())
        if path.startswith(_MODELS)
        for name, one in vars(module).items()
        if name.endswith("Experts") and isinstance(one, type) and issubclass(one, nn.Module)
        if not hasattr(one.forward, "__wrapped__")
        and list(inspect.signature(one.forward).parameters)[1:2] in _FIRST
    }
    return list(found)


def _grouped(stepwise: Callable[..., Any]) -> Callable[..., Any]:
    """The grouped product where weights lie as it needs them: gates beside values, experts outermost."""

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (
            len(args) == 2
            and isinstance(args[1], list)
            and isinstance(weight := getattr(self, "weight", None), nn.Parameter)
        ):
            ends = torch.empty(len(args[1]), dtype=torch.int32)  # rows sorted by expert, beside their counts
            return moe._grouped_mm(args[0], weight.transpose(-2, -1), ends)
        up, down = getattr(self, "gate_up_proj", None), getattr(self, "down_proj", None)
        if len(args) != 3 or not isinstance(up, nn.Parameter) or not isinstance(down, nn.Parameter):
            return stepwise(self, *args, **kwargs)
        plain, transposed = up.shape[1] == 2 * down.shape[2], up.shape[2] == 2 * down.shape[1]
        if len(up) != len(down) or not (plain or transposed):
            return stepwise(self, *args, **kwargs)
        self.num_experts, self.is_transposed, self.has_bias = (
            len(up),
            not plain,
            hasattr(self, "gate_up_proj_bias"),
        )
        self.has_gate, self.is_concatenated = True, True
        self.has_post_expert_norm = self._is_expert_parallel = False
        if not hasattr(self, "_apply_gate"):
            self._apply_gate = partial(moe._default_apply_gate, self)
        return moe.grouped_mm_experts_forward(self, *args, **kwargs)

    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(stepwise).bind(self, *args, **kwargs)
        return forward(*bound.args)

    return called


def _either(whole: Callable[..., Any], stepwise: Callable[..., Any]) -> Callable[..., Any]:
    """The operators have no gradient: a training step runs the loop."""
    return lambda *args, **kwargs: (stepwise if torch.is_grad_enabled() else whole)(*args, **kwargs)
