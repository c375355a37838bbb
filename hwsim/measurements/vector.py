"""Elementwise operators, softmax and LayerNorm over rows x cols, event timing: op, rows, cols."""

from __future__ import annotations

from collections.abc import Iterator

from graphs import kernels
from hwsim.measurements.event import EVENT
from hwsim.measurements.question import Answerable, Part, Question, Refusal, dtype_name
from hwsim.measurements.table import Table

TITLE = "vector operators, event timing: op, rows, cols"
NEEDS = frozenset(("op", "rows", "cols", "dtype"))
# op -> (our operator, tensors in); the u forms combine a tensor with a scalar
OPERATORS = {
    "add": ("add", 2), "mul": ("mul", 2), "div": ("div", 2), "pow": ("pow", 2), "sub": ("sub", 2),
    "addu": ("add", 1), "mulu": ("mul", 1), "divu": ("div", 1), "powu": ("pow", 1), "subu": ("sub", 1),
    "softmax": ("softmax", 1), "ln": ("norm", 1), "layernorm": ("norm", 1), "gelu": ("gelu", 1),
    "relu": ("relu", 1), "tanh": ("tanh", 1), "exp": ("exp", 1), "sqrt": ("sqrt", 1), "silu": ("silu", 1),
}  # fmt: skip


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, op and dtype."""
    height, width = table.number("rows"), table.number("cols")
    for (device, op, dtype), rows in table.groups("device", "op", "dtype").items():
        name, known = dtype_name(dtype), OPERATORS.get(op.lower().removeprefix("vec"))
        if name is None or known is None:
            yield Refusal(rows, f"operator {op!r} in {dtype!r} is not known to this layout", op)
            continue
        part = Part(
            graph=kernels.elementwise(known[0], name, known[1]),
            sizes={"rows": height[rows], "cols": width[rows]},
        )
        yield Question(rows=rows, device=device, op=op, parts=(part,), protocol=EVENT)
