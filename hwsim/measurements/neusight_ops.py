"""Operators of traced models in fp32, measured alone: op, input_shapes, output_shape, with recorded
predictions.

Sizes are read from the shapes; backward times from `bw_ops`, a list of the source's own operator terms:
Linear (m, k, n), BMM (b, m, k, n), VEC* (rows, cols) and MEM (shapes that are read or written).
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphs import kernels
from hwsim.measurements.event import EVENT
from hwsim.measurements.question import Answerable, Part, Question, Refusal, Target
from hwsim.measurements.table import Table
from hwsim.measurements.vector import OPERATORS

TITLE = "operators of traced models, forward and backward: op, input_shapes, output_shape, fw_ops, bw_ops"
NEEDS = frozenset(("op", "input_shapes", "output_shape", "fw_ops", "bw_ops"))
TARGETS = ("fw_us", "bw_us", "acc_us")
Term = tuple[str, tuple[float, ...]]  # kind of operator (and its operands) with its sizes


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device and list of operator kinds, of each direction."""
    device, op = table.text("device"), table.text("op")
    forward = [
        _forward(*row) for row in zip(op, table.text("input_shapes"), table.text("output_shape"), strict=True)
    ]
    backward = [_terms(text) for text in table.text("bw_ops")]
    unread = [row for row, terms in enumerate(forward) if terms is None]
    for row in unread:
        yield Refusal(
            np.array([row]), f"operator {op[row]!r} with these shapes is not known to this layout", op[row]
        )
    added = [_accumulated(terms, back) for terms, back in zip(forward, backward, strict=True)]
    for target, every in (("fw_us", forward), ("bw_us", backward), ("acc_us", added)):
        groups: dict[tuple[str, ...], list[int]] = {}
        for row, terms in enumerate(every):
            if terms:
                groups.setdefault((device[row], op[row], *(kind for kind, _ in terms)), []).append(row)
        for (where, name, *kinds), rows in groups.items():
            sizes = [np.array([every[row][i][1] for row in rows]) for i in range(len(kinds))]  # type: ignore[index]
            parts = tuple(_part(kind, size) for kind, size in zip(kinds, sizes, strict=True))
            target_of = (Target(column=target, unit=1e6),)
            chosen = np.array(rows, dtype=np.intp)
            yield Question(rows=chosen, device=where, op=name, parts=parts, protocol=EVENT, targets=target_of)


def _part(kind: str, sizes: NDArray[np.float64]) -> Part:
    """The graph of a kind, over the sizes of some rows [rows, sizes]."""
    word, _, operands = kind.partition("/")
    columns = list(sizes.T)
    if word == "Linear":
        return Part(graph=kernels.gemm("fp32"), sizes=dict(zip("mkn", columns, strict=True)))
    if word == "BMM":
        return Part(graph=kernels.gemm("fp32", batched=True), sizes=dict(zip("bmkn", columns, strict=True)))
    if word == "MEM":
        return Part(graph=kernels.stream("fp32"), sizes=dict(zip(("read", "written"), columns, strict=True)))
    if word == "EMBEDDING":
        return Part(
            graph=kernels.lookup("fp32"), sizes=dict(zip(("rows", "cols", "table"), columns, strict=True))
        )
    graph = kernels.elementwise(OPERATORS[word][0], "fp32", int(operands or OPERATORS[word][1]))
    return Part(graph=graph, sizes=dict(zip(("rows", "cols"), columns, strict=True)))


def _forward(op: str, inputs: str, output: str) -> list[Term] | None:
    """The terms of an operator by its shapes; None when they cannot be read."""
    try:
        given = [tuple(float(v) for v in shape) for shape in ast.literal_eval(inputs)]
        out = tuple(float(v) for v in ast.literal_eval(output))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    if not given or not out:
        return None
    return _by_shapes(op, given, out)


def _by_shapes(op: str, given: Sequence[tuple[float, ...]], out: tuple[float, ...]) -> list[Term] | None:
    size = math.prod(out)
    if op == "Linear":
        data = given[1] if len(given) == 3 else given[0]  # (bias, data, weight) or the data alone
        return [("Linear", (math.prod(data[:-1]), data[-1], out[-1]))]
    if op == "BMM" and len(given) == 2:
        return [("BMM", (math.prod(out[:-2]), out[-2], given[0][-1], out[-1]))]
    if op == "EMBEDDING":
        return [("EMBEDDING", (math.prod(out[:-1]), out[-1], 30522.0))]
    if op.lower() in ("contiguous", "dropout", "where"):
        return [("MEM", (sum(math.prod(shape) for shape in given), size))]
    word = op.lower().removeprefix("vec")
    if not op.startswith("VEC") or word not in OPERATORS:
        return None
    whole = sum(math.prod(shape) == size for shape in given)
    return [(f"{word}/{max(1, whole)}", (size / out[-1], out[-1]))]


def _accumulated(forward: list[Term] | None, backward: list[Term] | None) -> list[Term] | None:
    """Adding new gradients to stored ones, for each weight of the operator; none without a backward."""
    if not forward or not backward:
        return None
    kind, sizes = forward[0]
    if kind == "Linear":
        return [("add/2", (sizes[1], sizes[2])), ("add/2", (1.0, sizes[2]))]
    if kind.startswith("ln/"):
        return [("add/2", (1.0, sizes[1]))] * 2
    return [("add/2", (sizes[2], sizes[1]))] if kind == "EMBEDDING" else None


def _terms(text: str) -> list[Term] | None:
    """The source's terms of a direction; None when there are none or one cannot be read."""
    try:
        terms: Any = ast.literal_eval(text)
        return [_term(kind, sizes) for kind, sizes in terms] or None
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        return None


def _term(kind: str, sizes: Any) -> Term:
    if kind == "MEM":  # the last shape is written when there are several
        amounts = [math.prod(float(v) for v in shape) for shape in sizes]
        return ("MEM", (sum(amounts[:-1]) or amounts[-1], amounts[-1]))
    word = kind.lower().removeprefix("vec") if kind.startswith("VEC") else kind
    if word not in OPERATORS and word not in ("Linear", "BMM"):
        raise KeyError(kind)
    return (word, tuple(float(v) for v in sizes))


def recorded(table: Table) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Other predictors' values of each target."""
    for name in ("neusight", "roofline", "habitat", "li_et_al"):
        for target in TARGETS:
            column = f"pred_{name}_{target}"
            if table.has(column):
                yield name, target, table.number(column)
