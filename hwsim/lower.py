"""Joins graph, workload and stack: runs the stack's passes, turns the op list into an `OpTable`. Cached."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from devices import Stack
from graphs.expressions import Expr
from graphs.ir import ACCUMULATE, BACKWARD, FORWARD, GRADIENT, KV, RECOMPUTE, WEIGHT, Operator, OperatorGraph
from graphs.parallel import ONE, Parallel
from graphs.passes.accumulation import accumulates, add_accumulation
from graphs.passes.attention import apply_attention
from graphs.passes.cache import copy_cache
from graphs.passes.checkpointing import checkpoint
from graphs.passes.fusion import fuse
from graphs.passes.offloading import offload
from graphs.passes.optimizer import add_optimizer
from graphs.passes.placing import Border, place
from graphs.passes.precision import apply_precision
from graphs.passes.replicas import share_replicas
from graphs.work import Work, work_of
from graphs.workload import Precision, Training, dtype_bits
from hwsim.errors import HwsimError
from hwsim.lifetimes import RESIDENT_ROLES, lifetimes
from hwsim.optable import NEVER, LinearForms, OpTable, Row

PASSES: dict[str, Callable[[OperatorGraph], OperatorGraph]] = {
    "fusion": fuse,
    "copied_cache": copy_cache,
    "pointwise_fusion": lambda graph: fuse(graph, epilogue=False),
}
_Key = tuple[int, Precision, Training | None, Parallel, float, str, tuple[str, ...], bool, Border | None]
_CACHE: OrderedDict[_Key, tuple[OperatorGraph, OpTable]] = OrderedDict()
_CACHED = 64
_LOCK = Lock()


def lower(
    graph: OperatorGraph,
    precision: Precision,
    stack: Stack,
    *,
    training: Training | None = None,
    parallel: Parallel = ONE,
    in_flight: float = 1.0,
    warm: bool = False,
    border: Border | None = None,
) -> OpTable:
    """The `OpTable` of `graph` under `stack` in `precision`; `warm`: run again and again on the same data.

    A graph of phase `train` becomes the whole step that `training` says. `graph` is that of one rank of
    `parallel` (see `hwsim.spreading`), whose data ranks and micro-batches are added here; `in_flight`
    micro-batches keep what their backward pass needs at a time. What stands beyond the `border` of the device
    runs on its host.
    """
    kernel = stack.attention_kernel if border is None else border.kernel(stack.attention_kernel)
    key = (id(graph), precision, training, parallel, in_flight, kernel, stack.passes, warm, border)
    with _LOCK:
        if key in _CACHE:
            _CACHE.move_to_end(key)
            return _CACHE[key][1]
    passed = apply_attention(apply_precision(graph, precision), kernel)
    repeats = {FORWARD: parallel.micro_batches} if parallel.micro_batches > 1 else {}
    if training is not None:
        passed, repeats = _training_step(passed, training)
        passed = share_replicas(passed, parallel.dp, parallel.zero)
    if border is not None:
        passed = place(passed, border)
    for name in stack.passes:
        if name not in PASSES:
            raise HwsimError(f"stack '{stack.id}' names pass {name!r}; passes are {', '.join(PASSES)}")
        passed = PASSES[name](passed)
    passed = offload(passed, parallel.offloaded)
    table = build_table(passed, warm=warm, repeats=repeats, in_flight=in_flight)
    with _LOCK:
        _CACHE[key] = (graph, table)
        while len(_CACHE) > _CACHED:
            _CACHE.popitem(last=False)
    return table


def _training_step(graph: OperatorGraph, training: Training) -> tuple[OperatorGraph, dict[str, int]]:
    """The whole step, and how often each of its phases runs; the first micro-step has nothing to add to."""
    micro = training.accumulation
    repeats = {FORWARD: micro, RECOMPUTE: micro, BACKWARD: micro}
    graph = checkpoint(graph, training.checkpointing)
    if accumulates(training):
        repeats[ACCUMULATE] = micro if training.gradients else micro - 1
        graph = add_accumulation(graph, training)
    return add_optimizer(graph, training), repeats


def build_table(
    graph: OperatorGraph,
    *,
    warm: bool = False,
    repeats: Mapping[str, int] | None = None,
    in_flight: float = 1.0,
) -> OpTable:
    """Rows, reuse distances and live sets of a graph whose passes are done."""
    sizes = _Sizes()
    operators = list({id(node.operator): node.operator for node in graph.nodes}.values())
    works = {id(operator): work_of(operator) for operator in operators}
    traffic = {id(o): _Traffic(o, works[id(o)], sizes) for o in operators}
    storage_sizes = [(sizes.index(s.elements), dtype_bits(s.dtype) / 8) for s in graph.storages]
    classes, distances = _reuse(graph, works, traffic, len(sizes.exprs), warm)
    rows, row_of_node = _rows(graph, works, classes)
    resident, live, gradients = _live_sets(graph, storage_sizes, len(sizes.exprs), in_flight)
    return OpTable(
        graph=graph,
        rows=rows,
        row_of_node=row_of_node,
        sizes=tuple(sizes.exprs),
        distances=LinearForms(distances),
        resident=resident,
        live=LinearForms(live),
        live_gradients=LinearForms(gradients),
        unknown=graph.unknown_ops(),
        repeats=repeats or {},
    )


class _Sizes:
    """Distinct element counts, numbered."""

    def __init__(self) -> None:
        self.exprs: list[Expr] = []
        self._index: dict[str, int] = {}

    def index(self, expr: Expr) -> int:
        known = self._index.get(expr.text)
        if known is None:
            known = self._index[expr.text] = len(self.exprs)
            self.exprs.append(expr)
        return known


class _Traffic:
    """Bytes one operator touches, as (size index, bytes per element) terms."""

    def __init__(self, operator: Operator, work: Work, sizes: _Sizes) -> None:
        reads = zip(work.reads, operator.inputs, strict=True)
        writes = zip(work.writes, operator.outputs, strict=True)
        self.terms = [
            (sizes.index(e), dtype_bits(spec.dtype) / 8) for e, spec in (*reads, *writes) if not e.is_zero
        ]


def _reuse(
    graph: OperatorGraph, works: dict[int, Work], traffic: dict[int, _Traffic], sizes: int, warm: bool
) -> tuple[list[tuple[tuple[int, ...], tuple[int, ...]]], NDArray[np.float64]]:
    """Reuse class of every operand of every node, and the distance of each class as a linear form.

    The distance of a read is what the ops since the last touch of that storage moved; of a write, what is
    moved until its last use, after which the memory is handed on. First touches and values that outlive the
    run have none, and a touch of a part (a row appended to a KV cache) says nothing about the rest. A `warm`
    run follows another on the same data: first touches reach back into it, and results are overwritten by the
    next.
    """
    nodes, count = graph.nodes, len(graph.nodes)
    runs = 2 if warm else 1
    moved = np.zeros((count, sizes))
    for index, node in enumerate(nodes):
        for size, width in traffic[id(node.operator)].terms:
            moved[index, size] += width
    cumulative = np.concatenate([np.zeros((1, sizes)), np.cumsum(np.tile(moved, (runs, 1)), axis=0)])
    last_use = {s: index for index, node in enumerate(nodes) for s in (*node.reads, *node.writes)}
    known: dict[bytes, int] = {}
    forms: list[NDArray[np.float64]] = []

    def class_of(start: int, stop: int) -> int:
        form = cumulative[stop] - cumulative[start]
        key = form.tobytes()
        if key not in known:
            known[key] = len(forms)
            forms.append(form)
        return known[key]

    def write_class(storage: int, index: int) -> int:
        if graph.storages[storage].freed_at < graph.length and last_use[storage] != index:
            return class_of(index, last_use[storage])
        return class_of(0, count) if warm else NEVER

    touched: dict[tuple[int, str], int] = {}  # (storage, elements touched) -> op; whole touches under ""
    classes = []
    for position in range(runs * count):
        index = position % count
        node, work = nodes[index], works[id(nodes[index].operator)]
        if position >= (runs - 1) * count:
            reads = []
            for storage, amount in zip(node.reads, work.reads, strict=True):
                last = max(touched.get((storage, ""), NEVER), touched.get((storage, amount.text), NEVER))
                reads.append(NEVER if last == NEVER else class_of(last, position))
            classes.append((tuple(reads), tuple(write_class(s, index) for s in node.writes)))
        amounts = zip((*node.reads, *node.writes), (*work.reads, *work.writes), strict=True)
        for storage, amount in amounts:
            touched[storage, "" if amount is graph.storages[storage].elements else amount.text] = position
    return classes, np.array(forms) if forms else np.zeros((0, sizes))


def _rows(
    graph: OperatorGraph,
    works: dict[int, Work],
    classes: list[tuple[tuple[int, ...], tuple[int, ...]]],
) -> tuple[tuple[Row, ...], NDArray[np.intp]]:
    rows: list[Row] = []
    known: dict[tuple[object, ...], int] = {}
    row_of_node = np.empty(len(graph.nodes), dtype=np.intp)
    for index, (node, (reads, writes)) in enumerate(zip(graph.nodes, classes, strict=True)):
        one = node.operator
        key = (id(one), reads, writes, node.phase, node.place)
        if key not in known:
            known[key] = len(rows)
            read_bits = tuple(dtype_bits(spec.dtype) for spec in one.inputs)
            write_bits = tuple(dtype_bits(spec.dtype) for spec in one.outputs)
            stands = (node.phase, node.place)
            dtype = compute_dtype(one)
            rows.append(Row(one, works[id(one)], dtype, read_bits, write_bits, reads, writes, *stands))
        row_of_node[index] = known[key]
    return tuple(rows), row_of_node


def compute_dtype(operator: Operator) -> str:
    """The dtype arithmetic runs in: of the first floating data operand, weight-only formats aside."""
    operator = operator.members[0] if operator.members else operator
    for spec in (*operator.inputs, *operator.outputs):
        if spec.role not in (WEIGHT, KV) and spec.dtype.startswith(("fp", "bf", "tf", "int8", "int4")):
            return spec.dtype
    for spec in (*operator.outputs, *operator.inputs):
        return spec.dtype
    return "fp32"


def _live_sets(
    graph: OperatorGraph, storage_sizes: list[tuple[int, float]], sizes: int, in_flight: float
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64], NDArray[np.float64]]:
    """Bytes that stay all along by role, the undominated live sets of everything else, gradients in them."""
    resident = {name: np.zeros(sizes) for name in RESIDENT_ROLES.values()}
    for storage, (size, width) in zip(graph.storages, storage_sizes, strict=True):
        if storage.role in RESIDENT_ROLES:
            resident[RESIDENT_ROLES[storage.role]][size] += width
    held, gradients = np.zeros((2, graph.length + 2, sizes))
    border = next((node.at for node in graph.nodes if node.phase != FORWARD), 0)
    kept_for_backward = np.zeros(sizes)
    for index, start, stop in lifetimes(graph):
        size, width = storage_sizes[index]
        # made anew by every micro-batch, unlike buffers that stand there from step to step
        if graph.storages[index].allocated_at >= 0 and start < border <= stop:
            kept_for_backward[size] += width
        for change in (held, gradients)[: 1 + (graph.storages[index].role == GRADIENT)]:
            change[start, size] += width
            change[stop + 1, size] -= width
    at = [node.at for node in graph.nodes] or [0]
    for change in (held, gradients):
        np.cumsum(change, axis=0, out=change)
    held, gradients = held[at], gradients[at]
    held = held + (in_flight - 1) * kept_for_backward
    kept = pareto(held)
    return resident, held[kept], gradients[kept]


def pareto(forms: NDArray[np.float64]) -> list[int]:
    """Places of forms that none dominates in every coefficient: sizes are never negative, so the maximum is
    kept."""
    unique, places = np.unique(forms, axis=0, return_index=True)
    kept: list[int] = []
    for index in np.argsort(-unique.sum(axis=1), kind="stable").tolist():
        if not kept or not np.any(np.all(unique[kept] >= unique[index], axis=1)):
            kept.append(index)
    return [int(places[index]) for index in kept]
