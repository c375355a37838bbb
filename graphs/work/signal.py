"""Fourier transforms and resampling: what signal models do between their layers."""

from __future__ import annotations

from collections.abc import Callable
from math import log2

from graphs.expressions import Expr, number, product
from graphs.ir import Operator
from graphs.work.work import Call, Canonical, Work

LOG2_OF_OPEN_LENGTH = 10  # a length left open counts as 1024 points: no expression has a logarithm
# taps per output element of each way to resample, per resampled dimension
_TAPS = {"nearest": 1, "linear": 2, "bilinear": 2, "trilinear": 2, "bicubic": 4}


def _fft(call: Call) -> Canonical:
    """Transforms over `dim`; the longer side of a real transform is its length."""
    dims = call.arguments[1] if len(call.arguments) > 1 else [-1]
    longest = max(call.inputs[0].shape, call.outputs[0].shape, key=lambda shape: _known(product(shape)))
    points = product(longest[int(d) % len(longest)] for d in dims)
    return Canonical("fft", (("rows", product(longest) / points), ("points", points)))


def _known(size: Expr) -> float:
    return float(size.value or 0)


def fft_work(operator: Operator) -> Work:
    """5 n log2 n operations per transform of n points (Cooley and Tukey); one pass over memory."""
    rows, points = operator.dim("rows"), operator.dim("points")
    rounds = log2(max(2.0, _known(points))) if points.value else LOG2_OF_OPEN_LENGTH
    return Work(
        dims={"rows": rows, "cols": points},
        vector_flop=rows * points * (5 * rounds),
        reads=tuple(spec.elements for spec in operator.inputs),
        writes=tuple(spec.elements for spec in operator.outputs),
    )


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
    f"aten._fft_{name}": _fft for name in ("r2c", "c2r", "c2c")
} | {
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
RULES = {"fft": fft_work, "interpolate": interpolate_work}
