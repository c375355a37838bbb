"""What data ranks share: gradients summed over them, and with ZeRO states, gradients and weights dealt out.

Stage 0 sums gradients; 1 and 2 scatter the sums, each rank updates its share and gathers the weights; 3 holds
a share of the weights, too, and gathers each block before its forward and before its backward pass. A scatter
of gradients may hide behind the last backward pass, gathers of stage 3 behind the pass they serve.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

from graphs.expressions import total
from graphs.ir import (
    ACTIVATION,
    BACKWARD,
    FORWARD,
    GRADIENT,
    OPTIMIZER,
    OPTIMIZER_STEP,
    Operator,
    OperatorGraph,
    OpNode,
    Storage,
    TensorSpec,
)
from graphs.passes.blocks import block_of
from graphs.passes.optimizer import trained
from graphs.passes.sharding import scaled
from graphs.work.collective import LAST_BACKWARD, NOTHING, exchange


@dataclass(frozen=True, slots=True)
class _Block:
    """Weights and gradients that are exchanged as one."""

    weights: tuple[int, ...]
    gradients: tuple[int, ...]


def share_replicas(graph: OperatorGraph, ranks: int, zero: int) -> OperatorGraph:
    """A training step of one of `ranks` data ranks."""
    if ranks == 1:
        return graph
    blocks: dict[str, list[tuple[int, int]]] = {}
    for one in trained(graph):
        blocks.setdefault(block_of(one.name), []).append((one.weight, one.gradient))
    dealt = [_Block(*map(tuple, zip(*pairs, strict=True))) for pairs in blocks.values()]
    share = Fraction(1, ranks)
    nodes = list(graph.nodes)
    storages = list(graph.storages)
    steps = [index for index, node in enumerate(nodes) if node.phase == OPTIMIZER_STEP]
    split = steps[0] if steps else len(nodes)
    before, after = nodes[:split], nodes[split:]
    name = "reduce_scatter" if zero else "all_reduce"
    at = before[-1].at
    before += [_exchange(name, graph, one.gradients, at, OPTIMIZER_STEP, LAST_BACKWARD) for one in dealt]
    if zero:
        after = [_shared(node, share) for node in after]
        _deal(storages, OPTIMIZER, share)
    if zero in (1, 2) and after:
        at = after[-1].at
        after += [_exchange("all_gather", graph, one.weights, at, OPTIMIZER_STEP, NOTHING) for one in dealt]
    if zero >= 2:
        _deal(storages, GRADIENT, share)
    if zero == 3:
        before = _gathered(graph, before, dealt, storages, share)
    return replace(graph, nodes=tuple(before + after), storages=tuple(storages))


def _deal(storages: list[Storage], role: str, share: Fraction) -> None:
    for index, one in enumerate(storages):
        if one.role == role:
            storages[index] = replace(one, elements=scaled(one.elements, share))


def _spec(graph: OperatorGraph, members: Iterable[int]) -> TensorSpec:
    chosen = [graph.storages[index] for index in members]
    elements = total(one.elements for one in chosen)
    return TensorSpec((elements,), chosen[0].dtype, chosen[0].role, elements)


def _exchange(
    name: str, graph: OperatorGraph, members: tuple[int, ...], at: int, phase: str, behind: str
) -> OpNode:
    spec = _spec(graph, members)
    operator = exchange(name, "dp", spec, behind=behind, writes=False)
    return OpNode(operator, members[:1], (), 0, at, phase)


def _shared(node: OpNode, share: Fraction) -> OpNode:
    """An optimizer step on a share of everything."""
    one = node.operator

    def cut(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(replace(spec, elements=scaled(spec.elements, share)) for spec in specs)

    dims = tuple((name, scaled(size, share)) for name, size in one.dims)
    made: Operator = replace(one, dims=dims, inputs=cut(one.inputs), outputs=cut(one.outputs))
    return replace(node, operator=made)


def _gathered(
    graph: OperatorGraph,
    nodes: list[OpNode],
    blocks: list[_Block],
    storages: list[Storage],
    share: Fraction,
) -> list[OpNode]:
    """Each block gathered before the first op of a pass that reads it, and given up after the last."""
    block_with = {weight: index for index, one in enumerate(blocks) for weight in one.weights}
    last: dict[tuple[int, str], int] = {}
    for node in nodes:
        for storage in node.reads:
            if storage in block_with:
                last[block_with[storage], node.phase] = node.at
    made: list[OpNode] = []
    done: set[tuple[int, str]] = set()
    for node in nodes:
        for storage in node.reads:
            key = (block_with.get(storage, -1), node.phase)
            if key[0] < 0 or key in done or node.phase == OPTIMIZER_STEP:
                continue
            done.add(key)
            members = blocks[key[0]].weights
            behind = node.phase if node.phase in (FORWARD, BACKWARD) else BACKWARD
            made.append(_exchange("all_gather", graph, members, node.at, node.phase, behind))
            spec = _spec(graph, members)
            copy = Storage(spec.elements, spec.dtype, ACTIVATION, node.at, last[key], last[key])
            storages.append(copy)
            gathered = replace(made[-1].operator, outputs=(spec,))
            made[-1] = replace(made[-1], operator=gathered, writes=(len(storages) - 1,))
        made.append(node)
    for weight in block_with:
        storages[weight] = replace(storages[weight], elements=scaled(storages[weight].elements, share))
    return made
