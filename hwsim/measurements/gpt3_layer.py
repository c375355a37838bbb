"""Operators of a GPT-3 layer on one of `tp` devices: phase, op, batch, seq_len, kv_len, d_model, tp."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphs import kernels
from graphs.ir import OperatorGraph
from graphs.parallel import Parallel
from hwsim.measurements.event import EVENT
from hwsim.measurements.nodes import node_of
from hwsim.measurements.question import (
    Answerable,
    Part,
    Question,
    Refusal,
    dtype_name,
)
from hwsim.measurements.table import Rows, Table

TITLE = "operators of a tensor-parallel GPT-3 layer: phase, op, batch, seq_len, kv_len, d_model, n_heads, tp"
_WIDTHS = ("batch", "seq_len", "kv_len", "d_model", "n_heads", "tp")
NEEDS = frozenset(("phase", "op", "dtype", *_WIDTHS))


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, phase, op and dtype; a rank's share runs on one device."""
    numbers = {name: table.number(name) for name in _WIDTHS}
    for (device, phase, op, dtype), rows in table.groups("device", "phase", "op", "dtype").items():
        name = dtype_name(dtype)
        if op.lower().startswith("allreduce") and name is not None:
            yield from _sums(rows, device, op, phase, {w: c[rows] for w, c in numbers.items()}, name)
            continue
        asked = None if name is None else _share(op, phase, {w: c[rows] for w, c in numbers.items()}, name)
        if asked is None:
            yield Refusal(rows, f"operator {op!r} in {dtype!r} is not known to this layout", op)
            continue
        part = Part(graph=asked[0], sizes=asked[1])
        one = device.partition("x ")[2] or device  # "4x NAME" is tp of them
        yield Question(rows=rows, device=one, op=op, parts=(part,), protocol=EVENT)


def _sums(
    rows: Rows, device: str, op: str, phase: str, w: dict[str, np.ndarray], dtype: str
) -> Iterator[Question]:
    """Sums of a layer's output over the ranks, that of the node `4x NAME`."""
    one = device.partition("x ")[2] or device
    elements = w["batch"] * (1.0 if phase == "decode" else w["seq_len"]) * w["d_model"]
    for ranks in np.unique(w["tp"]).astype(int):
        chosen = w["tp"] == ranks
        part = Part(graph=kernels.collective("all_reduce", dtype), sizes={"elements": elements[chosen]})
        yield Question(
            rows=rows[chosen], device=node_of(one, ranks), op=op, parts=(part,), protocol=EVENT,
            parallel=Parallel(tp=int(ranks)),
        )  # fmt: skip


def _share(
    op: str, phase: str, w: dict[str, np.ndarray], dtype: str
) -> tuple[OperatorGraph, dict[str, np.ndarray]] | None:
    """Graph and sizes of one rank's share; a decode step has one token per sequence."""
    length = np.ones_like(w["seq_len"]) if phase == "decode" else w["seq_len"]
    tokens, width, tp = w["batch"] * length, w["d_model"], w["tp"]
    heads, dim = w["batch"] * w["n_heads"] / tp, width / w["n_heads"]
    products = {
        "Q_K_V": (width, 3 * width / tp),
        "Wo_proj": (width / tp, width),
        "W1_proj": (width, 4 * width / tp),
        "W2_proj": (4 * width / tp, width),
    }
    if op in products:
        k, n = products[op]
        return kernels.gemm(dtype), {"m": tokens, "k": k, "n": n}
    if op in ("Q_mul_K", "A_mul_V"):
        n, k = (w["kv_len"], dim) if op == "Q_mul_K" else (dim, w["kv_len"])
        return kernels.gemm(dtype, batched=True), {"b": heads, "m": length, "n": n, "k": k}
    if op == "Softmax":
        return kernels.elementwise("softmax", dtype, 1), {"rows": heads * length, "cols": w["kv_len"]}
    if op.startswith("LayerNorm"):
        return kernels.elementwise("norm", dtype, 1), {"rows": tokens, "cols": width}
    if op == "GeLU":
        return kernels.elementwise("gelu", dtype, 1), {"rows": tokens, "cols": 4 * width / tp}
    return None
