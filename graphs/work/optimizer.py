"""The optimizer step: every parameter, gradient and state streams once through one fused kernel."""

from __future__ import annotations

from graphs.ir import Operator
from graphs.work.work import Work

# name -> (vector FLOP, special-function results) per parameter, counted from the update
COSTS: dict[str, tuple[int, int]] = {
    "adamw": (14, 2),  # decay 2, two moments 3 + 4, their corrections 2, root and division, step 3
    "sgd": (2, 0),
    "sgd-momentum": (4, 0),
}


def optimizer_work(operator: Operator) -> Work:
    """Counts of `COSTS` per parameter; what is read and written is said by the operands."""
    flop, special = COSTS[operator.name]
    elements = operator.dim("elements")
    return Work(
        vector_flop=elements * flop,
        special_op=elements * special,
        reads=tuple(spec.elements for spec in operator.inputs),
        writes=tuple(spec.elements for spec in operator.outputs),
    )


RULES = {"optimizer": optimizer_work}
