"""Splits a graph over the ranks of one axis: what one rank does, with exchanges where ranks need each other.

Every value is held whole, by features (each rank some heads or columns), by tokens, or as a partial sum. A
walk over the ops derives how each result is held from how its operands are; `sharding_rules` says how for
every kind of op. Linear layers that read a whole value are split by columns, those that read features by
rows, so that the layers of an attention or MLP block pair up; a partial sum is exchanged where an op first
needs it whole. A layer whose split would have to be undone at once (a router before its softmax) stays
whole: the walk then starts again with that known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from graphs.errors import GraphError
from graphs.expressions import Expr, number, product, total
from graphs.ir import (
    ACTIVATION,
    GRADIENT,
    INPUT,
    KV,
    OPTIMIZER_STEP,
    WEIGHT,
    Operator,
    OperatorGraph,
    OpNode,
    Storage,
    TensorSpec,
    module_template,
)
from graphs.work.collective import LAST_BACKWARD, NOTHING, exchange

MOST_WALKS = 64


@dataclass(frozen=True, slots=True)
class Held:
    """How a rank holds a value: `share` of it, by features `width` wide in all; `origin` are the weights that
    split it."""

    how: Literal["whole", "features", "tokens", "partial"]
    share: Fraction = Fraction(1)
    width: Expr | None = None
    origin: frozenset[int] = frozenset()


WHOLE, PARTIAL = Held("whole"), Held("partial")


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What one walk does: the axis and its ranks, whether weights are split, whether tokens are, and how."""

    axis: str
    ranks: int
    weights: bool
    tokens: bool  # values between layers are held by tokens
    attention: Literal["heads", "ring", "ulysses"] = "heads"


class Again(Exception):
    """The walk must start again: these weights are held with `share` of their features, or whole."""

    def __init__(self, weights: frozenset[int], share: Fraction) -> None:
        super().__init__()
        self.weights, self.share = weights, share


def shard(graph: OperatorGraph, split: Split) -> OperatorGraph:
    """The graph of one rank; all ranks of the axis have the same."""
    from graphs.passes.sharding_rules import apply

    if split.ranks == 1:
        return graph
    decided: dict[int, Fraction] = {}
    for _ in range(MOST_WALKS):
        walk = Walk(graph, split, decided)
        try:
            for node in graph.nodes:
                apply(walk, node)
        except Again as again:
            decided |= dict.fromkeys(_alike(graph, again.weights), again.share)
            continue
        return walk.finished()
    raise GraphError(f"{graph.model} cannot be split over {split.ranks} ranks: its layers keep undoing it")


def _alike(graph: OperatorGraph, weights: frozenset[int]) -> frozenset[int]:
    """These weights and those of the same place and size in other layers, of which the same will be found."""

    def kind(storage: Storage) -> tuple[str, str]:
        return module_template(storage.name), storage.elements.text

    kinds = {kind(graph.storages[at]) for at in weights if graph.storages[at].name}
    others = (at for at, one in enumerate(graph.storages) if one.role == WEIGHT and kind(one) in kinds)
    return weights.union(others)


