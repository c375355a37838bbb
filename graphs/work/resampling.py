"""Resampling of images, films and sound: interpolation and sampling at given places."""

from __future__ import annotations

from collections.abc import Callable

from graphs.expressions import number
from graphs.ir import Operator
from graphs.work.work import Call, Canonical, Work

# taps per output element of each way to resample, per resampled dimension
_TAPS = {"nearest": 1, "linear": 2, "bilinear": 2, "trilinear": 2, "bicubic": 4}


def _resampled(taps: int, dimensions: int) -> Callable[[Call], Canonical]:
    def rule(call: Call) -> Canonical:
        return Canonical("interpolate", (("taps", number(taps**dimensions)),))

    return rule


def interpolate_work(operator: Operator) -> Work:
    """A multiply-add per tap of each output element; the input once, as neighbours share it in caches."""
    out = operator.outputs[0].elements
    return Work(
        vector_flop=out * operator.dim("taps") * 2,
        reads=tuple(spec.elements for spec in operator.inputs),
        writes=tuple(spec.elements for spec in operator.outputs),
    )


ATEN: dict[str, Callable[[Call], Canonical]] = {
    f"aten.{name}": _resampled(_TAPS[way], dimensions)
    for way, dimensions, names in (
        ("nearest", 1, ("upsample_nearest1d", "_upsample_nearest_exact1d")),
        ("nearest", 2, ("upsample_nearest2d", "_upsample_nearest_exact2d")),
        ("nearest", 3, ("upsample_nearest3d", "_upsample_nearest_exact3d")),
        ("linear", 1, ("upsample_linear1d",)),
        ("bilinear", 2, ("upsample_bilinear2d", "_upsample_bilinear2d_aa", "grid_sampler_2d")),
        ("trilinear", 3, ("upsample_trilinear3d", "grid_sampler_3d")),
        ("bicubic", 2, ("upsample_bicubic2d", "_upsample_bicubic2d_aa")),
    )
    for name in names
}
RULES = {"interpolate": interpolate_work}
