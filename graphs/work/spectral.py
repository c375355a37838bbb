"""Fourier transforms: rows of `cols` points each."""

from __future__ import annotations

from collections.abc import Sequence

from graphs.expressions import Expr, log2, product
from graphs.ir import Operator
from graphs.work.work import Call, Canonical, Work


def _transform(call: Call) -> Canonical:
    """The longer side of a real transform has the points; the other keeps half of the spectrum."""
    real = call.name.removeprefix("aten._fft_") != "c2c"
    side = call.outputs[0] if call.name.endswith("c2r") else call.inputs[0]
    rows, cols = _split(side.shape, call.arguments[1])
    return Canonical("fft", (("rows", rows), ("cols", cols)), (("real", "yes"),) if real else ())


def _split(shape: Sequence[Expr], dims: Sequence[int]) -> tuple[Expr, Expr]:
    chosen = {dim % len(shape) for dim in dims}
    points = product(size for at, size in enumerate(shape) if at in chosen)
    return product(size for at, size in enumerate(shape) if at not in chosen), points


def fft_work(operator: Operator) -> Work:
    """5 n log2 n operations a complex transform of n points, half of that for real data (radix 2).

    One pass over memory: transforms longer than a kernel's buffer take a second one, which is left out. No
    matrix FLOP, as torch's counter has none.
    """
    rows, cols = operator.dim("rows"), operator.dim("cols")
    each = 2.5 if operator.attribute("real") else 5.0
    return Work(
        dims={"rows": rows, "cols": cols},
        vector_flop=rows * cols * log2(cols) * each,
        reads=tuple(spec.elements for spec in operator.inputs),
        writes=tuple(spec.elements for spec in operator.outputs),
    )


ATEN = {f"aten._fft_{kind}": _transform for kind in ("r2c", "c2r", "c2c")}
RULES = {"fft": fft_work}
