"""Resampling of images, films and sound: interpolation and sampling at given places."""

from __future__ import annotations

from collections.abc import Callable

from graphs.expressions import Expr, number, product
from graphs.ir import Operator
from graphs.work.work import Call, Canonical, Work

# taps per output element
INTERPOLATIONS = {
    "upsample_nearest1d": 1, "upsample_nearest2d": 1, "upsample_nearest3d": 1,
    "_upsample_nearest_exact1d": 1, "_upsample_nearest_exact2d": 1, "_upsample_nearest_exact3d": 1,
    "upsample_linear1d": 2, "upsample_bilinear2d": 4, "upsample_trilinear3d": 8, "upsample_bicubic2d": 16,
}  # fmt: skip
_OTHERS = {
    "_upsample_bilinear2d_aa": 4, "_upsample_bicubic2d_aa": 16, "grid_sampler_2d": 4, "grid_sampler_3d": 8,
}  # fmt: skip


def interpolation(taps: int, backward: bool = False) -> Canonical:
    """The operator that makes each element from so many, or its backward pass."""
    return Canonical("interpolate_backward" if backward else "interpolate", (("taps", number(taps)),))


def _rule(found: Canonical) -> Callable[[Call], Canonical]:
    return lambda _: found


def interpolate_work(operator: Operator) -> Work:
    """A multiply-add per tap of each output element; the input once, as neighbours share it in caches."""
    return _per_tap(operator, operator.outputs[0].elements)


def interpolate_backward_work(operator: Operator) -> Work:
    """Every element of the output's gradient is added to as many of the input's as it had taps."""
    return _per_tap(operator, product(operator.inputs[0].shape))


def _per_tap(operator: Operator, elements: Expr) -> Work:
    return Work(
        vector_flop=elements * operator.dim("taps") * 2,
        reads=tuple(spec.elements for spec in operator.inputs),
        writes=tuple(spec.elements for spec in operator.outputs),
    )


ATEN: dict[str, Callable[[Call], Canonical]] = {
    f"aten.{name}{end}": _rule(interpolation(taps, bool(end)))
    for name, taps in {**INTERPOLATIONS, **_OTHERS}.items()
    for end in ("", "_backward")
}
RULES = {"interpolate": interpolate_work, "interpolate_backward": interpolate_backward_work}
