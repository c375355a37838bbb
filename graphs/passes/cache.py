"""The KV cache as torch grows it: `cat` copies the whole of it, where an engine writes behind it in place."""

from __future__ import annotations

from dataclasses import replace

from graphs.ir import Operator, OperatorGraph


def copy_cache(graph: OperatorGraph) -> OperatorGraph:
    """The graph with every append to a cache as a copy; storages stay, as the old cache is freed at once."""
    copies: dict[int, Operator] = {}
    for node in graph.nodes:
        one = node.operator
        if one.kind == "kv_append" and id(one) not in copies:
            copies[id(one)] = Operator("copy", one.name, (), one.inputs, one.outputs)
    nodes = (
        replace(node, operator=copies[id(node.operator)]) if id(node.operator) in copies else node
        for node in graph.nodes
    )
    return graph.with_nodes(tuple(nodes))
