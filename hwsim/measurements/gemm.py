"""GEMM kernels: one row per m, n, k and dtype; rows of other operators in the same columns stream m x n elements."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from graphs import kernels
from graphs.ir import OperatorGraph

from hwsim.measurements.question import Answerable, Protocol, Question, Refusal, dtype_name
from hwsim.measurements.table import Table

TITLE = "GEMM and vector kernels: m, n, k, dtype"
NEEDS = frozenset(("m", "n", "k", "dtype", "latency_us"))
REPLAY = Protocol(timing="graph replay", statistic="mean", warm=True, source="kernel tables: CUDA graph replays")
# op name -> (our operator, inputs of m x n elements)
VECTOR = {
    "softmax": ("softmax", 1), "layernorm": ("norm", 1), "input_layernorm": ("rms_norm", 1),
    "post_attention_layernorm": ("rms_norm", 1), "gelu": ("gelu", 1), "add": ("add", 2), "mlp_act": ("silu", 2),
    "attn_rope": ("mul", 1), "rms_norm": ("rms_norm", 1), "silu": ("silu", 1),
}  # fmt: skip
WEIGHT_ONLY = {"int8_wo": "int8", "int4_wo": "int4:g128", "q8_0": "int8:g32", "q4_0": "int4:g32", "q4_1": "int4:g32"}


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, operator and dtype."""
    m, n, k = (table.number(name) for name in ("m", "n", "k"))
    for (device, op, dtype), rows in table.groups("device", "op", "dtype").items():
        product = k[rows] > 0
        label = f"gemm {dtype}" if op in ("", "matmul", "gemm") else op
        graph = _graph(dtype)
        if graph is None:
            yield Refusal(rows, f"dtype {dtype!r} is unknown", label)
            continue
        with_k, without_k = rows[product], rows[~product]
        if with_k.size:
            sizes = {"m": m[with_k], "n": n[with_k], "k": k[with_k]}
            yield Question(rows=with_k, device=device, op=label, graph=graph, sizes=sizes, protocol=REPLAY)
        if without_k.size:
            yield _vector(device, op, dtype, without_k, m, n)


def _graph(dtype: str) -> OperatorGraph | None:
    if dtype.lower() in WEIGHT_ONLY:
        return kernels.gemm("bf16", WEIGHT_ONLY[dtype.lower()])
    name = dtype_name(dtype)
    return None if name is None else kernels.gemm(name, "", "bf16" if name in ("fp8", "fp4", "int8") else "")


def _vector(device: str, op: str, dtype: str, rows: np.ndarray, m: np.ndarray, n: np.ndarray) -> Answerable:
    if op not in VECTOR:
        return Refusal(rows, f"operator {op!r} with k = 0 is not known; add it to the layout", op)
    kind, operands = VECTOR[op]
    graph = kernels.elementwise(kind, dtype_name(dtype) or "fp16", operands)
    sizes = {"rows": m[rows], "cols": n[rows]}
    return Question(rows=rows, device=device, op=op, graph=graph, sizes=sizes, protocol=REPLAY)
