"""Fuses elementwise chains, norms and softmax with their producers, so that intermediate values stay in registers.

Work is preserved op by op; traffic only shrinks: a value made and used inside one group is neither written nor read.
A group is emitted where its first member stands; an op joins the group of its latest producer when nothing it reads
is made later than that, and when it covers the same elements.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from graphs.expressions import Expr, number, total
from graphs.ir import Operator, OperatorGraph, OpNode, TensorSpec

STREAMING = frozenset(("pointwise", "create", "norm", "rms_norm", "softmax", "log_softmax", "copy", "reduce"))
ANCHORS = frozenset(("gemm", "conv", "grouped_gemm", "gather"))
EPILOGUE = frozenset(("pointwise", "create", "copy"))
MOST_MEMBERS = 24


@dataclass(slots=True)
class _Group:
    position: int
    nodes: list[OpNode] = field(default_factory=list)
    elements: Expr = field(default_factory=lambda: number(0))
    written: set[int] = field(default_factory=set)

    @property
    def anchored(self) -> bool:
        return self.nodes[0].operator.kind in ANCHORS


def fuse(graph: OperatorGraph, *, epilogue: bool = True) -> OperatorGraph:
    """Fused graph; with `epilogue`, elementwise ops also join the GEMM, convolution or gather that feeds them."""
    groups = _grouped(graph, epilogue)
    readers: dict[int, set[int]] = {}
    for index, group in enumerate(groups):
        for node in group.nodes:
            for storage in node.reads:
                readers.setdefault(storage, set()).add(index)
    end = graph.length
    fused: dict[tuple[object, ...], Operator] = {}
    nodes = []
    for index, group in enumerate(groups):
        if len(group.nodes) == 1:
            nodes.append(group.nodes[0])
            continue
        outside = {
            s for s in group.written if graph.storages[s].freed_at >= end or readers.get(s, set()) - {index}
        }
        nodes.append(_merged(group, outside, fused))
    return graph.with_nodes(tuple(nodes))


def _grouped(graph: OperatorGraph, epilogue: bool) -> list[_Group]:
    groups: list[_Group] = []
    maker: dict[int, int] = {}
    touched: dict[int, int] = {}
    for node in graph.nodes:
        target = _home(graph, node, groups, maker, touched, epilogue)
        if target is None:
            target = len(groups)
            groups.append(_Group(target))
        group = groups[target]
        group.nodes.append(node)
        group.elements = _elements(node.operator)
        for storage in node.writes:
            maker[storage] = target
            group.written.add(storage)
        for storage in (*node.reads, *node.writes):
            touched[storage] = max(touched.get(storage, -1), target)
    return groups


def _home(
    graph: OperatorGraph,
    node: OpNode,
    groups: list[_Group],
    maker: dict[int, int],
    touched: dict[int, int],
    epilogue: bool,
) -> int | None:
    """Index of the group that `node` may join, or None."""
    one = node.operator
    if one.kind not in STREAMING or not one.outputs:
        return None
    makers = [maker[s] for s in node.reads if s in maker]
    if not makers:
        return None
    target = max(makers)
    group = groups[target]
    if len(group.nodes) >= MOST_MEMBERS or group.nodes[-1].phase != node.phase:
        return None
    head = group.nodes[0].operator.kind
    if head in ANCHORS:
        if not epilogue or one.kind not in EPILOGUE:
            return None
    elif head not in STREAMING:
        return None
    if any(touched.get(s, -1) > target for s in node.writes):
        return None  # somebody between the group and here uses what this op overwrites
    return target if _same_extent(group, one) else None


def _same_extent(group: _Group, one: Operator) -> bool:
    """The op covers the group's elements; a concatenation may gather what the group made a part of."""
    if _elements(one) is group.elements or _elements(one) == group.elements:
        return True
    read = [spec.elements for spec in one.inputs]
    if one.kind == "reduce":
        return group.elements in read
    return one.name == "aten.cat" and group.elements in read and not group.anchored


def _elements(one: Operator) -> Expr:
    return total(spec.elements for spec in one.outputs[:1])


def _merged(group: _Group, outside: set[int], fused: dict[tuple[object, ...], Operator]) -> OpNode:
    """One node for the group: operands that cross its border, each storage read once."""
    inputs: dict[int, TensorSpec] = {}
    outputs: dict[int, TensorSpec] = {}
    made: set[int] = set()
    pattern: list[object] = []
    for node in group.nodes:
        for storage, spec in zip(node.reads, node.operator.inputs, strict=True):
            if storage not in made:
                inputs.setdefault(storage, spec)
        for storage, spec in zip(node.writes, node.operator.outputs, strict=True):
            made.add(storage)
            if storage in outside:
                outputs[storage] = spec
        pattern.append(id(node.operator))
    key = (*pattern, *map(id, inputs.values()), None, *map(id, outputs.values()))
    operator = fused.get(key)
    if operator is None:
        members = tuple(node.operator for node in group.nodes)
        operator = fused[key] = Operator(
            "fused", "+".join(dict.fromkeys(m.name.removeprefix("aten.") for m in members)), members[0].dims,
            tuple(inputs.values()), tuple(outputs.values()), (), members,
        )  # fmt: skip
    first = group.nodes[0]
    return OpNode(operator, tuple(inputs), tuple(outputs), first.module, first.at, first.phase)
