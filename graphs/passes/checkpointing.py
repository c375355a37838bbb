"""Gradient checkpointing: forward values of a region are dropped and made again when its backward needs them.

`full` takes every repeated block of the model, `selective` only what lies between the two products of an
attention that is written out (Korthikanti et al. 2022): a kernel that never stores scores leaves nothing
there to drop. As torch does it, a region runs again up to the last value that its backward needs.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from graphs.ir import ACTIVATION, FORWARD, RECOMPUTE, OperatorGraph, OpNode, Storage
from graphs.passes.blocks import block_of

CORE = frozenset(("pointwise", "create", "copy"))  # what may stand between a softmax and the two products

Region = list[int]  # positions of forward nodes, in order


def checkpoint(graph: OperatorGraph, kind: str) -> OperatorGraph:
    """The training graph with its `full` or `selective` regions computed again in the backward pass."""
    if kind == "none":
        return graph
    regions = _blocks(graph) if kind == "full" else list(_attention_cores(graph))
    plans = [plan for plan in (_plan(graph, region) for region in regions) if plan is not None]
    return _Rewriter(graph, plans).graph() if plans else graph


def _blocks(graph: OperatorGraph) -> list[Region]:
    """Forward nodes of each repeated block."""
    blocks = [block_of(path) for path in graph.modules]
    found: dict[str, Region] = {}
    for position, node in enumerate(graph.nodes):
        if node.phase == FORWARD and blocks[node.module]:
            found.setdefault(blocks[node.module], []).append(position)
    return list(found.values())


def _attention_cores(graph: OperatorGraph) -> Iterable[Region]:
    """Each forward softmax with the elementwise ops round it, between the products that feed and use it."""
    nodes = graph.nodes
    writer: dict[int, int] = {}
    readers: dict[int, list[int]] = {}
    for position, node in enumerate(nodes):
        if node.phase == FORWARD:
            for storage in node.reads:
                readers.setdefault(storage, []).append(position)
            for storage in node.writes:
                writer.setdefault(storage, position)
    for position, node in enumerate(nodes):
        if node.phase == FORWARD and node.operator.kind == "softmax":
            before = _joined(nodes, position, lambda at: [writer[s] for s in nodes[at].reads if s in writer])
            after = _joined(
                nodes, position, lambda at: [r for s in nodes[at].writes for r in readers.get(s, ())]
            )
            beside = {writer[s] for at in before for s in nodes[at].reads if s in writer}
            beside |= {reader for at in after for s in nodes[at].writes for reader in readers.get(s, ())}
            products = {at for at in beside if _beside(nodes, at, position, ("gemm",))}
            yield sorted(before | after | products)


def _joined(nodes: Sequence[OpNode], start: int, beside: Callable[[int], list[int]]) -> set[int]:
    """The op at `start` and the elementwise ops of its module that `beside` leads to."""
    found, waiting = {start}, beside(start)
    while waiting:
        at = waiting.pop()
        if at not in found and _beside(nodes, at, start, CORE):
            found.add(at)
            waiting += beside(at)
    return found


def _beside(nodes: Sequence[OpNode], at: int, start: int, kinds: Collection[str]) -> bool:
    return nodes[at].operator.kind in kinds and nodes[at].module == nodes[start].module


@dataclass(frozen=True, slots=True)
class _Plan:
    """Nodes to run again before the node at `before`, the values that they give back, and their inputs."""

    again: Region
    before: int
    saved: frozenset[int]
    inputs: frozenset[int]


def _plan(graph: OperatorGraph, region: Region) -> _Plan | None:
    """What checkpointing of a region means; None where its backward needs nothing that was made in it."""
    nodes, inside = graph.nodes, set(region)
    made = {
        s
        for position in region
        for s in nodes[position].writes
        if graph.storages[s].role == ACTIVATION and graph.storages[s].allocated_at >= nodes[region[0]].at
    }
    kept: set[int] = set()
    wanted: dict[int, int] = {}
    for position, node in enumerate(nodes):
        if position in inside:
            continue
        if node.phase == FORWARD:
            kept.update(made.intersection(node.reads))  # the region's results stay
        else:
            for storage in made.intersection(node.reads):
                wanted.setdefault(storage, position)
    saved = frozenset(wanted.keys() - kept)
    if not saved:
        return None
    last = max(p for p in region if not saved.isdisjoint(nodes[p].writes))
    again = [p for p in region if p <= last]
    inputs = frozenset(s for p in again for s in nodes[p].reads) - made
    return _Plan(again, min(wanted[s] for s in saved), saved, inputs)


class _Rewriter:
    """Writes the graph anew, its ops and lifetimes on a longer time line."""

    def __init__(self, graph: OperatorGraph, plans: Sequence[_Plan]) -> None:
        self._graph = graph
        self._plans = {plan.before: plan for plan in plans}
        self._nodes: list[OpNode] = []
        self._old: list[int] = []  # distinct old times in order, and the new time of each
        self._new: list[int] = []
        self._fresh: dict[int, int] = {}  # what is read from now on instead of a storage
        self._made: list[Storage] = []
        self._held: dict[int, int] = {}  # input of a region -> new time until which it must live
        self._last_forward: dict[int, int] = {}

    def graph(self) -> OperatorGraph:
        for position, node in enumerate(self._graph.nodes):
            if position in self._plans:
                self._run_again(self._plans[position])
            if not self._old or node.at != self._old[-1]:
                self._old.append(node.at)
                self._new.append(self._next())
            self._append(node, self._new[-1], node.phase)
            if node.phase == FORWARD:
                self._last_forward.update(dict.fromkeys((*node.reads, *node.writes), node.at))
        storages = [self._moved(index, one) for index, one in enumerate(self._graph.storages)]
        made = [
            one if one.freed_at >= 0 else replace(one, freed_at=self._time(-2 - one.freed_at))
            for one in self._made
        ]
        return replace(self._graph, nodes=tuple(self._nodes), storages=(*storages, *made))

    def _next(self) -> int:
        return self._nodes[-1].at + 1 if self._nodes else 0

    def _append(self, node: OpNode, at: int, phase: str) -> None:
        reads, writes = (
            tuple(self._fresh.get(s, s) if phase != FORWARD else s for s in stored)
            for stored in (node.reads, node.writes)
        )
        self._nodes.append(replace(node, reads=reads, writes=writes, at=at, phase=phase))

    def _run_again(self, plan: _Plan) -> None:
        """Copies of the nodes, writing into storages of their own."""
        old = self._graph.storages
        last = {s: p for p in plan.again for s in (*self._graph.nodes[p].reads, *self._graph.nodes[p].writes)}
        written: dict[int, int] = {}
        times: dict[int, int] = {}
        for position in plan.again:
            node = self._graph.nodes[position]
            at = times.setdefault(node.at, self._next())
            for storage in node.writes:
                if (
                    old[storage].allocated_at >= self._graph.nodes[plan.again[0]].at
                    and storage not in written
                ):
                    written[storage] = len(old) + len(self._made)
                    # -2 - old time: the end is known only when the whole time line is
                    end = -2 - old[storage].freed_at if storage in plan.saved else -1
                    self._made.append(
                        replace(old[storage], allocated_at=at, last_used_at=at, freed_at=end, name="")
                    )
            self._fresh.update(written)
            self._append(node, at, RECOMPUTE)
            for storage in plan.inputs:
                self._held[storage] = at
        for storage, index in written.items():
            if storage not in plan.saved:
                place = index - len(old)
                end = times[self._graph.nodes[last[storage]].at]
                self._made[place] = replace(self._made[place], freed_at=end)
                del self._fresh[storage]

    def _time(self, old: int) -> int:
        """The new time of the last op at or before an old time."""
        if old >= self._graph.length:
            return self._next()
        place = bisect_right(self._old, old) - 1
        return self._new[place] if place >= 0 else -1

    def _moved(self, index: int, one: Storage) -> Storage:
        """A storage on the new time line; what is made again ends with its last forward use."""
        ends = self._last_forward.get(index, one.freed_at) if self._is_saved(index) else one.freed_at
        born = one.allocated_at
        if born >= 0:
            born = self._new[min(bisect_left(self._old, born), len(self._new) - 1)]
        freed = max(self._time(ends), self._held.get(index, -1))
        return replace(one, allocated_at=born, last_used_at=self._time(one.last_used_at), freed_at=freed)

    def _is_saved(self, index: int) -> bool:
        return any(index in plan.saved for plan in self._plans.values())
