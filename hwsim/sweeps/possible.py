"""Which points of a case its models allow: sizes within their ranges, and every condition of the
traces met.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphs.expressions import Environment
from graphs.ir import OperatorGraph
from hwsim.tracing import trace

if TYPE_CHECKING:
    from hwsim.sweeps.plan import Case


def possible(case: Case, values: Mapping[str, Any], rows: int) -> NDArray[np.bool_]:
    """Which of `rows` points every workload of the case can be asked about."""
    allowed = np.ones(rows, dtype=bool)
    for one in case.workloads:
        sizes = {**{name: values[name] for name in values if name in one.open}, **one.sizes}
        allowed &= _within(trace(one.model, phase=one.phase), sizes)
    return allowed


def _within(graph: OperatorGraph, given: Mapping[str, Any]) -> NDArray[np.bool_]:
    sizes = dict(given)
    waiting = [symbol for symbol in graph.symbols if symbol.name not in sizes]
    while waiting:
        ready = [symbol for symbol in waiting if symbol.default.symbols <= sizes.keys()]
        if not ready:
            return np.array(True)  # what has no value is refused where it is priced
        environment = Environment(sizes)
        sizes.update({symbol.name: environment(symbol.default) for symbol in ready})
        waiting = [symbol for symbol in waiting if symbol not in ready]
    environment = Environment(sizes)
    allowed: NDArray[np.bool_] = np.array(True)
    for symbol in graph.symbols:
        value = environment.values[symbol.name]
        allowed = allowed & (value >= environment(symbol.minimum))
        if symbol.maximum is not None:
            allowed = allowed & (value <= environment(symbol.maximum))
        if symbol.how == "fixed":
            allowed = allowed & (value == environment(symbol.default))
    for guard in graph.guards:
        allowed = allowed & np.asarray(environment(guard), dtype=bool)
    return allowed
