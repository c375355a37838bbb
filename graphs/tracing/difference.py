"""Whether two graphs are the same work: op for op, size for size, storage for storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from graphs.expressions import Environment, Expr
from graphs.ir import Operator, OperatorGraph, OpNode, TensorSpec


def difference(graph: OperatorGraph, concrete: OperatorGraph, sizes: Mapping[str, float]) -> str | None:
    """The first place where `graph` at `sizes` is not `concrete`; None when they are the same work."""
    if len(graph.nodes) != len(concrete.nodes):
        return f"{len(graph.nodes)} ops against {len(concrete.nodes)}"
    value = Environment(sizes)
    same: set[tuple[int, int]] = set()
    for mine, theirs in zip(graph.nodes, concrete.nodes, strict=True):
        pair = (id(mine.operator), id(theirs.operator))
        if pair not in same:
            found = _operator_difference(mine.operator, theirs.operator, value)
            if found is not None:
                return f"op {mine.at} ({mine.operator.name}): {found}"
            same.add(pair)
        if _place(mine) != _place(theirs):
            return f"op {mine.at} ({mine.operator.name}) reads or writes other storages, or stands elsewhere"
    if len(graph.storages) != len(concrete.storages):
        return f"{len(graph.storages)} storages against {len(concrete.storages)}"
    for index, (one, two) in enumerate(zip(graph.storages, concrete.storages, strict=True)):
        lives = [(s.dtype, s.role, s.allocated_at, s.freed_at) for s in (one, two)]
        if value(one.elements) != value(two.elements) or lives[0] != lives[1]:
            return f"storage {index} differs in size or lifetime"
    return None


def _place(node: OpNode) -> tuple[object, ...]:
    return node.reads, node.writes, node.module, node.phase


def _operator_difference(mine: Operator, theirs: Operator, value: Environment) -> str | None:
    if identity(mine) != identity(theirs):
        return f"{identity(mine)} against {identity(theirs)}"
    for left, right in zip(sizes_of(mine), sizes_of(theirs), strict=True):
        if value(left) != value(right):
            return f"{left} is {value(left):g} against {value(right):g}"
    return None


def identity(operator: Operator) -> tuple[object, ...]:
    """All of an operator but its sizes."""

    def plain(specs: tuple[TensorSpec, ...]) -> list[tuple[str, str, int]]:
        return [(spec.dtype, spec.role, len(spec.shape)) for spec in specs]

    return (
        operator.kind,
        operator.name,
        operator.attributes,
        [name for name, _ in operator.dims],
        plain(operator.inputs),
        plain(operator.outputs),
    )


def sizes_of(operator: Operator) -> Iterator[Expr]:
    """Every size in an operator, in an order that equal identities share."""
    yield from (value for _, value in operator.dims)
    for spec in (*operator.inputs, *operator.outputs):
        yield from (*spec.shape, spec.elements)
