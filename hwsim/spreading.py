"""From a model's graph to the graphs of its ranks: experts, tokens, heads and columns, then stages."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from graphs.ir import OperatorGraph
from graphs.parallel import Parallel
from graphs.passes.experts import deal_experts
from graphs.passes.sharding import Split, shard
from graphs.passes.stages import Stage, stages

_CACHE: OrderedDict[tuple[int, Parallel], tuple[OperatorGraph, tuple[Stage, ...]]] = OrderedDict()
_CACHED = 32
_LOCK = Lock()


def spread(graph: OperatorGraph, parallel: Parallel) -> tuple[Stage, ...]:
    """The distinct graphs of ranks, each with how many stages of the pipeline have it.

    All tensor, sequence, expert and data ranks of a stage do the same.
    """
    if parallel.devices == 1:
        return (Stage(graph, 1),)
    key = (id(graph), parallel)
    with _LOCK:
        if key in _CACHE:
            _CACHE.move_to_end(key)
            return _CACHE[key][1]
    copies = 1 if parallel.sequence == "megatron" and parallel.sp > 1 else parallel.tp
    found = stages(_ranked(graph, parallel), parallel.pp, parallel.interleave, copies)
    with _LOCK:
        _CACHE[key] = (graph, found)
        while len(_CACHE) > _CACHED:
            _CACHE.popitem(last=False)
    return found


def _ranked(graph: OperatorGraph, parallel: Parallel) -> OperatorGraph:
    if parallel.ep > 1:
        graph = deal_experts(graph, parallel.ep, parallel.imbalance)
    if parallel.own_sp > 1:
        split = Split(
            axis="sp", ranks=parallel.sp, weights=False, tokens=True,
            attention="ulysses" if parallel.sequence == "ulysses" else "ring",
        )  # fmt: skip
        graph = shard(graph, split)
    tokens = parallel.sequence == "megatron" and parallel.sp > 1
    return shard(graph, Split(axis="tp", ranks=parallel.tp, weights=True, tokens=tokens))
