"""What several tests of graphs ask: built-in graphs kept for a session, totals, memory by brute force."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from graphs import catalog
from graphs.expressions import Environment
from graphs.ir import OperatorGraph
from graphs.trace import trace, trace_module
from graphs.work import work_of
from graphs.workload import dtype_bits


@functools.cache
def built_in(name: str, phase: str) -> OperatorGraph:
    """A built-in model's graph; the trace cache of the test session keeps it."""
    return trace(name, phase=phase)


def shrunken(
    name: str, phase: str, *, fixed: Mapping[str, int] | None = None, **changes: Any
) -> OperatorGraph:
    """The graph of a built-in family with some config values changed; `fixed` sizes are plain numbers."""
    from graphs.tracing.symbolic import used_symbols

    entry = catalog.find(name)
    module = catalog.load(entry)
    config = {**entry.config, **changes}
    example = module.example(config, catalog.call_phase(phase))
    return trace_module(
        lambda: module.build(config),
        example,
        symbols=used_symbols(example, catalog.size_symbols(entry, phase)),
        guards=catalog.guard_conditions(entry, phase),
        name=name,
        phase=phase,
        fixed=fixed,
        loss=entry.loss,
    )


def default_sizes(name: str, phase: str, **given: float) -> dict[str, float]:
    return catalog.default_sizes(catalog.find(name), phase, given)


def flop(graph: OperatorGraph, sizes: Mapping[str, float]) -> float:
    """Matrix FLOP of the whole graph."""
    at = Environment(sizes)
    return float(sum(at(work_of(node.operator).flop) for node in graph.nodes))


def arithmetic(graph: OperatorGraph, sizes: Mapping[str, float]) -> tuple[float, float, float]:
    """Matrix FLOP, vector FLOP and special-function results of the whole graph."""
    at = Environment(sizes)
    works = [work_of(node.operator) for node in graph.nodes]
    kinds = ([w.flop for w in works], [w.vector_flop for w in works], [w.special_op for w in works])
    first, second, third = (float(sum(at(one) for one in kind)) for kind in kinds)
    return first, second, third


def moved_bytes(graph: OperatorGraph, sizes: Mapping[str, float]) -> float:
    """Bytes that ops read and write, no reuse between ops."""
    at = Environment(sizes)
    total = 0.0
    for node in graph.nodes:
        one, work = node.operator, work_of(node.operator)
        operands = (*zip(one.inputs, work.reads, strict=True), *zip(one.outputs, work.writes, strict=True))
        total += sum(float(at(amount)) * dtype_bits(spec.dtype) / 8 for spec, amount in operands)
    return total


def peak_bytes(graph: OperatorGraph, sizes: Mapping[str, float]) -> float:
    """Most bytes of activations held at any op, each value from the op that makes it to its end."""
    at = Environment(sizes)
    written: dict[int, int] = {}
    for node in graph.nodes:
        for storage in node.writes:
            written.setdefault(storage, node.at)
    touched = {s for node in graph.nodes for s in (*node.reads, *node.writes)}
    lives = [
        (
            min(written.get(i, s.allocated_at), s.allocated_at),
            s.freed_at,
            float(at(s.elements)) * dtype_bits(s.dtype) / 8,
        )
        for i, s in enumerate(graph.storages)
        if s.role == "activation" and i in touched
    ]
    return max(sum(held for born, freed, held in lives if born <= node.at <= freed) for node in graph.nodes)
