"""`hwsim.trace`: models to graphs, kept in memory within a process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphs.ir import OperatorGraph
from graphs.trace import trace as trace_graph
from hwsim.errors import HwsimError

_LOADED: dict[tuple[Any, ...], OperatorGraph] = {}


def trace(
    model: Any,
    *,
    phase: str = "forward",
    inputs: Any = None,
    sizes: Mapping[str, int] | None = None,
    fixed: Mapping[str, int] | None = None,
) -> OperatorGraph:
    """The operator graph of a model.

    `model` is a built-in name, a spec (`hf:DIR`, `timm:NAME`, `file.py:factory`, a path to a `.pt2`, `.onnx`
    or saved graph), a graph, or a torch module of your own, which needs `inputs`: argument names and shapes,
    `{"x": ("batch", 128, 512)}`, and takes default `sizes`.
    `fixed` sizes are traced as plain numbers.
    """
    if isinstance(model, OperatorGraph):
        return trace_graph(model, phase=phase)
    if not isinstance(model, str):
        return _own_module(model, phase, inputs, sizes, fixed)
    key = (model, phase, tuple(sorted((fixed or {}).items())))
    if key not in _LOADED or model.endswith(".json"):
        _LOADED[key] = trace_graph(model, phase=phase, fixed=fixed)
    return _LOADED[key]


def remember(graphs: Mapping[tuple[str, str], OperatorGraph]) -> None:
    """Take graphs of (model, phase) that another process traced, so that this one need not."""
    for (model, phase), graph in graphs.items():
        _LOADED[model, phase, ()] = graph


def _own_module(
    model: Any, phase: str, inputs: Any, sizes: Mapping[str, int] | None, fixed: Mapping[str, int] | None
) -> OperatorGraph:
    from graphs.own import trace_own

    if not hasattr(model, "parameters"):
        raise HwsimError(
            f"{type(model).__name__} is no model; pass a name, a path, a graph or a torch module"
        )
    if inputs is None:
        raise HwsimError('a module needs inputs, as in trace(module, inputs={"x": ("batch", 128, 512)})')
    if phase not in ("forward", "train"):
        raise HwsimError(f"a model of your own has no phase {phase!r} yet; use forward or train")
    return trace_own(model, inputs, sizes=sizes, fixed=fixed, phase=phase)
