"""Fuses elementwise chains, norms and softmax with their producers: intermediate values stay in registers.

Work is preserved op by op; traffic only shrinks: what is made and used inside one group is neither written
nor read, and what a group reads several times it reads once. Two steps, each exact:

- an op joins the group of its latest producer, where that group stands, when nothing it reads is made later,
  nothing in between uses what it overwrites, and the kernel holds no more memory than its ops did;
- a group whose results one later group alone reads moves there, when nothing in between overwrites what it
  reads and its inputs live that long anyway (both products of a rotary embedding become one kernel).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from graphs.expressions import Expr, minimum, number, total
from graphs.ir import Operator, OperatorGraph, OpNode, TensorSpec
from graphs.passes.footprint import Footprint, Place
from graphs.work import Work, work_of

STREAMING = frozenset(
    (
        "pointwise", "create", "norm", "rms_norm", "softmax", "log_softmax", "copy", "reduce",
        "norm_backward", "rms_norm_backward", "softmax_backward", "log_softmax_backward",
    )
)  # fmt: skip
ANCHORS = frozenset(("gemm", "conv", "grouped_gemm", "gather"))
EPILOGUE = frozenset(("pointwise", "create", "copy"))
MOST_MEMBERS = 24


@dataclass(slots=True)
class _Group:
    """Ops, with their positions, that will be one node; it stands where `head` stood."""

    head: OpNode
    places: list[Place] = field(default_factory=list)
    elements: Expr = field(default_factory=lambda: number(0))

    @property
    def nodes(self) -> list[OpNode]:
        return [node for _, node in self.places]

    @property
    def anchored(self) -> bool:
        return self.places[0][1].operator.kind in ANCHORS

    @property
    def streaming(self) -> bool:
        return self.places[0][1].operator.kind in STREAMING

    @property
    def reads(self) -> set[int]:
        return {storage for node in self.nodes for storage in node.reads}

    @property
    def writes(self) -> set[int]:
        return {storage for node in self.nodes for storage in node.writes}


def fuse(graph: OperatorGraph, *, epilogue: bool = True) -> OperatorGraph:
    """Fused graph; with `epilogue`, elementwise ops also join the GEMM, convolution or gather they follow."""
    footprint = Footprint(graph)
    groups = dict(enumerate(_grouped(graph, footprint, epilogue)))
    uses = _Uses(groups)
    _join_later(graph, footprint, groups, uses)
    writer = _Writer(graph)
    nodes = []
    storages = list(graph.storages)
    for index, group in groups.items():
        if len(group.places) == 1:
            nodes.append(group.head)
            continue
        outside = {s for s in group.writes if footprint.outlives(s) or uses.readers[s] - {index}}
        nodes.append(writer.node(group, outside))
        for storage, shorter in footprint.in_place(group.places, anchored=group.anchored).items():
            storages[storage] = shorter
    return replace(graph, nodes=tuple(nodes), storages=tuple(storages))


def _grouped(graph: OperatorGraph, footprint: Footprint, epilogue: bool) -> list[_Group]:
    """First step: every op in a group of its own or in that of its latest producer."""
    groups: list[_Group] = []
    maker: dict[int, int] = {}
    touched: dict[int, int] = {}
    for position, node in enumerate(graph.nodes):
        reads = () if node.operator.kind == "create" else node.reads  # zeros_like needs a shape, no values
        makers = [maker[s] for s in reads if s in maker]
        target = max(makers, default=-1)
        overwrites = any(touched.get(s, -1) > target for s in node.writes)
        if (
            target < 0
            or overwrites
            or not _joins(groups[target], node, epilogue)
            or not footprint.holds_no_more(
                groups[target].places, (position, node), anchored=groups[target].anchored
            )
        ):
            target = len(groups)
            groups.append(_Group(node))
        group = groups[target]
        group.places.append((position, node))
        group.elements = _elements(node.operator)
        for storage in node.writes:
            maker[storage] = target
        for storage in (*node.reads, *node.writes):
            touched[storage] = max(touched.get(storage, -1), target)
    return groups


def _joins(group: _Group, node: OpNode, epilogue: bool) -> bool:
    """Whether the op may be computed where the group's values are still at hand."""
    kind = node.operator.kind
    if kind not in STREAMING or not node.operator.outputs:
        return False
    if len(group.places) >= MOST_MEMBERS or _stand(group.head) != _stand(node):
        return False
    if not (group.streaming or (group.anchored and epilogue and kind in EPILOGUE)):
        return False
    return _same_extent(group, node.operator)


def _stand(node: OpNode) -> tuple[str, str]:
    """Ops of one kernel belong to one phase and run in one place."""
    return node.phase, node.place


def _same_extent(group: _Group, one: Operator) -> bool:
    """The op covers the group's elements; a concatenation may gather what the group made a part of."""
    if _elements(one) == group.elements:
        return True
    read = [spec.elements for spec in one.inputs]
    if one.kind == "reduce":
        return group.elements in read
    return one.name == "aten.cat" and group.elements in read and not group.anchored


def _elements(one: Operator) -> Expr:
    return one.outputs[0].elements if one.outputs else number(0)


