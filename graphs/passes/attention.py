"""Chooses how attention runs: one kernel without a score matrix, or products and softmax through memory."""

from __future__ import annotations

from dataclasses import replace

from graphs.expressions import product
from graphs.ir import ACTIVATION, Operator, OperatorGraph, OpNode, Storage, TensorSpec


def apply_attention(graph: OperatorGraph, kernel: str) -> OperatorGraph:
    """Attention nodes as `kernel` runs them.

    `as_written` keeps what the model says: a call of scaled_dot_product_attention is one kernel that reads
    the mask it is given, matmul-softmax-matmul written out stays three ops. `math` writes the scores; all
    others never do, and a causal mask is free in them: the tensor that spelled it is not read, and ops that
    only made it disappear.
    """
    if kernel == "as_written" or all(node.operator.kind != "attention" for node in graph.nodes):
        return graph
    if kernel == "math":
        return _written_out(graph)
    fused: dict[int, Operator] = {}
    nodes = []
    for node in graph.nodes:
        one = node.operator
        if one.kind == "attention" and one.attribute("mask") == "causal" and len(one.inputs) > 3:
            if id(one) not in fused:
                fused[id(one)] = replace(one, inputs=one.inputs[:3])
            node = replace(node, operator=fused[id(one)], reads=node.reads[:3])
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
    """Each attention node becomes scores GEMM, masking, softmax, values GEMM over stored score matrices."""
    storages = list(graph.storages)
    parts: dict[int, tuple[Operator, ...]] = {}
    nodes: list[OpNode] = []
    for node in graph.nodes:
        if node.operator.kind != "attention":
            nodes.append(node)
            continue
        if id(node.operator) not in parts:
            parts[id(node.operator)] = _math_operators(node.operator)
        operators = parts[id(node.operator)]
        scores = operators[0].outputs[0]
        raw, weights = len(storages), len(storages) + 1
        storages += [Storage(scores.elements, scores.dtype, ACTIVATION, node.at, node.at, node.at)] * 2
        q, k, v, *mask = node.reads
        reads = (
            [(q, k), (raw, *mask), (raw,), (weights, v)]
            if len(operators) == 4
            else [(q, k), (raw,), (weights, v)]
        )
        writes = (
            [(raw,), (raw,), (weights,), node.writes]
            if len(operators) == 4
            else [(raw,), (weights,), node.writes]
        )
        for operator, read, write in zip(operators, reads, writes, strict=True):
            nodes.append(replace(node, operator=operator, reads=read[: len(operator.inputs)], writes=write))
    return replace(graph, nodes=tuple(nodes), storages=tuple(storages))


def _math_operators(one: Operator) -> tuple[Operator, ...]:
    batch, heads, q_len, kv_len = (one.dim(n) for n in ("batch", "heads", "q_len", "kv_len"))
    query, key, value = one.inputs[:3]
    out = one.outputs[0]
    shape = (batch, heads, q_len, kv_len)
    scores = TensorSpec(shape, query.dtype, ACTIVATION, product(shape))

    def gemm(left: TensorSpec, right: TensorSpec, result: TensorSpec, n: str, k: str) -> Operator:
        dims = (("b", batch * heads), ("m", q_len), ("n", one.dim(n)), ("k", one.dim(k)))
        return Operator("gemm", "aten.bmm", dims, (left, right), (result,))

    steps = [gemm(query, key, scores, "kv_len", "head_dim")]
    if one.attribute("mask") != "none":
        inputs = (scores, *one.inputs[3:])
        steps.append(Operator("pointwise", "aten.masked_fill", (), inputs, (scores,)))
    softmax_dims = (("rows", batch * heads * q_len), ("cols", kv_len))
    steps.append(Operator("softmax", "aten._softmax", softmax_dims, (scores,), (scores,)))
    steps.append(gemm(scores, value, out, "value_dim", "kv_len"))
    return tuple(steps)
