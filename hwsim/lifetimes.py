"""From which op to which each value of a lowered graph is held in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from graphs.expressions import Environment
from graphs.ir import GRADIENT, KV, OFFLOADED, OPTIMIZER, WEIGHT, OperatorGraph
from graphs.workload import dtype_bits
from hwsim.engines.demand import Array

# held all along, on the device but for the last
RESIDENT_ROLES: Mapping[str, str] = {
    WEIGHT: "weights",
    "buffer": "weights",
    KV: "kv_cache",
    OPTIMIZER: "optimizer",
    OFFLOADED: "offloaded",
}


def lifetimes(graph: OperatorGraph) -> Iterator[tuple[int, int, int]]:
    """Storage, first op and last op (both included) of every value that is not held all along."""
    born: dict[int, int] = {}
    for node in graph.nodes:
        for written in node.writes:
            born.setdefault(written, node.at)
    used = {s for node in graph.nodes for s in (*node.reads, *node.writes)}
    for index, storage in enumerate(graph.storages):
        if storage.role in RESIDENT_ROLES:
            continue
        if index not in used and storage.allocated_at >= 0:
            continue  # a value that fusion keeps in registers, or a mask nobody builds any more
        start = max(0, min(born.get(index, storage.allocated_at), storage.allocated_at))
        yield index, start, min(max(storage.freed_at, start), graph.length)


def live_bytes(graph: OperatorGraph, sizes: Mapping[str, Array]) -> tuple[Array, Array]:
    """Bytes held at every node beside what is held all along, and of gradients in them; at a single point."""
    environment = Environment(sizes)
    change = np.zeros((2, graph.length + 2))
    for index, start, stop in lifetimes(graph):
        storage = graph.storages[index]
        held = float(environment(storage.elements)) * dtype_bits(storage.dtype) / 8
        parts = slice(1 + (storage.role == GRADIENT))
        change[parts, start] += held
        change[parts, stop + 1] -= held
    all_of_it, gradients = np.cumsum(change, axis=1)[:, [node.at for node in graph.nodes]]
    return all_of_it, gradients
