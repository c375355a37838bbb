"""Chooses how attention runs: one kernel without a score matrix, or products and softmax through memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from graphs.expressions import Expr, product
from graphs.ir import ACTIVATION, Operator, OperatorGraph, OpNode, Storage, TensorSpec

# operands before a mask: query, key, value; the gradient, these three, output and statistic
KINDS = {"attention": 3, "attention_backward": 6}


def apply_attention(graph: OperatorGraph, kernel: str) -> OperatorGraph:
    """Attention nodes as `kernel` runs them.

    `as_written` keeps what the model says: a call of scaled_dot_product_attention is one kernel that reads
    the mask it is given, matmul-softmax-matmul written out stays three ops. `math` writes the scores; all
    others never do, and a causal mask is free in them: the tensor that spelled it is not read, and ops that
    only made it disappear.
    """
    if kernel == "as_written" or all(node.operator.kind not in KINDS for node in graph.nodes):
        return graph
    if kernel == "math":
        return _written_out(graph)
    fused: dict[int, Operator] = {}
    nodes = []
    for node in graph.nodes:
        one = node.operator
        plain = KINDS.get(one.kind, 0)  # operands without a mask
        if plain and one.attribute("mask") == "causal" and len(one.inputs) > plain:
            if id(one) not in fused:
                fused[id(one)] = replace(one, inputs=one.inputs[:plain])
            node = replace(node, operator=fused[id(one)], reads=node.reads[:plain])
        nodes.append(node)
    return drop_unread(graph.with_nodes(tuple(nodes)), graph)


def drop_unread(graph: OperatorGraph, before: OperatorGraph) -> OperatorGraph:
    """Remove ops whose results nobody reads any more although somebody did in `before`."""
    read_before = {s for node in before.nodes for s in node.reads}
    nodes = graph.nodes
    while True:
        read = {s for node in nodes for s in node.reads}
        idle = {
            s
            for s in read_before - read
            if graph.storages[s].freed_at < before.length  # results of the model are read by its caller
        }
        kept = tuple(node for node in nodes if not node.writes or not idle.issuperset(node.writes))
        if len(kept) == len(nodes):
            return graph.with_nodes(kept)
        nodes = kept


def _written_out(graph: OperatorGraph) -> OperatorGraph:
    """Each attention node becomes scores GEMM, masking, softmax, dropout, values GEMM over stored matrices.

    In a training step softmax and dropout are kept for the backward node, which becomes four products with
    the derivatives of dropout and softmax between.
    """
    storages = list(graph.storages)
    steps = _Steps()
    kept: dict[int, _Kept] = {}  # by the statistic that a kernel without scores keeps in their place
    nodes: list[OpNode] = []
    for node in graph.nodes:
        if node.operator.kind == "attention":
            saved = _Kept.made(node, storages, node.writes[1:])
            kept.update(dict.fromkeys(node.writes[1:], saved))
            made = _forward(node, saved, steps, storages)
        elif node.operator.kind == "attention_backward":
            statistic = node.reads[5]
            if statistic not in kept:  # a backward pass without its forward
                kept[statistic] = _Kept.made(node, storages, (statistic,))
            made = _backward(node, kept[statistic], steps, storages)
        else:
            nodes.append(node)
            continue
        nodes += [
            replace(node, operator=operator, reads=reads, writes=writes) for operator, reads, writes in made
        ]
    return replace(graph, nodes=tuple(nodes), storages=tuple(storages))


_Step = tuple[Operator, tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class _Kept:
    """Score matrices of one attention: softmax, what multiplies the values, and which of it was dropped."""

    softmax: int
    weights: int
    dropped: int | None

    @classmethod
    def made(cls, node: OpNode, storages: list[Storage], statistic: Sequence[int]) -> _Kept:
        """New storages that live as long as the statistic would, or only for the node."""
        scores = _scores(node.operator)
        lives = (storages[s].allocated_at for s in statistic), (storages[s].freed_at for s in statistic)
        born, freed = (next(iter(times), node.at) for times in lives)
        matrix = Storage(scores.elements, scores.dtype, ACTIVATION, born, freed, freed)
        first = len(storages)
        storages.append(matrix)
        if not node.operator.attribute("dropout"):
            return cls(first, first, None)
        storages += [matrix, replace(matrix, dtype="bool")]
        return cls(first, first + 1, first + 2)


def _forward(node: OpNode, kept: _Kept, steps: _Steps, storages: list[Storage]) -> Iterator[_Step]:
    one = node.operator
    scores = _scores(one)
    raw = len(storages)
    storages.append(Storage(scores.elements, scores.dtype, ACTIVATION, node.at, node.at, node.at))
    q, k, v, *mask = node.reads
    yield steps.product(one, (one.inputs[0], one.inputs[1]), scores, "q_len kv_len head_dim"), (q, k), (raw,)
    if one.attribute("mask") != "none":
        yield (
            steps.one("pointwise", "aten.masked_fill", (scores, *one.inputs[3:]), (scores,)),
            (raw, *mask),
            (raw,),
        )
    yield steps.rows("softmax", "aten._softmax", one, (scores,)), (raw,), (kept.softmax,)
    if kept.dropped is not None:
        drops = replace(scores, dtype="bool")
        dropout = steps.one("pointwise", "aten.native_dropout", (scores,), (scores, drops))
        yield dropout, (kept.softmax,), (kept.weights, kept.dropped)
    product_ = steps.product(one, (scores, one.inputs[2]), one.outputs[0], "q_len value_dim kv_len")
    yield product_, (kept.weights, v), node.writes[:1]


def _backward(node: OpNode, kept: _Kept, steps: _Steps, storages: list[Storage]) -> Iterator[_Step]:
    """dV = P'dO; dP = dO V', dS through dropout and softmax; dQ = dS K and dK = dS'Q."""
    one = node.operator
    scores = _scores(one)
    out, query, key, value = one.inputs[:4]
    d_out, q, k, v = node.reads[:4]
    wanted = one.attribute("gradients").split()
    written = dict(zip(wanted, zip(one.outputs, node.writes, strict=True), strict=True))
    if "v" in written:
        spec, storage = written["v"]
        yield (
            steps.product(one, (scores, out), spec, "kv_len value_dim q_len"),
            (kept.weights, d_out),
            (storage,),
        )
    if not written.keys() - {"v"}:
        return
    slope, of_scores = len(storages), len(storages) + 1
    storages += [Storage(scores.elements, scores.dtype, ACTIVATION, node.at, node.at, node.at)] * 2
    yield steps.product(one, (out, value), scores, "q_len kv_len value_dim"), (d_out, v), (slope,)
    if kept.dropped is not None:
        drops = replace(scores, dtype="bool")
        undo = steps.one("pointwise", "aten.native_dropout_backward", (scores, drops), (scores,))
        yield undo, (slope, kept.dropped), (slope,)
    softmax = steps.rows("softmax_backward", "aten._softmax_backward_data", one, (scores, scores))
    yield softmax, (slope, kept.softmax), (of_scores,)
    if "mask" in written:
        spec, storage = written["mask"]
        cols = scores.elements / spec.elements
        added = steps.one("reduce", "aten.sum", (scores,), (spec,), (("rows", spec.elements), ("cols", cols)))
        yield added, (of_scores,), (storage,)
    for name, other, at, dims in (
        ("q", key, k, "q_len head_dim kv_len"), ("k", query, q, "kv_len head_dim q_len"),
    ):  # fmt: skip
        if name in written:
            spec, storage = written[name]
            yield steps.product(one, (scores, other), spec, dims), (of_scores, at), (storage,)