class _Uses:
    """Which groups read and write each storage."""

    def __init__(self, groups: dict[int, _Group]) -> None:
        self.readers: dict[int, set[int]] = {}
        self.writers: dict[int, set[int]] = {}
        for index, group in groups.items():
            for storage in group.reads:
                self.readers.setdefault(storage, set()).add(index)
                self.writers.setdefault(storage, set())
            for storage in group.writes:
                self.readers.setdefault(storage, set())
                self.writers.setdefault(storage, set()).add(index)

    def move(self, group: _Group, old: int, new: int) -> None:
        for storages, users in ((group.reads, self.readers), (group.writes, self.writers)):
            for storage in storages:
                users[storage].discard(old)
                users[storage].add(new)


def _join_later(graph: OperatorGraph, footprint: Footprint, groups: dict[int, _Group], uses: _Uses) -> None:
    """Second step: groups move to the one later group that reads what they make."""
    for index in list(groups):
        group = groups[index]
        if not group.streaming or any(map(footprint.outlives, group.writes)):
            continue
        consumers = set().union(*(uses.readers[s] for s in group.writes)) - {index}
        if len(consumers) != 1:
            continue
        (later,) = consumers
        if later > index and _may_move(graph, group, groups[later], range(index + 1, later), uses):
            groups[later].places[:0] = group.places
            uses.move(group, index, later)
            del groups[index]


def _may_move(graph: OperatorGraph, group: _Group, later: _Group, between: range, uses: _Uses) -> bool:
    if not later.streaming or _stand(later.head) != _stand(group.head):
        return False
    if len(group.places) + len(later.places) > MOST_MEMBERS or not _extent_of_a_reader(group, later):
        return False
    if any(k in between for s in group.reads for k in uses.writers[s]):
        return False
    if any(k in between for s in group.writes for k in uses.writers[s]):
        return False
    inputs = group.reads - group.writes
    return all(graph.storages[s].freed_at >= later.head.at for s in inputs)


def _extent_of_a_reader(group: _Group, later: _Group) -> bool:
    """Every op of `later` that reads a result of `group` runs over the same elements."""
    made = group.writes
    readers = [node.operator for node in later.nodes if made.intersection(node.reads)]
    return all(one.kind == "reduce" or _elements(one) == group.elements for one in readers)


class _Writer:
    """Makes the node of a group; equal groups share one operator."""

    def __init__(self, graph: OperatorGraph) -> None:
        self._storages = graph.storages
        self._specs: dict[tuple[TensorSpec, Expr], TensorSpec] = {}
        self._operators: dict[tuple[object, ...], Operator] = {}
        self._works: dict[int, Work] = {}

    def node(self, group: _Group, outside: set[int]) -> OpNode:
        """Operands are the storages that cross the border, with the elements that members touch in all."""
        reads: dict[tuple[int, str], list[tuple[TensorSpec, Expr]]] = {}
        writes: dict[tuple[int, str], list[tuple[TensorSpec, Expr]]] = {}
        made: set[int] = set()
        start = min(node.at for node in group.nodes)
        for node in group.nodes:
            work = self._work_of(node.operator)
            for storage, spec, amount in zip(node.reads, node.operator.inputs, work.reads, strict=True):
                if storage not in made and not amount.is_zero:
                    reads.setdefault((storage, spec.dtype), []).append((spec, amount))
            for storage, spec, amount in zip(node.writes, node.operator.outputs, work.writes, strict=True):
                born_here = self._storages[storage].allocated_at >= start
                if born_here or spec.elements == self._storages[storage].elements:
                    made.add(storage)
                if storage in outside:
                    writes.setdefault((storage, spec.dtype), []).append((spec, amount))
        inputs, outputs = self._operands(reads.items()), self._operands(writes.items())
        operator = self._operator(group, inputs, outputs)
        stored = [tuple(storage for storage, _ in touches) for touches in (reads, writes)]
        head = group.head
        return OpNode(operator, stored[0], stored[1], head.module, head.at, head.phase, head.place)

    def _work_of(self, operator: Operator) -> Work:
        """The work, looked up by object: hashing an operator by value costs more than all else here."""
        known = self._works.get(id(operator))
        if known is None:
            known = self._works[id(operator)] = work_of(operator)
        return known

    def _operands(
        self, touches: Iterable[tuple[tuple[int, str], list[tuple[TensorSpec, Expr]]]]
    ) -> tuple[TensorSpec, ...]:
        made = []
        for (storage, dtype), parts in touches:
            whole = self._storages[storage]
            elements = parts[0][1]
            if len(parts) > 1:
                amounts = [amount for _, amount in parts]
                elements = _together(amounts, whole.elements if whole.dtype == dtype else None)
            spec = parts[0][0]
            known = self._specs.get((spec, elements))
            if known is None:
                known = TensorSpec(spec.shape, dtype, spec.role, elements)
                self._specs[spec, elements] = known
            made.append(known)
        return tuple(made)

    def _operator(
        self, group: _Group, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
    ) -> Operator:
        members = tuple(node.operator for node in group.nodes)
        key = (*map(id, members), None, *map(id, inputs), None, *map(id, outputs))
        known = self._operators.get(key)
        if known is None:
            name = "+".join(dict.fromkeys(member.name.removeprefix("aten.") for member in members))
            known = Operator("fused", name, members[0].dims, inputs, outputs, (), members)
            self._operators[key] = known
        return known


def _together(amounts: list[Expr], whole: Expr | None) -> Expr:
    """Elements that several touches of one storage cover: their sum, and never more than there are.

    Specs do not say which part of a storage they see, so two reads of the same half count as both halves.
    """
    if whole in amounts:
        assert whole is not None
        return whole
    added = total(amounts)
    return added if whole is None or added == whole else minimum(added, whole)
