"""Ways to count arithmetic that publications use, one function each, over the operators of a traced graph.

Many print multiply-accumulates and call them FLOPs; counters that hook layers see neither attention products
nor any other product of two activations; some halve attention under a causal mask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from graphs.expressions import Environment
from graphs.ir import WEIGHT, Operator, OperatorGraph
from graphs.work import work_of

Sizes = Mapping[str, Any]


def flops(graph: OperatorGraph, sizes: Sizes, within: str = "") -> float:
    """Every matrix product, attention as the full rectangle, a multiply-add being two."""
    return sum(flop for _, flop in _counted(graph, sizes, within))


def macs(graph: OperatorGraph, sizes: Sizes, within: str = "") -> float:
    """Multiply-accumulates: half the FLOP."""
    return flops(graph, sizes, within) / 2


def macs_without_attention(graph: OperatorGraph, sizes: Sizes, within: str = "") -> float:
    """What a counter that hooks layers sees: products with a weight, none of two activations."""
    return sum(flop for operator, flop in _counted(graph, sizes, within) if _has_weight(operator)) / 2


def flops_without_attention(graph: OperatorGraph, sizes: Sizes, within: str = "") -> float:
    """As `macs_without_attention`, a multiply-add being two."""
    return 2 * macs_without_attention(graph, sizes, within)


def macs_of_attention(graph: OperatorGraph, sizes: Sizes, within: str = "") -> float:
    """Products of two activations only."""
    return macs(graph, sizes, within) - macs_without_attention(graph, sizes, within)


def flops_causal_half(graph: OperatorGraph, sizes: Sizes, within: str = "") -> float:
    """Attention under a causal mask counted as half its rectangle."""
    return sum(
        flop / 2 if operator.attribute("mask") == "causal" else flop
        for operator, flop in _counted(graph, sizes, within)
    )


CONVENTIONS: Mapping[str, Callable[[OperatorGraph, Sizes, str], float]] = {
    "flops": flops,
    "macs": macs,
    "macs_without_attention": macs_without_attention,
    "flops_without_attention": flops_without_attention,
    "macs_of_attention": macs_of_attention,
    "flops_causal_half": flops_causal_half,
}


def inside(template: str, within: str) -> bool:
    """Whether a module template lies in `within`, itself a template; everything lies in ''."""
    return not within or template == within or template.startswith(f"{within}.")


def _counted(graph: OperatorGraph, sizes: Sizes, within: str) -> Iterator[tuple[Operator, float]]:
    """Distinct operators of a part of the model with the FLOP of all their runs."""
    wanted = [inside(template, within) for template in graph.templates]
    environment = Environment(sizes)
    for operator, runs in Counter(node.operator for node in graph.nodes if wanted[node.module]).items():
        flop = float(environment(work_of(operator).flop))
        if flop:
            yield operator, runs * flop


def _has_weight(operator: Operator) -> bool:
    return any(spec.role == WEIGHT for spec in operator.inputs)
