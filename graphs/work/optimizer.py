"""The optimizer step: every parameter, gradient and state streams once through one fused kernel."""

from __future__ import annotations

from collections.abc import Callable

from graphs.expressions import total
from graphs.ir import Operator
from graphs.work.work import Call, Canonical, Work

# name -> (vector FLOP, special-function results) per parameter, counted from the update
COSTS: dict[str, tuple[int, int]] = {
    "adamw": (14, 2),  # decay 2, two moments 3 + 4, their corrections 2, root and division, step 3
    "sgd": (2, 0),
    "sgd-momentum": (4, 0),
}


def _fused(lists: int) -> Callable[[Call], Canonical]:
    """A step over lists of tensors as long as each other, parameters first."""

    def rule(call: Call) -> Canonical:
        parameters = call.inputs[: len(call.inputs) // lists]
        return Canonical("optimizer", (("elements", total(one.spec.elements for one in parameters)),))

    return rule


def optimizer_work(operator: Operator) -> Work:
    """Counts of `COSTS` per parameter; what is read and written is said by the operands."""
    flop, special = COSTS[_NAMES.get(operator.name, operator.name)]
    elements = operator.dim("elements")
    return Work(
        vector_flop=elements * flop,
        special_op=elements * special,
        reads=tuple(spec.elements for spec in operator.inputs),
        writes=tuple(spec.elements for spec in operator.outputs),
    )


_NAMES = {"aten._fused_adamw_": "adamw", "aten._fused_sgd_": "sgd"}
# parameters, gradients, two moments, a counter each; parameters and gradients
ATEN = {"aten._fused_adamw_": _fused(5), "aten._fused_sgd_": _fused(2)}
RULES = {"optimizer": optimizer_work}
