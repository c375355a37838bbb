"""Exchanges between ranks: sums, gathers, transposes and sends over one axis of a parallel layout."""

from __future__ import annotations

from graphs.expressions import Expr, number
from graphs.ir import Operator, TensorSpec
from graphs.work.work import Work

# What may hide an exchange: nothing, the attention of the same ranks, the backward pass of the last
# micro-batch, or the ops of a phase by its name.
NOTHING, ATTENTION, LAST_BACKWARD = "", "attention", "last_backward"


def exchange(
    name: str, axis: str, spec: TensorSpec, *, behind: str = NOTHING, times: int = 1, writes: bool = True
) -> Operator:
    """A collective called `name` over `axis` on a buffer of `spec`, `times` in a row.

    `spec.elements` are those of the whole buffer for sums and gathers, and what one rank holds for all-to-all
    and send. `behind` names the work that may hide it; without `writes` nobody follows what it made.
    """
    words = (("axis", axis),) + ((("behind", behind),) if behind else ())
    dims = (("elements", spec.elements), ("times", number(times)))
    return Operator("collective", name, dims, (spec,), (spec,) if writes else (), words)


def collective_work(operator: Operator) -> Work:
    """No arithmetic and no DRAM traffic of its own: the network's price of a byte holds what copying
    costs."""
    elements: Expr = operator.dim("elements")
    return Work(
        shape="collective",
        dims={"elements": elements, "times": operator.dim("times")},
        reads=tuple(number(0) for _ in operator.inputs),
        writes=tuple(number(0) for _ in operator.outputs),
    )


RULES = {"collective": collective_work}