def _scores(one: Operator) -> TensorSpec:
    shape = tuple(one.dim(name) for name in ("batch", "heads", "q_len", "kv_len"))
    return TensorSpec(shape, one.inputs[0].dtype, ACTIVATION, product(shape))


class _Steps:
    """Makes operators; equal ones are the same object."""

    def __init__(self) -> None:
        self._known: dict[Operator, Operator] = {}

    def one(
        self,
        kind: str,
        name: str,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        dims: tuple[tuple[str, Expr], ...] = (),
    ) -> Operator:
        made = Operator(kind, name, dims, inputs, outputs)
        return self._known.setdefault(made, made)

    def product(
        self, one: Operator, inputs: tuple[TensorSpec, ...], result: TensorSpec, names: str
    ) -> Operator:
        """A product per head; `names` are those of its m, n and k."""
        sizes = [one.dim(name) for name in names.split()]
        dims = (("b", one.dim("batch") * one.dim("heads")), *zip("mnk", sizes, strict=True))
        return self.one("gemm", "aten.bmm", inputs, (result,), dims)

    def rows(self, kind: str, name: str, one: Operator, inputs: tuple[TensorSpec, ...]) -> Operator:
        """What runs along the keys of every query."""
        rows = one.dim("batch") * one.dim("heads") * one.dim("q_len")
        return self.one(kind, name, inputs, inputs[:1], (("rows", rows), ("cols", one.dim("kv_len"))))
