"""Deals the experts of a mixture over ranks: each has its own tokens and some experts; tokens travel to
them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from graphs.errors import GraphError
from graphs.expressions import Expr, substitute, symbol
from graphs.ir import WEIGHT, Operator, OperatorGraph, OpNode, SizeSymbol, TensorSpec
from graphs.passes.sharding import scaled
from graphs.work.collective import exchange


def deal_experts(graph: OperatorGraph, ranks: int, imbalance: float = 1.0) -> OperatorGraph:
    """The graph of one rank; sizes that count experts and their tokens are those of all ranks together.

    Experts that see tokens, and what is routed to them, divide evenly; the busiest rank has `imbalance` times
    the mean. Routing itself stays with the tokens. Two exchanges a layer: tokens out to their experts and
    back.
    """
    if ranks == 1:
        return graph
    counts, loads = _expert_symbols(graph)
    _check(graph, ranks)
    deal = _Deal(graph, counts, loads, ranks, imbalance)
    for node in graph.nodes:
        deal.add(node)
    share = Fraction(1, ranks)
    weights = {s for n in graph.nodes if n.operator.kind == "grouped_gemm" for s in n.reads}
    storages = tuple(
        replace(one, elements=scaled(one.elements, share))
        if (index in weights and one.role == WEIGHT) or one.elements.symbols & counts
        else one
        for index, one in enumerate(graph.storages)
    )
    return replace(graph, nodes=tuple(deal.nodes), storages=storages, symbols=_together(graph, counts, ranks))


def _expert_symbols(graph: OperatorGraph) -> tuple[frozenset[str], frozenset[str]]:
    """Sizes that count experts at work, and tokens of one of them."""
    grouped = [n.operator for n in graph.nodes if n.operator.kind == "grouped_gemm"]
    if not grouped:
        raise GraphError(f"{graph.model} has no experts to deal; ep is 1 for it")
    counts = frozenset(s for one in grouped for s in one.dim("b").symbols)
    return counts, frozenset(s for one in grouped for s in one.dim("m").symbols) - counts


def _check(graph: OperatorGraph, ranks: int) -> None:
    for node in graph.nodes:
        if node.operator.kind == "grouped_gemm":
            experts = node.operator.inputs[1].shape[0].value
            if isinstance(experts, int) and experts % ranks:
                possible = ", ".join(str(r) for r in range(1, experts + 1) if experts % r == 0)
                raise GraphError(
                    f"ep={ranks} does not divide the {experts} experts of {graph.model}; "
                    f"take one of {possible}"
                )


def _together(graph: OperatorGraph, counts: frozenset[str], ranks: int) -> tuple[SizeSymbol, ...]:
    """Defaults of the expert sizes follow from the batches of all ranks."""
    if graph.symbol("batch") is None:
        return graph.symbols
    names = counts | _expert_symbols(graph)[1]
    all_ranks = {"batch": symbol("batch") * ranks}
    return tuple(
        replace(one, default=substitute(one.default, all_ranks)) if one.name in names else one
        for one in graph.symbols
    )


class _Deal:
    """Nodes of one rank so far."""

    def __init__(
        self,
        graph: OperatorGraph,
        counts: frozenset[str],
        loads: frozenset[str],
        ranks: int,
        imbalance: float,
    ) -> None:
        self.graph, self.counts, self.loads = graph, counts, loads
        self.share, self.imbalance = Fraction(1, ranks), imbalance
        self.nodes: list[OpNode] = []
        self._known: dict[int, Operator] = {}
        self._sent: set[int] = set()
        self._exchanges: dict[TensorSpec, Operator] = {}
        self._of_experts: set[int] = set()

    def add(self, node: OpNode) -> None:
        one = node.operator
        if one.kind == "grouped_gemm":
            if node.reads[0] not in self._of_experts and node.reads[0] not in self._sent:
                self._send(node, 0)
            self._of_experts.update(node.writes)
        elif self._of_experts.intersection(node.reads):
            if one.kind in ("scatter", "gather"):  # back to where the tokens live
                self._send(node, next(i for i, s in enumerate(node.reads) if s in self._of_experts))
            else:
                self._of_experts.update(node.writes)
        if id(one) not in self._known:
            self._known[id(one)] = self._dealt(one)
        self.nodes.append(replace(node, operator=self._known[id(one)]))

    def _send(self, node: OpNode, position: int) -> None:
        storage, spec = node.reads[position], self._spec(node.operator.inputs[position])
        self._sent.add(storage)
        if spec not in self._exchanges:
            self._exchanges[spec] = exchange("all_to_all", "ep", spec)
        where = (storage,)
        self.nodes.append(OpNode(self._exchanges[spec], where, where, node.module, node.at, node.phase))

    def _dealt(self, one: Operator) -> Operator:
        dims = tuple((name, self._size(size, one.kind == "grouped_gemm")) for name, size in one.dims)
        inputs = tuple(
            replace(spec, elements=scaled(spec.elements, self.share))
            if one.kind == "grouped_gemm" and spec.role == WEIGHT
            else self._spec(spec)
            for spec in one.inputs
        )
        return replace(one, dims=dims, inputs=inputs, outputs=tuple(map(self._spec, one.outputs)))

    def _size(self, size: Expr, product: bool) -> Expr:
        if size.symbols & self.counts:
            return scaled(size, self.share)
        return size * self.imbalance if product and size.symbols & self.loads else size

    def _spec(self, spec: TensorSpec) -> TensorSpec:
        if not spec.elements.symbols & self.counts:
            return spec
        return replace(spec, elements=scaled(spec.elements, self.share))
