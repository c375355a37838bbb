"""Values for the sizes of a graph: asked ones, defaults that follow from them, checked against its limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphs.expressions import Environment, Expr
from graphs.ir import OperatorGraph
from hwsim.engines.demand import Array
from hwsim.errors import HwsimError


def bind(graph: OperatorGraph, asked: Mapping[str, Any]) -> dict[str, Array]:
    """Checked float64 values of every symbol of `graph`: asked ones and defaults that follow from them."""
    known = {s.name: s for s in graph.symbols}
    values: dict[str, Array] = {}
    for name, value in asked.items():
        if name not in known:
            if name == "batch" and np.all(np.asarray(value) == 1):
                continue
            raise HwsimError(
                f"{graph.model} in phase {graph.phase} has no size {name!r}; "
                f"it has {', '.join(known) or 'none'}"
            )
        values[name] = _checked(name, value)
        if known[name].how == "fixed" and np.any(values[name] != float(known[name].default.value or 0)):
            raise HwsimError(
                f"size {name!r} of this graph is fixed at {known[name].default.text}; "
                "trace it again to change it"
            )
    waiting = [name for name in known if name not in values]
    while waiting:
        ready = [name for name in waiting if known[name].default.symbols <= values.keys()]
        if not ready:
            raise HwsimError(
                f"size {waiting[0]!r} of {graph.model} has no value; pass it with --set {waiting[0]}=..."
            )
        environment = Environment(values)
        for name in ready:
            values[name] = np.asarray(environment(known[name].default), dtype=np.float64)
        waiting = [name for name in waiting if name not in ready]
    environment = Environment(values)
    for name, size in known.items():
        low = float(environment(size.minimum))
        high = math.inf if size.maximum is None else environment(size.maximum)
        if np.any(values[name] < low):
            raise HwsimError(
                f"{name}={_worst(values[name], smallest=True)} is below "
                f"{graph.model}'s least {name} of {low:g}"
            )
        if np.any(values[name] > high):
            raise HwsimError(
                f"{name}={_worst(values[name], smallest=False)} is above "
                f"{graph.model}'s limit of {float(np.min(high)):g}"
            )
    return values


def broken_guard(graph: OperatorGraph, values: Mapping[str, Array]) -> tuple[Expr, str | None] | None:
    """The first guard a point breaks, and the size to trace again as a number when that may help."""
    environment = Environment(values)
    for guard in graph.guards:
        holds = np.asarray(environment(guard), dtype=bool)
        if np.all(holds):
            continue
        small = [n for n in sorted(guard.symbols) if _only_value(values[n]) in (0.0, 1.0)]
        return guard, small[0] if small else None
    return None


def _only_value(values: Array) -> float | None:
    """The one value that all points share, None where they differ."""
    low, high = float(np.min(values)), float(np.max(values))
    return low if low == high else None


def _checked(name: str, value: Any) -> Array:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise HwsimError(f"{name}={value!r} is not a number") from error
    if not np.all(np.isfinite(array)):
        raise HwsimError(f"{name}={value} is not finite; sizes are whole numbers")
    if np.any(array < 0):
        raise HwsimError(f"{name}={_worst(array, smallest=True)} is negative; sizes are not")
    return array


def _worst(values: Array, *, smallest: bool) -> str:
    return f"{float(np.min(values) if smallest else np.max(values)):g}"


def values_text(bound: Mapping[str, Array], guard: Expr) -> str:
    """The sizes of a guard and their values, for a message."""
    return ", ".join(f"{n}={_worst(bound[n], smallest=False)}" for n in sorted(guard.symbols))
