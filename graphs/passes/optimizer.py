"""The optimizer step of a training graph, made from its parameters: exact, and simpler than tracing it.

One fused kernel per repeated block (`layers.3`) and one for what stands outside, as multi-tensor optimizers
launch them: every state is read and written once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from graphs.expressions import Expr, total
from graphs.ir import (
    GRADIENT,
    OPTIMIZER,
    OPTIMIZER_STEP,
    WEIGHT,
    Operator,
    OperatorGraph,
    OpNode,
    Storage,
    TensorSpec,
)
from graphs.passes.blocks import block_of
from graphs.workload import Training, dtype_bits

# what each optimizer keeps per parameter beside it
STATES: Mapping[str, tuple[str, ...]] = {
    "adamw": ("first_moment", "second_moment"),
    "sgd": (),
    "sgd-momentum": ("momentum",),
}


@dataclass(frozen=True, slots=True)
class _Trained:
    """A parameter that has a gradient: name and storages."""

    name: str
    weight: int
    gradient: int


def add_optimizer(graph: OperatorGraph, training: Training) -> OperatorGraph:
    """The graph with the step behind it; parameters without a gradient have neither step nor state."""
    if training.optimizer == "none":
        return graph
    blocks: dict[str, list[_Trained]] = {}
    for one in trained(graph):
        blocks.setdefault(block_of(one.name), []).append(one)
    storages = list(graph.storages)
    nodes = list(graph.nodes)
    modules = {path: index for index, path in enumerate(graph.modules)}
    for block, members in blocks.items():
        at = graph.length + len(nodes) - len(graph.nodes)
        nodes.append(_step(members, training, storages, modules.get(block, 0), at))
    end = nodes[-1].at + 1 if nodes else 0
    lasting = [replace(s, freed_at=end) if s.freed_at >= graph.length else s for s in storages]
    return replace(graph, nodes=tuple(nodes), storages=tuple(lasting))


def trained(graph: OperatorGraph) -> Iterator[_Trained]:
    """Parameters with a gradient, in the order of the model."""
    gradients = {s.name: index for index, s in enumerate(graph.storages) if s.role == GRADIENT}
    for index, storage in enumerate(graph.storages):
        if storage.role == WEIGHT and storage.name in gradients:
            yield _Trained(storage.name, index, gradients[storage.name])


def _step(
    members: list[_Trained], training: Training, storages: list[Storage], module: int, at: int
) -> OpNode:
    reads: list[int] = []
    writes: list[int] = []
    for one in members:
        states = list(_states(storages[one.weight], training))
        first = len(storages)
        storages += states
        kept = list(range(first, len(storages)))
        has_master = any(s.name.endswith(".master") for s in states)
        reads += [one.gradient, *([] if has_master else [one.weight]), *kept]
        writes += [one.weight, *kept]
    elements: Expr = total(storages[one.weight].elements for one in members)
    operator = Operator(
        "optimizer",
        training.optimizer,
        (("elements", elements),),
        tuple(_spec(storages[index]) for index in reads),
        tuple(_spec(storages[index]) for index in writes),
    )
    return OpNode(operator, tuple(reads), tuple(writes), module, at, OPTIMIZER_STEP)


def _states(weight: Storage, training: Training) -> Iterator[Storage]:
    """What is kept of one parameter all along: the optimizer's own states, and a wider copy of the weight."""
    for name in STATES[training.optimizer]:
        yield _kept(weight, name, training.moments or "fp32")
    master = training.master or "fp32"
    if master != weight.dtype and dtype_bits(master) > dtype_bits(weight.dtype):
        yield _kept(weight, "master", master)


def _kept(weight: Storage, name: str, dtype: str) -> Storage:
    end = weight.freed_at
    return Storage(weight.elements, dtype, OPTIMIZER, -1, end, end, f"{weight.name}.{name}")


def _spec(storage: Storage) -> TensorSpec:
    return TensorSpec((storage.elements,), storage.dtype, storage.role, storage.elements)
