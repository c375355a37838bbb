"""Attention over chosen keys: products at places, and the codes by which the places are chosen.

No matrix unit does any of it.
"""

from __future__ import annotations

from dataclasses import replace

from graphs.expressions import minimum, product
from graphs.ir import Operator
from graphs.work.movement import copy_work, lookup_sum_work
from graphs.work.work import Call, Canonical, Work


def _sampled(call: Call) -> Canonical:
    """A table [n, k, d] looked up at index [n, q, s]: a row of d for every place."""
    table, index = call.inputs[0], call.inputs[1]
    dims = (("rows", product(index.shape)), ("run", table.shape[-1]), ("table", table.spec.elements))
    return Canonical("sampled", dims)


def _nearest_code(call: Call) -> Canonical:
    """x [n, t, d] against codewords [pieces, codes, width]."""
    data, words = call.inputs[0].shape, call.inputs[1].shape
    dims = (("rows", product(data[:-1])), ("pieces", words[0]), ("codes", words[1]), ("width", words[2]))
    return Canonical("nearest_code", dims)


def _best_matches(call: Call) -> Canonical:
    """Codes of queries [n, q, pieces] against those of keys [n, k, pieces]."""
    queries, keys = call.inputs[0].shape, call.inputs[1].shape
    return Canonical("best_matches", (("pairs", product(queries[:2]) * keys[1]), ("pieces", queries[2])))


def sampled_work(operator: Operator) -> Work:
    """One multiply-add for each element looked up; a table is read once and again while it is on chip.

    There is one small table per head. The transposed sum counts as the lookups it is when places are in
    the order of keys; bringing them into it is not counted.
    """
    looked_up = operator.dim("rows") * operator.dim("run")
    once = minimum(looked_up, operator.dim("table"))
    work = lookup_sum_work(operator)
    return replace(work, reads=(once, *work.reads[1:]), again=looked_up - once)


def nearest_code_work(operator: Operator) -> Work:
    """A difference, its size and a sum for each number of a codeword, and a comparison for each codeword."""
    rows, pieces, codes, width = (operator.dim(name) for name in ("rows", "pieces", "codes", "width"))
    return replace(copy_work(operator), vector_flop=rows * pieces * codes * (3 * width + 1))


def best_matches_work(operator: Operator) -> Work:
    """A comparison and a sum for each piece, and one for the choice, over pairs up to the diagonal (half)."""
    pairs = operator.dim("pairs") / 2
    return replace(copy_work(operator), vector_flop=pairs * (2 * operator.dim("pieces") + 1))


ATEN = {
    **{f"hwsim.sampled_{name}": _sampled for name in ("product", "sum", "spread")},
    "hwsim.nearest_code": _nearest_code,
    "hwsim.best_matches": _best_matches,
}
RULES = {"sampled": sampled_work, "nearest_code": nearest_code_work, "best_matches": best_matches_work}
