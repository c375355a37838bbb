"""Operators of a GPT-3 layer on one of `tp` devices: phase, op, batch, seq_len, kv_len, d_model, tp."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphs import kernels
from graphs.ir import OperatorGraph
from graphs.parallel import Parallel
from hwsim.measurements.event import EVENT
from hwsim.measurements.nodes import no_ranks, node_of, ranks_of
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
            yield from _sums(table, rows, device, op, phase, name)
            continue
        asked = None if name is None else _share(op, phase, {w: c[rows] for w, c in numbers.items()}, name)
        if asked is None:
            yield Refusal(rows, f"operator {op!r} in {dtype!r} is not known to this layout", op)
            continue
        part = Part(graph=asked[0], sizes=asked[1])
        one = device.partition("x ")[2] or device  # "4x NAME" is tp of them
        yield Question(rows=rows, device=one, op=op, parts=(part,), protocol=EVENT)


def _sums(table: Table, rows: Rows, device: str, op: str, phase: str, dtype: str) -> Iterator[Answerable]:
    """Sums of a layer's output over the ranks, that of the node `4x NAME`."""
    one = device.partition("x ")[2] or device
    batch, length, width = (table.number(name) for name in ("batch", "seq_len", "d_model"))
    # factors apart: a product of two negative ones would pass for a size
    elements = np.where(np.minimum(batch, width) > 0, batch * width, np.nan)
    if phase != "decode":
        elements = elements * np.where(length > 0, length, np.nan)
    here = np.isin(np.arange(table.length), rows)
    for (count,), chosen in table.groups("tp", where=here).items():
        ranks = ranks_of(count)
        if ranks is None or ranks == 1:
            note = no_ranks(count) if ranks is None else "one device exchanges nothing"
            yield Refusal(chosen, note, op)
            continue
        part = Part(graph=kernels.collective("all_reduce", dtype), sizes={"elements": elements[chosen]})
        yield Question(
            rows=chosen, device=node_of(one, ranks), op=op, parts=(part,), protocol=EVENT,
            parallel=Parallel(tp=ranks),
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
