"""Functions that transformers runs as one kernel on a GPU and as a loop over tokens or chunks elsewhere.

While a model is traced without gradients each is one operator of `graphs.tracing.loops`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

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
    found = [
        (module, name, getattr(module, name))
        for path, module in list(sys.modules.items())
        if path.startswith(_MODELS)
        for name in WHOLE
        if name in vars(module)
    ]
    for module, name, stepwise in found:
        setattr(module, name, _either(WHOLE[name], stepwise))
    try:
        yield
    finally:
        for module, name, stepwise in found:
            setattr(module, name, stepwise)


def _either(whole: Callable[..., Any], stepwise: Callable[..., Any]) -> Callable[..., Any]:
    """The operators have no gradient: a training step runs the loop."""
    return lambda *args, **kwargs: (stepwise if torch.is_grad_enabled() else whole)(*args, **kwargs)
