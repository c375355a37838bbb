"""Sampling of maps and volumes between their places: interpolation to another size, reading at given points.

Also the choice of far points, whose every step looks at all points.
"""

from __future__ import annotations

from collections.abc import Callable

from graphs.expressions import minimum, number, product
from graphs.ir import Operator
from graphs.work.work import Call, Canonical, Work

# How many neighbours are weighed into one result.
TAPS = {"nearest": 1, "linear": 2, "bilinear": 4, "trilinear": 8, "bicubic": 16}


def _resize(method: str) -> Callable[[Call], Canonical]:
    def rule(call: Call) -> Canonical:
        return Canonical(
            "sample", (("results", product(call.outputs[0].shape)), ("taps", number(TAPS[method])))
        )

    return rule


def _at_points(dimensions: int) -> Callable[[Call], Canonical]:
    """grid_sampler(map, places, mode, ...): mode 0 weighs all neighbours, 1 the nearest, 2 is bicubic."""

    def rule(call: Call) -> Canonical:
        mode = call.arguments[2] if len(call.arguments) > 2 else 0
        taps = {0: 2**dimensions, 1: 1, 2: TAPS["bicubic"]}[int(mode)]
        return Canonical("sample", (("results", product(call.outputs[0].shape)), ("taps", number(taps))))

    return rule


def _farthest(call: Call) -> Canonical:
    count, (points, width) = call.outputs[0].shape[0], call.inputs[0].shape
    return Canonical("farthest", (("steps", count), ("points", points), ("width", width)))


def sample_work(operator: Operator) -> Work:
    """Two operations per neighbour of a result; a map is read whole at most, however often it is hit."""
    results, taps = operator.dim("results"), operator.dim("taps")
    first, *rest = (spec.elements for spec in operator.inputs)
    return Work(
        vector_flop=2 * results * taps,
        reads=(minimum(first, results * taps), *rest),
        writes=tuple(spec.elements for spec in operator.outputs),
    )


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


ATEN: dict[str, Callable[[Call], Canonical]] = {
    **{f"aten.upsample_nearest{n}d": _resize("nearest") for n in (1, 2, 3)},
    **{f"aten._upsample_nearest_exact{n}d": _resize("nearest") for n in (1, 2, 3)},
    "aten.upsample_linear1d": _resize("linear"),
    "aten.upsample_bilinear2d": _resize("bilinear"),
    "aten._upsample_bilinear2d_aa": _resize("bilinear"),
    "aten.upsample_trilinear3d": _resize("trilinear"),
    "aten.upsample_bicubic2d": _resize("bicubic"),
    "aten.grid_sampler_2d": _at_points(2),
    "aten.grid_sampler_3d": _at_points(3),
    "hwsim.farthest_points": _farthest,
}
RULES = {"sample": sample_work, "farthest": farthest_work}
