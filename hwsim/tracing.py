"""`hwsim.trace`: model specs to graphs, kept in memory within a process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphs.ir import OperatorGraph
from graphs.trace import trace as trace_graph

_LOADED: dict[tuple[Any, ...], OperatorGraph] = {}


def trace(model: Any, *, phase: str = "forward", fixed: Mapping[str, int] | None = None) -> OperatorGraph:
    """The operator graph of a model name, a saved graph's path or a graph; `fixed` sizes become plain numbers."""
    if isinstance(model, OperatorGraph):
        return trace_graph(model, phase=phase)
    key = (model, phase, tuple(sorted((fixed or {}).items())))
    if key not in _LOADED or str(model).endswith(".json"):
        _LOADED[key] = trace_graph(model, phase=phase, fixed=fixed)
    return _LOADED[key]
