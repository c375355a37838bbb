"""Between a device and its host: a value in the dtype of one side written in that of the other."""

from __future__ import annotations

from graphs.ir import Operator, TensorSpec
from graphs.work.work import Work

CONVERT = "convert"
FLOP_PER_ELEMENT = 2  # scale and zero point


def conversion(spec: TensorSpec, made: TensorSpec) -> Operator:
    """`spec` as `made`: dequantised towards the wider dtype, quantised towards the narrower."""
    return Operator(CONVERT, f"border.{spec.dtype}_to_{made.dtype}", (), (spec,), (made,))


def convert_work(operator: Operator) -> Work:
    """Every element read, scaled and shifted, and written; rounding is part of the store."""
    (spec,), (made,) = operator.inputs, operator.outputs
    return Work(vector_flop=FLOP_PER_ELEMENT * made.elements, reads=(spec.elements,), writes=(made.elements,))


RULES = {CONVERT: convert_work}
