"""Keeps weights, cache or optimizer states outside the device: what a block needs is fetched while the block
before it runs.

A visit is a run of ops of one repeated block in one pass. What its ops read of off-loaded values crosses the
link once, before its first op, into a buffer that lives from the visit before (fetched ahead) to its last
op; what they write goes back behind it. The forward or backward pass may hide these transfers, as far as it
is long enough; the first visit of a pass is taken to be fetched ahead as well, as in a loop of steps it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from graphs.errors import GraphError
from graphs.expressions import Expr, minimum, total
from graphs.ir import (
    ACTIVATION,
    BACKWARD,
    KV,
    OFFLOADED,
    OPTIMIZER,
    RECOMPUTE,
    WEIGHT,
    OperatorGraph,
    OpNode,
    Storage,
    TensorSpec,
)
from graphs.passes.blocks import block_of
from graphs.work import Work, work_of
from graphs.work.collective import exchange

ROLES: Mapping[str, str] = {"weights": WEIGHT, "kv": KV, "optimizer": OPTIMIZER}


@dataclass(slots=True)
class _Visit:
    """Off-loaded values that a run of ops reads and writes; `first` and `last` are positions of nodes."""

    block: object
    of: str
    first: int
    last: int
    reads: dict[int, list[Expr]] = field(default_factory=dict)
    writes: dict[int, list[Expr]] = field(default_factory=dict)


def offload(graph: OperatorGraph, places: Mapping[str, str]) -> OperatorGraph:
    """The graph with `places` (weights, kv or optimizer -> host or nvme) fetched and sent back."""
    if not places:
        return graph
    place_of_role = {ROLES[what]: place for what, place in places.items()}
    for what in places:
        if not any(one.role == ROLES[what] for one in graph.storages):
            raise GraphError(f"offload={what}: {graph.model} holds no {what} in phase {graph.phase}")
    place = {i: place_of_role[s.role] for i, s in enumerate(graph.storages) if s.role in place_of_role}
    visits = list(_visits(graph, place))
    storages = [
        replace(one, role=OFFLOADED) if index in place else one for index, one in enumerate(graph.storages)
    ]
    before: dict[int, list[OpNode]] = {}
    after: dict[int, list[OpNode]] = {}
    for index, visit in enumerate(visits):
        ahead = visits[index - 1] if index and visits[index - 1].of == visit.of else visit
        first, last = graph.nodes[visit.first], graph.nodes[visit.last]
        for where, chosen in _sorted(graph, place, visit.reads):
            spec = _spec(graph, chosen)
            begun = graph.nodes[ahead.first].at
            storages.append(Storage(spec.elements, spec.dtype, ACTIVATION, begun, last.at, last.at))
            fetch = exchange("send", where, spec, behind=visit.of)
            node = OpNode(fetch, (next(iter(chosen)),), (len(storages) - 1,), first.module, first.at)
            before.setdefault(visit.first, []).append(replace(node, phase=first.phase))
        for where, chosen in _sorted(graph, place, visit.writes):
            back = exchange("send", where, _spec(graph, chosen), behind=visit.of, writes=False)
            node = OpNode(back, (next(iter(chosen)),), (), last.module, last.at, last.phase)
            after.setdefault(visit.last, []).append(node)
    nodes = tuple(
        one
        for position, node in enumerate(graph.nodes)
        for one in (*before.get(position, ()), node, *after.get(position, ()))
    )
    return replace(graph, nodes=nodes, storages=tuple(storages))


def _visits(graph: OperatorGraph, place: Mapping[int, str]) -> Iterator[_Visit]:
    """Runs of ops of one block that touch off-loaded values; an op outside of any block is a run of its
    own."""
    blocks = [block_of(path) for path in graph.modules]
    works: dict[int, Work] = {}
    visit: _Visit | None = None
    for position, node in enumerate(graph.nodes):
        if place.keys().isdisjoint((*node.reads, *node.writes)):
            continue
        of = BACKWARD if node.phase == RECOMPUTE else node.phase
        block = blocks[node.module] or position
        if visit is None or (visit.block, visit.of) != (block, of):
            if visit is not None:
                yield visit
            visit = _Visit(block, of, position, position)
        visit.last = position
        work = works.setdefault(id(node.operator), work_of(node.operator))
        for stored, amounts, into in (
            (node.reads, work.reads, visit.reads),
            (node.writes, work.writes, visit.writes),
        ):
            for storage, amount in zip(stored, amounts, strict=True):
                if storage in place and not amount.is_zero:
                    into.setdefault(storage, []).append(amount)
    if visit is not None:
        yield visit


def _sorted(
    graph: OperatorGraph, place: Mapping[int, str], amounts: Mapping[int, list[Expr]]
) -> Iterator[tuple[str, dict[int, Expr]]]:
    """Amounts by place and dtype; several ops may read parts of a storage, but not more than all of it."""
    kinds: dict[tuple[str, str], dict[int, Expr]] = {}
    for storage, parts in amounts.items():
        one = graph.storages[storage]
        amount = minimum(total(parts), one.elements)
        kinds.setdefault((place[storage], one.dtype), {})[storage] = amount
    for (where, _), chosen in kinds.items():
        yield where, chosen


def _spec(graph: OperatorGraph, chosen: Mapping[int, Expr]) -> TensorSpec:
    one = graph.storages[next(iter(chosen))]
    elements = total(chosen.values())
    return TensorSpec((elements,), one.dtype, one.role, elements)
