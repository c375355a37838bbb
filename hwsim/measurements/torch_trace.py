"""A Chrome trace that torch.profiler exported (with `record_shapes`), as a table of operators.

Kernels on a device are mapped to the operator that launched them by its External id; without kernels the
operators' own time on the CPU counts, what they call taken out. Executions of one operator with the same
input shapes are one row, their mean time and count beside it. Kernels that nobody launched here, operators
without shapes and operators that no rule of this layout knows are rows too, and refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from graphs import kernels
from graphs.ir import OperatorGraph
from graphs.work.pointwise import COSTS
from hwsim.errors import HwsimError
from hwsim.measurements.question import Answerable, Part, Protocol, Question, Refusal
from hwsim.measurements.table import Rows, Table

TITLE = "a Chrome trace of torch.profiler (trace.json[.gz]), or its operators: torch_op, input_shapes, dtype"
NEEDS = frozenset(("torch_op", "input_shapes", "dtype"))
COLUMNS = ("device", "torch_op", "input_shapes", "dtype", "count", "latency_us")
NO_OPERATOR = "kernels of no operator"
# In a model, what an operator reads was seldom touched just before.
PROTOCOL = Protocol(timing="kernel", statistic="mean", warm=False, source="torch.profiler")
_DTYPES = {"float": "fp32", "c10::BFloat16": "bf16", "c10::Half": "fp16", "double": "fp64"}
_PRODUCTS = {"aten::mm": 0, "aten::addmm": 1, "aten::bmm": 0, "aten::baddbmm": 1}
_ATTENTION = "aten::_scaled_dot_product"
_ROWS = {"aten::native_layer_norm": "norm", "aten::_softmax": "softmax", "aten::_log_softmax": "softmax"}
_COPIES = ("aten::clone", "aten::copy_")
_KERNELS = ("kernel", "gpu_memcpy", "gpu_memset")

Shape = list[int]
Sizes = dict[str, float]
Priced = tuple[OperatorGraph, Sizes]


def is_trace(content: bytes) -> bool:
    """Whether a file is JSON rather than CSV."""
    return content.lstrip()[:1] in (b"{", b"[")


def trace_table(path: str, content: bytes) -> Table:
    """The operators of a trace as a table."""
    try:
        document = json.loads(content)
        found = document if isinstance(document, list) else document["traceEvents"]
        events = [event for event in found if event.get("ph") == "X"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HwsimError(
            f"trace {path!r} is no Chrome trace ({error}); export one with torch.profiler"
        ) from error
    named = document.get("deviceProperties") if isinstance(document, dict) else None
    device = str(named[0].get("name", "")) if named else "local"
    times: dict[tuple[str, str, str], list[float]] = {}
    for event, microseconds in _timed(events):
        times.setdefault(_key(event), []).append(microseconds)
    if not times:
        raise HwsimError(f"trace {path!r} has no operators; profile with record_shapes=True and export again")
    rows = [
        (device, *key, str(len(found)), repr(sum(found) / len(found))) for key, found in sorted(times.items())
    ]
    columns = {name: [row[at] for row in rows] for at, name in enumerate(COLUMNS)}
    return Table(path, COLUMNS, columns, len(rows))


def _timed(events: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any] | None, float]]:
    """Every kernel with the operator that launched it, or every operator with its own time."""
    operators = [event for event in events if event.get("cat") == "cpu_op"]
    launched = [event for event in events if event.get("cat") in _KERNELS]
    if launched:
        by_id = {event.get("args", {}).get("External id"): event for event in operators}
        times: dict[Any, float] = {}
        for kernel in launched:
            owner = kernel.get("args", {}).get("External id")
            key = owner if owner in by_id else None
            times[key] = times.get(key, 0.0) + float(kernel["dur"])
        yield from ((by_id.get(key), microseconds) for key, microseconds in times.items())
        return
    stacks: dict[Any, list[tuple[float, int]]] = {}
    own = [float(event["dur"]) for event in operators]
    order = sorted(range(len(operators)), key=lambda at: (operators[at]["ts"], -float(operators[at]["dur"])))
    for at in order:
        event = operators[at]
        stack = stacks.setdefault(event.get("tid"), [])
        while stack and stack[-1][0] <= float(event["ts"]):
            stack.pop()
        if stack:
            own[stack[-1][1]] -= float(event["dur"])
        stack.append((float(event["ts"]) + float(event["dur"]), at))
    yield from zip(operators, own, strict=True)


def _key(event: dict[str, Any] | None) -> tuple[str, str, str]:
    """Name, input shapes and the dtype of the first floating input."""
    if event is None:
        return NO_OPERATOR, "", ""
    given = event.get("args", {})
    shapes, types = given.get("Input Dims", []), given.get("Input type", [])
    dtype = next((_DTYPES[kind] for kind in types if kind in _DTYPES), "")
    return (
        str(event.get("name", "")),
        json.dumps([s for s in shapes if s and not isinstance(s[0], list)]),
        dtype,
    )


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, operator and dtype; the rest refused by name."""
    shapes = [_shapes(text) for text in table.text("input_shapes")]
    for (device, op, dtype), rows in table.groups("device", "torch_op", "dtype").items():
        priced = {int(row): _priced(op, shapes[row], dtype) for row in rows}
        known: dict[int, list[tuple[int, Priced]]] = {}
        for row, found in priced.items():
            if found is not None:
                known.setdefault(id(found[0]), []).append((row, found))
        refused = np.array([row for row, found in priced.items() if found is None], dtype=np.intp)
        if refused.size:
            yield Refusal(refused, f"{op} is not mapped to an operator of ours", op)
        for members in known.values():
            yield _question(device, op, [row for row, _ in members], [found for _, found in members])


