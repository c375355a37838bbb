"""Re-types a graph: floating tensors of the model's own dtype take the dtype of their role."""

from __future__ import annotations

from dataclasses import replace

from graphs.ir import FLOAT_DTYPES, GRADIENT, KV, WEIGHT, Operator, OperatorGraph, TensorSpec
from graphs.workload import Precision


def apply_precision(graph: OperatorGraph, precision: Precision) -> OperatorGraph:
    """The graph with activations, weights and KV cache in the asked dtypes; gradients are as wide as weights.

    Only tensors of the model's own dtype change: what the model computes in float32 on purpose stays so,
    unless the model itself is float32. Integer tensors and masks never change. Sizes and FLOPs do not change.
    """
    own = graph.dtype
    activations = precision.activations or own
    weights = precision.weights or activations
    by_role = {WEIGHT: weights, KV: precision.kv or activations}
    by_role[GRADIENT] = weights if weights in FLOAT_DTYPES else activations
    if activations == own and all(dtype == own for dtype in by_role.values()):
        return graph

    def dtype_of(dtype: str, role: str) -> str:
        return by_role.get(role, activations) if dtype == own and dtype in FLOAT_DTYPES else dtype

    specs: dict[int, TensorSpec] = {}

    def spec(one: TensorSpec) -> TensorSpec:
        made = specs.get(id(one))
        if made is None:
            made = specs[id(one)] = replace(one, dtype=dtype_of(one.dtype, one.role))
        return made

    operators: dict[int, Operator] = {}
    for node in graph.nodes:
        one = node.operator
        if id(one) not in operators:
            inputs, outputs = tuple(map(spec, one.inputs)), tuple(map(spec, one.outputs))
            operators[id(one)] = replace(one, inputs=inputs, outputs=outputs)
    nodes = tuple(replace(node, operator=operators[id(node.operator)]) for node in graph.nodes)
    storages = tuple(replace(s, dtype=dtype_of(s.dtype, s.role)) for s in graph.storages)
    return replace(graph, dtype=activations, nodes=nodes, storages=storages)