class Walk:
    """State of one walk: how every storage is held so far, nodes and storages of the rank's graph."""

    def __init__(self, graph: OperatorGraph, split: Split, decided: dict[int, Fraction]) -> None:
        self.graph, self.split, self.decided = graph, split, decided
        self.even = Fraction(1, split.ranks)
        self.sides: dict[int, tuple[str, Fraction]] = {}  # weight -> split by its "in" or "out" features
        self.storages: list[Storage] = list(graph.storages)
        self.nodes: list[OpNode] = []
        self._held: dict[int, Held] = {}
        self._columns: dict[Expr, Held] = {}  # by width, values held by features
        named = {s.name: i for i, s in enumerate(graph.storages) if s.role == WEIGHT and s.name}
        self._weight_of = {
            i: named[s.name] for i, s in enumerate(graph.storages) if s.role == GRADIENT and s.name in named
        }
        self._moved: dict[int, int] = {}  # storage -> the one that holds its value now
        self._copies: dict[tuple[int, str, str], int] = {}
        self._shares: dict[int, Fraction] = {}
        self._operators: dict[tuple[object, ...], Operator] = {}
        self._exchanges: dict[tuple[object, ...], Operator] = {}

    def held(self, storage: int) -> Held:
        """How a storage is held; what nobody wrote is whole, but tokens and caches of a walk by tokens."""
        known = self._held.get(storage)
        if known is not None:
            return known
        role = self.graph.storages[storage].role
        ours = role == KV or (role == INPUT and self.graph.phase != "decode")
        if ours and self.split.tokens and not self.split.weights and self._has_tokens(storage):
            self.hold(storage, Held("tokens", self.even))
            return self._held[storage]
        return WHOLE

    def _has_tokens(self, storage: int) -> bool:
        return bool(self.graph.storages[storage].elements.symbols)

    def hold(self, storage: int, held: Held) -> None:
        """Say how a storage is held from now on; its size is that of the first time."""
        self._held[storage] = held
        self._shares.setdefault(storage, held.share)
        if held.how == "features" and held.width is not None:
            self._columns[held.width] = held

    def columns(self, spec: TensorSpec) -> Held | None:
        """How values as wide as this one are held by features, if any are."""
        return self._columns.get(spec.shape[-1]) if spec.shape else None

    def gradient_share(self, storage: int, share: Fraction) -> Fraction:
        """Share of a gradient: that of its weight, whatever made it."""
        weight = self._weight_of.get(storage)
        return share if weight is None else self.sides.get(weight, ("", Fraction(1)))[1]

    def weight_side(self, storage: int, side: str, share: Fraction) -> None:
        self.sides[storage] = (side, share)
        self._shares[storage] = share

    def now(self, storage: int) -> int:
        """The storage that holds the value of a storage of the whole graph."""
        return self._moved.get(storage, storage)

    def whole(self, node: OpNode, position: int) -> int:
        """Make operand `position` whole for this op, by an exchange where it is not; its storage."""
        storage, spec = node.reads[position], node.operator.inputs[position]
        held = self.held(storage)
        if held.how == "partial":
            self.resolve(node, storage)
            held = self.held(storage)
        if held.how == "whole":
            return self.now(storage)
        key = (storage, spec.elements.text, node.phase)
        if key not in self._copies:
            self._copies[key] = self._new(spec.elements, spec.dtype, node.at)
            self.exchange("all_gather", node, spec, (self.now(storage),), (self._copies[key],))
        copy = self._copies[key]
        self.storages[copy] = replace(self.storages[copy], last_used_at=node.at, freed_at=node.at)
        return copy

    def resolve(self, node: OpNode, storage: int) -> None:
        """Sum a partial value over the ranks; by tokens, each keeps the sum of its own."""
        one = self.graph.storages[storage]
        size = scaled(one.elements, self._shares.get(storage, Fraction(1)))
        spec = TensorSpec((size,), one.dtype, one.role, size)
        gradient = one.role == "gradient" or not size.symbols
        if not (self.split.tokens and self.split.weights) or gradient:
            at = self.now(storage)
            self.exchange("all_reduce", node, spec, (at,), (at,))
            self._held[storage] = WHOLE
            return
        kept = self._new(scaled(size, self.even), one.dtype, node.at, until=one.freed_at)
        self.exchange("reduce_scatter", node, spec, (self.now(storage),), (kept,))
        old = self.now(storage)
        self.storages[old] = replace(self.storages[old], last_used_at=node.at, freed_at=node.at)
        self._moved[storage] = kept
        self._held[storage] = Held("tokens", self.even)

    def _new(self, elements: Expr, dtype: str, at: int, until: int | None = None) -> int:
        last = at if until is None else until
        self.storages.append(Storage(elements, dtype, ACTIVATION, at, last, last))
        return len(self.storages) - 1

    def exchange(
        self,
        name: str,
        node: OpNode,
        spec: TensorSpec,
        reads: tuple[int, ...],
        writes: tuple[int, ...],
        behind: str = NOTHING,
        times: int = 1,
    ) -> None:
        """Put a collective before `node`."""
        key = (name, spec, behind, times, bool(writes))
        if key not in self._exchanges:
            self._exchanges[key] = exchange(
                name, self.split.axis, spec, behind=behind, times=times, writes=bool(writes)
            )
        self.nodes.append(OpNode(self._exchanges[key], reads, writes, node.module, node.at, node.phase))

    def put(
        self,
        node: OpNode,
        inputs: tuple[Fraction, ...],
        outputs: tuple[Fraction, ...],
        dims: dict[str, Expr] | None = None,
        reads: tuple[int, ...] | None = None,
    ) -> None:
        """Add `node` with these shares of its operands and changed dims."""
        changed = dims or {}
        outputs = tuple(map(self.gradient_share, node.writes, outputs))
        key = (id(node.operator), inputs, outputs, tuple(changed.items()))
        if key not in self._operators:
            self._operators[key] = _remade(node.operator, inputs, outputs, changed)
        operator = self._operators[key]
        at = tuple(map(self.now, node.reads)) if reads is None else reads
        self.nodes.append(
            replace(node, operator=operator, reads=at, writes=tuple(map(self.now, node.writes)))
        )

    def finished(self) -> OperatorGraph:
        """The rank's graph: what the model returns is made whole, unless it trains."""
        if self.graph.phase != "train" and self.graph.nodes:
            self._return_whole()
        if self.graph.phase == "train":
            self._sum_gradients()
        for gradient in self._weight_of:
            self._shares[gradient] = self.gradient_share(gradient, Fraction(1))
        for storage, share in self._shares.items():
            one = self.storages[storage]
            self.storages[storage] = replace(one, elements=scaled(one.elements, share))
        return replace(self.graph, nodes=tuple(self.nodes), storages=tuple(self.storages))

    def _sum_gradients(self) -> None:
        """One sum of all gradients to which every rank added its tokens, after the last micro-batch."""
        partial = [s for s in self._weight_of if self.held(s).how == "partial"]
        if not partial:
            return
        last = replace(self.graph.nodes[-1], phase=OPTIMIZER_STEP)
        elements = total(self.graph.storages[s].elements for s in partial)
        spec = TensorSpec((elements,), self.graph.storages[partial[0]].dtype, GRADIENT, elements)
        self.exchange("all_reduce", last, spec, (partial[0],), (), LAST_BACKWARD)

    def _return_whole(self) -> None:
        last = self.graph.nodes[-1]
        for storage, held in list(self._held.items()):
            one = self.graph.storages[storage]
            if one.role != ACTIVATION or one.freed_at < self.graph.length or held.how == "whole":
                continue
            spec = TensorSpec((one.elements,), one.dtype, one.role, one.elements)
            if held.how == "partial":
                self.exchange("all_reduce", last, spec, (self.now(storage),), (self.now(storage),))
                continue
            copy = self._new(one.elements, one.dtype, last.at, until=one.freed_at)
            self.exchange("all_gather", last, spec, (self.now(storage),), (copy,))


def scaled(expr: Expr, share: Fraction) -> Expr:
    """A share of an amount; exact where the amount's own number can be divided."""
    if share == 1:
        return expr
    parts = list(expr.args) if expr.op == "*" else [expr]
    for index, part in enumerate(parts):
        if part.value is not None and isinstance(part.value, int):
            made = part.value * share
            if made.denominator == 1:
                return product([*parts[:index], number(made.numerator), *parts[index + 1 :]])
    return expr * share.numerator / share.denominator if share.numerator != 1 else expr / share.denominator


def _remade(
    one: Operator, inputs: tuple[Fraction, ...], outputs: tuple[Fraction, ...], dims: dict[str, Expr]
) -> Operator:
    def shared(specs: tuple[TensorSpec, ...], shares: tuple[Fraction, ...]) -> tuple[TensorSpec, ...]:
        return tuple(
            spec if share == 1 else replace(spec, elements=scaled(spec.elements, share))
            for spec, share in zip(specs, shares, strict=True)
        )

    return replace(
        one,
        dims=tuple((name, dims.get(name, size)) for name, size in one.dims),
        inputs=shared(one.inputs, inputs),
        outputs=shared(one.outputs, outputs),
    )