def _question(device: str, op: str, rows: list[int], found: list[Priced]) -> Question:
    graph = found[0][0]
    sizes = {name: np.array([one[name] for _, one in found]) for name in found[0][1]}
    at: Rows = np.array(rows, dtype=np.intp)
    return Question(rows=at, device=device, op=op, parts=(Part(graph=graph, sizes=sizes),), protocol=PROTOCOL)


def _shapes(text: str) -> list[Shape]:
    """Shapes of tensors, scalars left out; none at all where a size is no size."""
    try:
        shapes = [[int(size) for size in shape] for shape in json.loads(text or "[]")]
    except (ValueError, TypeError, OverflowError):
        return []
    shapes = [shape for shape in shapes if shape]
    return [] if any(min(shape) < 0 for shape in shapes) else shapes


def _priced(op: str, shapes: list[Shape], dtype: str) -> Priced | None:
    """The graph and sizes of one operator, or None where this layout has no rule for it."""
    if not shapes or dtype not in _DTYPES.values():
        return None
    rules: Mapping[str, Callable[[], Priced | None]] = {
        **dict.fromkeys(_PRODUCTS, lambda: _product(op, shapes[_PRODUCTS[op] :], dtype)),
        **dict.fromkeys(_ROWS, lambda: (kernels.elementwise(_ROWS[op], dtype, 1), _matrix(shapes[0]))),
        **dict.fromkeys(_COPIES, lambda: (kernels.elementwise("copy", dtype, 1), _matrix(shapes[-1]))),
        "aten::linear": lambda: _linear(shapes, dtype),
        "aten::embedding": lambda: _embedding(shapes, dtype),
    }
    if op in rules:
        return rules[op]()
    if op.startswith(_ATTENTION) and not op.endswith("backward"):
        return _attention(shapes, dtype)
    name = op.removeprefix("aten::").rstrip("_")
    if name in COSTS:
        full = sum(shape == shapes[0] for shape in shapes[:3])
        return kernels.elementwise(name, dtype, full), _matrix(shapes[0])
    return None


def _matrix(shape: Shape) -> Sizes:
    return {"rows": float(np.prod(shape[:-1])), "cols": float(shape[-1])}


def _product(op: str, shapes: list[Shape], dtype: str) -> Priced | None:
    if len(shapes) < 2 or len(shapes[0]) < 2:
        return None
    (*_, m, k), n = shapes[0], shapes[1][-1]
    sizes = {"m": float(m), "k": float(k), "n": float(n)}
    if len(shapes[0]) == 3:
        return kernels.gemm(dtype, batched=True), {**sizes, "b": float(shapes[0][0])}
    return kernels.gemm(dtype, bias=_PRODUCTS[op] == 1), sizes


def _linear(shapes: list[Shape], dtype: str) -> Priced | None:
    if len(shapes) < 2 or len(shapes[1]) != 2:
        return None
    n, k = shapes[1]
    sizes = {"m": float(np.prod(shapes[0][:-1])), "k": float(k), "n": float(n)}
    return kernels.gemm(dtype, bias=len(shapes) > 2), sizes


def _embedding(shapes: list[Shape], dtype: str) -> Priced | None:
    if len(shapes) < 2 or len(shapes[0]) != 2:
        return None
    (table, cols), rows = shapes[0], float(np.prod(shapes[1]))
    return kernels.lookup(dtype), {"rows": rows, "cols": float(cols), "table": float(table)}


def _attention(shapes: list[Shape], dtype: str) -> Priced | None:
    """Without its mask: a trace does not say whether it was causal."""
    if len(shapes) < 3 or any(len(shape) != 4 for shape in shapes[:3]):
        return None
    (batch, heads, q_len, head_dim), (_, kv_heads, kv_len, _), _ = shapes[:3]
    names = ("batch", "heads", "kv_heads", "q_len", "kv_len", "head_dim")
    values = (batch, heads, kv_heads, q_len, kv_len, head_dim)
    return kernels.attention(dtype), dict(zip(names, map(float, values), strict=True))
