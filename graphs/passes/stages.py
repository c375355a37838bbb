"""Cuts a graph into the stages of a pipeline: runs of layers, what crosses a cut is sent."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from graphs.errors import GraphError
from graphs.expressions import number
from graphs.ir import ACTIVATION, OperatorGraph, OpNode, Storage, TensorSpec
from graphs.passes.sharding import scaled
from graphs.work.collective import exchange

_LAYER = re.compile(r"^(?P<list>(?:.*?\.)?)(?P<index>\d+)(?=\.|$)")


@dataclass(frozen=True, slots=True)
class Stage:
    """The graph of one or several equal stages."""

    graph: OperatorGraph
    count: int
    place: int = 0  # of the first of them


def stages(graph: OperatorGraph, ranks: int, interleave: int = 1, copies: int = 1) -> tuple[Stage, ...]:
    """Distinct stages in order of first appearance; the stages of a model are few kinds.

    Layers are dealt evenly, in `interleave` chunks to a stage; what precedes the first layer goes with it,
    what follows the last with that. Where `copies` tensor ranks hold the same values, each sends its share
    and they gather the rest among themselves (scatter and gather, Narayanan et al., arXiv:2104.04473).
    """
    if ranks == 1:
        return (Stage(graph, 1),)
    layer_of = _layers(graph)
    layers = max(layer_of, default=-1) + 1
    if layers < ranks * interleave:
        raise GraphError(
            f"pp={ranks}" + (f" with interleave={interleave}" if interleave > 1 else "") + f" needs "
            f"{ranks * interleave} layers; {graph.model} has {layers}; take fewer stages"
        )
    chunks = ranks * interleave
    stage_of = [min(chunks - 1, layer * chunks // layers) % ranks for layer in layer_of]
    outside = [_layer_name(graph.modules[node.module]) is None for node in graph.nodes]
    found: dict[tuple[object, ...], Stage] = {}
    for stage in range(ranks):
        one = _stage(graph, stage, stage_of, outside, copies)
        key = (tuple(id(n.operator) for n in one.nodes), _resident(one))
        known = found.get(key)
        found[key] = Stage(known.graph, known.count + 1, known.place) if known else Stage(one, 1, stage)
    return tuple(found.values())


def _layer_name(path: str) -> str | None:
    """The layer a module belongs to: the first numbered part of its path and all before it."""
    match = _LAYER.match(path)
    return None if match is None else match["list"] + match["index"]


def _layers(graph: OperatorGraph) -> list[int]:
    """Number of the layer each node belongs to, in order of first forward run."""
    order: dict[str, int] = {}
    names = [_layer_name(path) for path in graph.modules]
    for node in graph.nodes:
        name = names[node.module]
        if name is not None and node.phase == "forward":
            order.setdefault(name, len(order))
    found: list[int] = []
    upcoming: list[int] = []
    last = 0
    for node in graph.nodes:
        name = names[node.module]
        if name is not None and name in order:
            last = order[name]
            found += [last] * (len(upcoming) + 1)
            upcoming = []
        elif not found or (node.phase == "forward" and last < len(order) - 1):
            upcoming.append(1)  # goes with the layer that follows
        else:
            found.append(last)
    return found + [last] * len(upcoming)


def _stage(
    graph: OperatorGraph, stage: int, stage_of: list[int], outside: list[bool], copies: int
) -> OperatorGraph:
    nodes: list[OpNode] = []
    writer: dict[int, int] = {}  # storage -> node that wrote it last
    arrived: set[int] = set()
    used: set[int] = set()
    sends: dict[TensorSpec, tuple[OpNode, ...]] = {}
    for index, node in enumerate(graph.nodes):
        if stage_of[index] == stage:
            for storage, spec in zip(node.reads, node.operator.inputs, strict=True):
                source = writer.get(storage)
                crosses = source is not None and stage_of[source] != stage and not outside[source]
                if crosses and storage not in arrived and graph.storages[storage].role == ACTIVATION:
                    arrived.add(storage)
                    nodes += _arrival(graph, node, storage, spec, copies, sends)
            nodes.append(node)
            used.update((*node.reads, *node.writes))
        for storage in node.writes:
            writer[storage] = index
            arrived.discard(storage)
    storages = tuple(one if index in used else _elsewhere(one) for index, one in enumerate(graph.storages))
    return replace(graph, nodes=tuple(nodes), storages=storages)


def _elsewhere(one: Storage) -> Storage:
    """A value of other stages: nothing here."""
    return replace(one, elements=number(0), name="", allocated_at=-1, last_used_at=-1, freed_at=-1)


def _arrival(
    graph: OperatorGraph,
    node: OpNode,
    storage: int,
    spec: TensorSpec,
    copies: int,
    sends: dict[TensorSpec, tuple[OpNode, ...]],
) -> list[OpNode]:
    """What another stage made and this one reads."""
    one = graph.storages[storage]
    whole = TensorSpec(spec.shape, one.dtype, one.role, one.elements)
    if whole not in sends:
        sent = replace(whole, elements=scaled(whole.elements, Fraction(1, copies)))
        exchanges = [exchange("send", "pp", sent)]
        if copies > 1:
            exchanges.append(exchange("all_gather", "tp", whole))
        where = (storage,)
        sends[whole] = tuple(OpNode(e, where, where, node.module, node.at, node.phase) for e in exchanges)
    return [replace(known, reads=(storage,), writes=(storage,), module=node.module, at=node.at,
                    phase=node.phase) for known in sends[whole]]  # fmt: skip


def _resident(graph: OperatorGraph) -> tuple[str, ...]:
    """Sizes of what stays in memory, as one key of equal stages."""
    return tuple(
        sorted(f"{s.role} {s.dtype} {s.elements.text}" for s in graph.storages if s.allocated_at < 0)
    )
