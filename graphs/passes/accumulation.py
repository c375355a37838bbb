"""Gradient accumulation: each micro-step adds its gradients to buffers that last from step to step."""

from __future__ import annotations

from dataclasses import replace

from graphs.ir import (
    ACCUMULATE,
    ACTIVATION,
    GRADIENT,
    Operator,
    OperatorGraph,
    OpNode,
    Storage,
    TensorSpec,
)
from graphs.workload import Training


def accumulates(training: Training) -> bool:
    """Whether gradients are added into lasting buffers: over micro-steps, or because a dtype is asked."""
    return training.accumulation > 1 or training.gradients is not None


def add_accumulation(graph: OperatorGraph, training: Training) -> OperatorGraph:
    """The graph with an addition behind every gradient's last writer; the buffers are there all along."""
    storages = list(graph.storages)
    last = {s: position for position, node in enumerate(graph.nodes) for s in node.writes}
    behind: dict[int, list[OpNode]] = {}
    fresh: set[int] = set()
    for index, made in enumerate(graph.storages):
        if made.role != GRADIENT or index not in last:
            continue
        writer = graph.nodes[last[index]]
        kept = replace(made, dtype=training.gradients or made.dtype, allocated_at=-1, last_used_at=writer.at)
        storages[index] = replace(made, role=ACTIVATION, name="", freed_at=writer.at, last_used_at=writer.at)
        fresh.add(index)
        operator = Operator(
            "pointwise", "aten.add_", (), (_spec(kept), _spec(storages[index])), (_spec(kept),)
        )
        buffer = len(storages)
        storages.append(kept)
        node = OpNode(operator, (buffer, index), (buffer,), writer.module, writer.at, ACCUMULATE)
        behind.setdefault(last[index], []).append(node)
    nodes = [
        step
        for position, node in enumerate(graph.nodes)
        for step in (_unmarked(node, fresh), *behind.get(position, ()))
    ]
    return replace(graph, nodes=tuple(nodes), storages=tuple(storages))


def _unmarked(node: OpNode, fresh: set[int]) -> OpNode:
    """The node with those of its operands as plain activations that a buffer takes up."""
    if fresh.isdisjoint((*node.reads, *node.writes)):
        return node

    def plain(specs: tuple[TensorSpec, ...], stored: tuple[int, ...]) -> tuple[TensorSpec, ...]:
        return tuple(
            replace(spec, role=ACTIVATION) if storage in fresh else spec
            for spec, storage in zip(specs, stored, strict=True)
        )

    one = node.operator
    made = replace(one, inputs=plain(one.inputs, node.reads), outputs=plain(one.outputs, node.writes))
    return replace(node, operator=made)


def _spec(storage: Storage) -> TensorSpec:
    return TensorSpec((storage.elements,), storage.dtype, storage.role, storage.elements)
