"""Point clouds: the choice of far points, whose every step looks at all points."""

from __future__ import annotations

from graphs.ir import Operator
from graphs.work.work import Call, Canonical, Work


def _farthest(call: Call) -> Canonical:
    count, (points, width) = call.outputs[0].shape[0], call.inputs[0].shape
    return Canonical("farthest", (("steps", count), ("points", points), ("width", width)))


def farthest_work(operator: Operator) -> Work:
    """Each step measures all points against the last chosen one: 3 operations a coordinate, 2 to compare.

    Distances and points stay on chip between steps; that steps wait for each other is not priced.
    """
    steps, points, width = (operator.dim(name) for name in ("steps", "points", "width"))
    return Work(
        vector_flop=steps * points * (3 * width + 2),
        reads=tuple(spec.elements for spec in operator.inputs),
        writes=tuple(spec.elements for spec in operator.outputs),
    )


ATEN = {"hwsim.farthest_points": _farthest}
RULES = {"farthest": farthest_work}
