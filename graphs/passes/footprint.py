"""What a group of ops holds in memory as one kernel, so that fusing never raises the peak.

A kernel holds its inputs and its results at once, where op by op some inputs are gone before later results
come. Results take the memory of inputs that die in the kernel, as compilers do; a group that would still hold
more than its ops did is not made. Sizes are compared as forms (width per distinct element count), hence at
every size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from graphs.expressions import Expr
from graphs.ir import ACTIVATION, OperatorGraph, OpNode, Storage
from graphs.workload import dtype_bits

Place = tuple[int, OpNode]  # a node and its position among the nodes of the unfused graph
_Form = dict[Expr, float]
_Parts = tuple[list[int], list[int], list[int]]


class Footprint:
    """Lifetimes and users of the storages of an unfused graph."""

    def __init__(self, graph: OperatorGraph) -> None:
        self._storages, self._end = graph.storages, graph.length
        self._size = [(s.elements, dtype_bits(s.dtype)) for s in graph.storages]
        self._dying: dict[int, list[int]] = {}
        for storage, one in enumerate(graph.storages):
            if one.role == ACTIVATION:
                self._dying.setdefault(one.freed_at, []).append(storage)
        self._users: dict[int, list[int]] = {}
        for position, node in enumerate(graph.nodes):
            for storage in {*node.reads, *node.writes}:
                self._users.setdefault(storage, []).append(position)

    def outlives(self, storage: int) -> bool:
        """Whether the storage is a result of the model."""
        return self._storages[storage].freed_at >= self._end

    def holds_no_more(self, group: Sequence[Place], place: Place, *, anchored: bool) -> bool:
        """Whether the group with the op at `place` as its last member holds at most what its ops held."""
        if place[0] != group[0][0] + len(group):
            return self._replaces(group, place)
        return self._fits([*group, place], anchored)

    def _replaces(self, group: Sequence[Place], place: Place) -> bool:
        """Ops of others run before this one: its result must take the place of a value that only it reads."""
        position, node = place
        born = [
            s
            for s in node.writes
            if self._storages[s].allocated_at == node.at and not self._idle(s, position)
        ]
        inside = {p for p, _ in group} | {position}
        spent = [
            s
            for s in dict.fromkeys(node.reads)
            if self._storages[s].allocated_at >= group[0][1].at
            and not self.outlives(s)
            and inside.issuperset(self._users[s])
        ]
        return not Counter(self._size[s] for s in born) - Counter(self._size[s] for s in spent)

    def _idle(self, storage: int, position: int) -> bool:
        """Whether nobody but its maker knows the storage (statistics of a norm)."""
        return self._users[storage] == [position] and not self.outlives(storage)

    def _fits(self, group: Sequence[Place], anchored: bool) -> bool:
        """Ops in an unbroken row: inputs and results at once against the first op and against the last.

        What others held at the first op and no longer at the last is there when the kernel starts.
        """
        parts = existing, born, results = self._parts(group)
        first, last = group[0][1], group[-1][1]
        paired = {old for old, _ in self._pairs(group, parts, anchored)}
        together = self._form(s for s in (*existing, *results) if s not in paired)
        at_first = self._form([*existing, *(s for s in born if s in first.writes)])
        if _covers(at_first, together):
            return True
        touched = {*existing, *born}
        others = (s for at in range(first.at, last.at) for s in self._dying.get(at, ()) if s not in touched)
        at_last = self._form(s for s in touched if self._storages[s].freed_at >= last.at)
        return _covers(at_last, self._form(others, together))

    def in_place(self, group: Sequence[Place], *, anchored: bool) -> dict[int, Storage]:
        """Inputs whose memory a result takes when the kernel starts, with their shorter lives."""
        start = group[0][1].at
        pairs = self._pairs(group, self._parts(group), anchored)
        return {old: replace(self._storages[old], freed_at=start - 1) for old, _ in pairs}

    def _pairs(self, group: Sequence[Place], parts: _Parts, anchored: bool) -> list[tuple[int, int]]:
        """Dying inputs and results that take their memory; operands of a matrix product are needed whole."""
        existing, _, results = parts
        inside = {position for position, _ in group}
        start, end = group[0][0], group[-1][1].at
        needed = set(group[0][1].reads) if anchored else set()
        waiting: dict[tuple[Expr, float], list[int]] = {}
        for storage in existing:
            if storage in needed or self._storages[storage].freed_at > end:
                continue
            if inside.issuperset(p for p in self._users[storage] if p >= start):
                waiting.setdefault(self._size[storage], []).append(storage)
        pairs = []
        for storage in results:
            free = waiting.get(self._size[storage])
            if free:
                pairs.append((free.pop(), storage))
        return pairs

    def _parts(self, group: Sequence[Place]) -> _Parts:
        """Activations that were there before the group, those born in it, and which of these leave it."""
        inside = {position for position, _ in group}
        start = group[0][1].at
        touched = dict.fromkeys(s for _, node in group for s in (*node.reads, *node.writes))
        activations = [s for s in touched if self._storages[s].role == ACTIVATION]
        existing: list[int] = []
        born: list[int] = []
        for s in activations:
            is_new = self._storages[s].allocated_at >= start and self._users[s][0] >= group[0][0]
            (born if is_new else existing).append(s)
        results = [s for s in born if self.outlives(s) or not inside.issuperset(self._users[s])]
        return existing, born, results

    def _form(self, storages: Iterable[int], start: _Form | None = None) -> _Form:
        form = dict(start or {})
        for storage in storages:
            elements, width = self._size[storage]
            form[elements] = form.get(elements, 0.0) + width
        return form


def _covers(held: _Form, asked: _Form) -> bool:
    """Whether `held` is at least `asked` at every size."""
    return all(width <= held.get(size, 0.0) for size, width in asked.items())
