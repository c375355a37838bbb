"""One colour and one marker per family of operators, for every figure.

The colours are those of Okabe and Ito ("Color Universal Design", 2008), told apart with every common kind of
colour blindness; markers differ as well, for print in black.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Operators that people think of as one thing."""

    label: str
    colour: str
    marker: str


MATRIX = Family(label="matrix products", colour="#0072B2", marker="o")
ATTENTION = Family(label="attention", colour="#D55E00", marker="s")
POINTWISE = Family(label="elementwise and fused", colour="#009E73", marker="^")
ROWS = Family(label="norms, softmax, reductions", colour="#CC79A7", marker="D")
MOVEMENT = Family(label="gathers, copies, KV cache", colour="#E69F00", marker="v")
LINKS = Family(label="communication", colour="#56B4E9", marker="P")
OTHER = Family(label="other", colour="#7F7F7F", marker="X")

_KINDS = {
    MATRIX: ("gemm", "grouped_gemm", "conv"),
    ATTENTION: ("attention",),
    POINTWISE: ("pointwise", "fused", "create"),
    ROWS: ("norm", "rms_norm", "softmax", "log_softmax", "reduce", "scan", "sort", "pool"),
    MOVEMENT: ("copy", "kv_append", "gather", "scatter"),
    LINKS: ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send", "collective"),
}
# for curves that stand for no family; the darker ones first, as lines are thin
CURVES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_FAMILY = {kind: family for family, kinds in _KINDS.items() for kind in kinds}
FAMILIES = (*_KINDS, OTHER)


def family_of(kind: str) -> Family:
    """The family of an operator kind; a backward operator has that of its forward one."""
    return _FAMILY.get(kind.removesuffix("_backward"), OTHER)
