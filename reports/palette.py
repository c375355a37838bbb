"""One colour and one marker per family of operators, per line and per part of a sum, for every figure.

The colours are those of Okabe and Ito ("Color Universal Design", 2008), told apart with every common kind of
colour blindness; markers differ as well, for print in black.
"""

from __future__ import annotations

from dataclasses import dataclass

Dashes = str | tuple[int, tuple[int, ...]]


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
    POINTWISE: ("pointwise", "fused", "create", "optimizer"),
    ROWS: ("norm", "rms_norm", "softmax", "log_softmax", "reduce", "scan", "sort", "pool", "loss"),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """How one of several lines or groups of dots looks; dashes differ too, for print in black."""

    colour: str
    marker: str
    dashes: Dashes


_LOOKS: tuple[tuple[str, str, Dashes], ...] = (
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "--"),
    ("#009E73", "^", "-."),
    ("#CC79A7", "D", ":"),
    ("#E69F00", "v", (0, (5, 1))),
    ("#56B4E9", "P", (0, (3, 1, 1, 1))),
    ("#7F7F7F", "X", (0, (1, 1))),
)
SERIES = tuple(Series(colour=c, marker=m, dashes=d) for c, m, d in _LOOKS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a sum (time, energy, memory); the hatch is for print in black."""

    label: str
    colour: str
    hatch: str


PARTS = {
    "compute": Part(label="arithmetic", colour="#0072B2", hatch=""),
    "memory": Part(label="memory traffic", colour="#E69F00", hatch="///"),
    "overhead": Part(label="launches", colour="#7F7F7F", hatch="..."),
    "communication": Part(label="links", colour="#56B4E9", hatch="xx"),
    "power": Part(label="throttling", colour="#D55E00", hatch="\\\\\\"),
}
ENERGY_PARTS = {
    "compute": Part(label="arithmetic", colour="#0072B2", hatch=""),
    "onchip": Part(label="on-chip memory", colour="#009E73", hatch="---"),
    "dram": Part(label="DRAM", colour="#E69F00", hatch="///"),
    "link": Part(label="links", colour="#56B4E9", hatch="xx"),
    "static": Part(label="static", colour="#7F7F7F", hatch="..."),
    "host": Part(label="host", colour="#CC79A7", hatch="\\\\\\"),
}
MEMORY_PARTS = {
    "weights": Part(label="weights", colour="#0072B2", hatch=""),
    "kv_cache": Part(label="KV cache", colour="#E69F00", hatch="///"),
    "activations": Part(label="activations", colour="#009E73", hatch="---"),
    "gradients": Part(label="gradients", colour="#D55E00", hatch="\\\\\\"),
    "optimizer": Part(label="optimizer", colour="#CC79A7", hatch="xx"),
    "reserve": Part(label="runtime reserve", colour="#7F7F7F", hatch="..."),
}
