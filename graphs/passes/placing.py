"""Deals operators to a device and the host CPU behind it: what the device cannot run, and the border between.

Operators of other kinds than those accelerated run on the host, in the host's dtype. A value is carried over
once after it was made, to whoever reads it on the other side: converted on the host where the dtypes differ,
and sent over the axis `border` of links. What comes into the model is on the host, and so must be what it
gives. Weights lie where they are used, a KV cache with the attention that reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from graphs.ir import (
    ACTIVATION,
    DEVICE,
    GRADIENT,
    HOST,
    INPUT,
    WEIGHT,
    Operator,
    OperatorGraph,
    OpNode,
    TensorSpec,
)  # fmt: skip
from graphs.work.border import conversion
from graphs.work.collective import exchange

CROSSING = (ACTIVATION, INPUT, GRADIENT)
AXIS = "border"  # of links between the two sides
OF_SECOND = ":"  # `gemm:weight` is a product whose second operand is a weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Border:
    """What a device runs (kinds, kinds by the role of their second operand, or names of ops), the host's
    dtype for what the device computes in its own, and whether values are sent to cross."""

    accelerated: frozenset[str]
    dtype: str
    sends: bool = True

    def runs(self, one: Operator) -> bool:
        """Whether the device has this operator."""
        words = {one.kind, one.name.rpartition(".")[2].strip("_")}
        if len(one.inputs) > 1:
            words.add(f"{one.kind}{OF_SECOND}{one.inputs[1].role}")
        return not self.accelerated.isdisjoint(words)

    def kernel(self, attention_kernel: str) -> str:
        """How attention runs: written out where the device has its products and not the whole."""
        whole = "attention" in self.accelerated or "gemm" not in self.accelerated
        return attention_kernel if whole else "math"


def place(graph: OperatorGraph, border: Border) -> OperatorGraph:
    """The graph with a place for every node, and conversions and transfers where values cross."""
    places = _places(graph, border)
    walk = _Walk(graph, border)
    for node, where in zip(graph.nodes, places, strict=True):
        walk.add(node, where)
    return graph.with_nodes((*walk.nodes, *walk.results()))


def _places(graph: OperatorGraph, border: Border) -> list[str]:
    """Place of every node; what fills a cache stands with what reads it next."""
    places = [DEVICE if border.runs(node.operator) else HOST for node in graph.nodes]
    reader: dict[int, str] = {}
    for index in range(len(places) - 1, -1, -1):
        node = graph.nodes[index]
        if node.operator.kind == "kv_append":
            places[index] = next((reader[s] for s in node.writes if s in reader), places[index])
        elif node.operator.kind == "collective":
            places[index] = DEVICE
        else:
            reader.update(dict.fromkeys(node.reads, places[index]))
    return places


class _Walk:
    """Nodes so far, and on which sides the newest value of every storage is."""

    def __init__(self, graph: OperatorGraph, border: Border) -> None:
        self._graph, self._border = graph, border
        self._sides: dict[int, frozenset[str]] = {}
        self._operators: dict[int, Operator] = {}
        self._made: dict[Operator, Operator] = {}
        self._last: OpNode | None = None
        self.nodes: list[OpNode] = []

    def add(self, node: OpNode, place: str) -> None:
        """The node in its place, behind what carries its operands there."""
        for storage, spec in zip(node.reads, node.operator.inputs, strict=True):
            if self._crosses(storage, place):
                self.nodes += self._carried(storage, spec, node, place)
        operator = node.operator if place == DEVICE else self._on_host(node.operator)
        self._last = replace(node, operator=operator, place=place)
        self.nodes.append(self._last)
        for storage in node.writes:
            self._sides[storage] = frozenset((place,))

    def results(self) -> Iterator[OpNode]:
        """What carries results of the model to the host at the end."""
        if self._last is None:
            return
        for storage, one in enumerate(self._graph.storages):
            given = one.role == ACTIVATION and one.freed_at >= self._graph.length
            if given and self._sides.get(storage) == frozenset((DEVICE,)):
                spec = TensorSpec((one.elements,), one.dtype, one.role, one.elements)
                yield from self._carried(storage, spec, self._last, HOST)

    def _crosses(self, storage: int, place: str) -> bool:
        role = self._graph.storages[storage].role
        if role not in CROSSING:
            return False
        return place not in self._sides.get(storage, {HOST} if role == INPUT else {place})

    def _carried(self, storage: int, spec: TensorSpec, node: OpNode, place: str) -> Iterator[OpNode]:
        """Conversion on the host and transfer in the device's dtype; whole storages, as readers follow."""
        self._sides[storage] = self._sides.get(storage, frozenset((HOST,))) | {place}
        whole = self._graph.storages[storage].elements
        device = TensorSpec((whole,), spec.dtype, spec.role, whole)
        host = self._typed(device)
        steps = [(exchange("send", AXIS, device), DEVICE)] if self._border.sends else []
        if host.dtype != device.dtype:
            steps.append((conversion(device, host) if place == HOST else conversion(host, device), HOST))
        for operator, side in steps if place == HOST else reversed(steps):
            known = self._made.setdefault(operator, operator)
            yield OpNode(known, (storage,), (storage,), node.module, node.at, node.phase, side)

    def _on_host(self, one: Operator) -> Operator:
        """The operator in the host's dtype."""
        if id(one) not in self._operators:
            inputs, outputs = (tuple(map(self._typed, specs)) for specs in (one.inputs, one.outputs))
            self._operators[id(one)] = replace(one, inputs=inputs, outputs=outputs)
        return self._operators[id(one)]

    def _typed(self, spec: TensorSpec) -> TensorSpec:
        """A tensor of the model's dtype in that of the host; what is stored in a format of its own stays."""
        own = spec.dtype == self._graph.dtype and spec.role in (*CROSSING, WEIGHT)
        return replace(spec, dtype=self._border.dtype) if own else spec
