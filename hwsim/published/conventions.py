"""Ways to count arithmetic that publications use, one function each, over the operators of a traced graph.

Many print multiply-accumulates and call them FLOPs; counters that hook layers see neither attention products
nor any other product of two activations; some halve attention under a causal mask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from devices.energy import component_energy
from graphs.expressions import Environment
from graphs.ir import WEIGHT, Operator, OperatorGraph
from graphs.work import work_of
from hwsim.lower import compute_dtype

Sizes = Mapping[str, Any]
Count = Any  # a number, or an array over the points of a grid


@dataclass(frozen=True, slots=True)
class _Amounts:
    """FLOP, the part of it with codes, and additions that these need, in one dtype."""

    flop: Count
    coded_flop: Count
    additions: Count
    dtype: str


def flops(graph: OperatorGraph, sizes: Sizes, within: str = "") -> Count:
    """Every matrix product, attention as the full rectangle, a multiply-add being two."""
    return sum(flop for _, flop in _counted(graph, sizes, within))


def macs(graph: OperatorGraph, sizes: Sizes, within: str = "") -> Count:
    """Multiply-accumulates: half the FLOP."""
    return flops(graph, sizes, within) / 2


def macs_without_attention(graph: OperatorGraph, sizes: Sizes, within: str = "") -> Count:
    """What a counter that hooks layers sees: products with a weight, none of two activations."""
    return sum(flop for operator, flop in _counted(graph, sizes, within) if _has_weight(operator)) / 2


def flops_without_attention(graph: OperatorGraph, sizes: Sizes, within: str = "") -> Count:
    """As `macs_without_attention`, a multiply-add being two."""
    return 2 * macs_without_attention(graph, sizes, within)


def macs_of_attention(graph: OperatorGraph, sizes: Sizes, within: str = "") -> Count:
    """Products of two activations only."""
    return macs(graph, sizes, within) - macs_without_attention(graph, sizes, within)


def flops_causal_half(graph: OperatorGraph, sizes: Sizes, within: str = "") -> Count:
    """Attention under a causal mask counted as half its rectangle."""
    return sum(
        flop / 2 if operator.attribute("mask") == "causal" else flop
        for operator, flop in _counted(graph, sizes, within)
    )


def multiplications(graph: OperatorGraph, sizes: Sizes, within: str = "") -> Count:
    """One for each multiply-add of matrix products; none where one side is codes of -1, 0 and 1."""
    return sum((work.flop - work.coded_flop) / 2 for work in _amounts(graph, sizes, within))


def additions(graph: OperatorGraph, sizes: Sizes, within: str = "") -> Count:
    """One for each multiply-add of matrix products, and those that sum what codes pick."""
    return sum((work.flop - work.coded_flop) / 2 + work.additions for work in _amounts(graph, sizes, within))


def arithmetic_energy(graph: OperatorGraph, sizes: Sizes, within: str = "") -> Count:
    """Joules of these multiplications and additions at 45 nm (devices/energy.toml); no memory, no rest."""
    total: Count = 0.0
    for work in _amounts(graph, sizes, within):
        flop_j, addition_j = component_energy(work.dtype)
        total += (work.flop - work.coded_flop) * flop_j + work.additions * addition_j
    return total


CONVENTIONS: Mapping[str, Callable[[OperatorGraph, Sizes, str], Count]] = {
    "flops": flops,
    "macs": macs,
    "macs_without_attention": macs_without_attention,
    "flops_without_attention": flops_without_attention,
    "macs_of_attention": macs_of_attention,
    "flops_causal_half": flops_causal_half,
    "multiplications": multiplications,
    "additions": additions,
    "arithmetic_energy": arithmetic_energy,
}


def inside(template: str, within: str) -> bool:
    """Whether a module template lies in `within`, itself a template; everything lies in ''."""
    return not within or template == within or template.startswith(f"{within}.")


def _counted(graph: OperatorGraph, sizes: Sizes, within: str) -> Iterator[tuple[Operator, Count]]:
    """Distinct operators of a part of the model with the FLOP of all their runs."""
    environment = Environment(sizes)
    for operator, runs in _runs(graph, within):
        flop = environment(work_of(operator).flop)
        if np.any(flop):
            yield operator, runs * flop


def _amounts(graph: OperatorGraph, sizes: Sizes, within: str) -> Iterator[_Amounts]:
    """The arithmetic of each distinct operator, all its runs together."""
    environment = Environment(sizes)
    for operator, runs in _runs(graph, within):
        work = work_of(operator)
        flop, coded, added = (runs * environment(one) for one in (work.flop, work.coded_flop, work.additions))
        if np.any(flop):
            yield _Amounts(flop, coded, added, compute_dtype(operator))


def _runs(graph: OperatorGraph, within: str) -> Iterable[tuple[Operator, int]]:
    wanted = [inside(template, within) for template in graph.templates]
    return Counter(node.operator for node in graph.nodes if wanted[node.module]).items()


def _has_weight(operator: Operator) -> bool:
    return any(spec.role == WEIGHT for spec in operator.inputs)
