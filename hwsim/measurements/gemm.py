"""GEMM kernels: one row per m, n, k and dtype; other operators in these columns stream m x n elements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from graphs import kernels
from graphs.ir import OperatorGraph
from hwsim.measurements.event import EVENT
from hwsim.measurements.question import Answerable, Part, Protocol, Question, Refusal, dtype_name
from hwsim.measurements.table import Rows, Table

TITLE = "GEMM kernels, and vector kernels of m x n elements: m, n, k, dtype"
NEEDS = frozenset(("m", "n", "k", "dtype"))
REPLAY = Protocol(
    timing="graph replay", statistic="mean", warm=True, added_s=2.5e-6,
    source="kernel tables: CUDA graph replays; an empty kernel shows 2 to 3 us, from memory, unverified",
)  # fmt: skip
# The source's own readme calls these rows a slow fallback; whatever the size they take about this much longer
# than the kernels of other engines (middle of seven devices, 54 to 530 us apart by device).
FALLBACK = replace(REPLAY, added_s=180e-6, source=f"{REPLAY.source}; fp8 by blocks in vLLM 0.24 falls back")
# op name -> (our operator, inputs of m x n elements)
VECTOR = {
    "softmax": ("softmax", 1), "layernorm": ("norm", 1), "gelu": ("gelu", 1), "add": ("add", 2),
    "mul": ("mul", 2),
    "rms_norm": ("rms_norm", 1), "silu": ("silu", 1), "relu": ("relu", 1), "tanh": ("tanh", 1),
}  # fmt: skip
PRODUCTS = ("", "matmul", "gemm", "mm", "linear")
WEIGHT_ONLY = {
    "fp8_wo": "fp8",
    "int8_wo": "int8",
    "int4_wo": "int4:g128",
    "q8_0": "int8:g32",
    "q4_0": "int4:g32",
}
# The collector behind tables of serving engines makes each product with five weights in turn, so that a cache
# holds them only when it holds all five (from memory; the products of few rows show it: weights above a fifth
# of the last-level cache come from DRAM).
TURNS = 5
# Passes over the bf16 activations inside the timed region, for dtypes whose activations are quantised on the
# fly. From the tables themselves: products too small to take time of their own cost that much more than bf16
# ones. TensorRT-LLM looks for the largest value in a pass of its own, vLLM row by row as it quantises to fp8.
QUANTISING = {"fp8": 1, "fp8_block": 1, "nvfp4": 1, "sq": 1, "int8_wo": 1, "int4_wo": 1}
WIDENING = ("Intel Arc Pro B60",)  # no fp8 units: its products widen fp8 weights to 16 bits
LOOKED_AT = ("fp8", "nvfp4")
NARROW = ("fp8", "fp4", "int8")  # their products leave in bf16


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, operator and dtype."""
    m, n, k = (table.number(name) for name in ("m", "n", "k"))
    for (device, op, dtype, engine), rows in table.groups("device", "op", "dtype", "framework").items():
        label = f"gemm {dtype}" if op.lower() in PRODUCTS else op
        if not device:
            yield Refusal(rows, "no device is named", label)
            continue
        product = k[rows] > 0
        if device in WIDENING and dtype.lower() == "fp8":
            dtype = "fp8_wo"
        passes = QUANTISING.get(dtype.lower(), 0) + (engine == "trtllm" and dtype.lower() in LOOKED_AT)
        by_row = engine == "vllm" and dtype.lower() == "fp8"
        slow = engine == "vllm" and dtype.lower() == "fp8_block"
        protocol = FALLBACK if slow else REPLAY
        yield from products(
            device, label, dtype, rows[product], (m, n, k), protocol,
            passes=passes, by_row=by_row, turns=TURNS if engine else 1,
        )  # fmt: skip
        yield from _vector(device, op, dtype, rows[~product], m, n)


def products(
    device: str,
    label: str,
    dtype: str,
    rows: Rows,
    sizes: tuple[np.ndarray, np.ndarray, np.ndarray],
    protocol: Protocol,
    *,
    passes: int = 0,
    by_row: bool = False,
    turns: int = 1,
) -> Iterator[Answerable]:
    """Plain products of some rows; `passes` over the activations quantise them first, `by_row` after looking
    for the largest value of each; the weights of `turns` products take turns.
    """
    if not rows.size:
        return
    graph = product_graph(dtype, turns)
    if graph is None:
        yield Refusal(rows, f"dtype {dtype!r} is unknown", label)
        return
    given = {name: size[rows] for name, size in zip("mnk", sizes, strict=True)}
    parts = [Part(graph=graph, sizes=given, repeats=1 / turns)]
    if passes:
        narrow = dtype_name(dtype) or "bf16"
        read = {"rows": given["m"], "cols": given["k"]}
        parts.append(
            Part(graph=kernels.quantise("bf16", narrow, by_row=by_row), sizes=read, repeats=float(passes))
        )
    yield Question(rows=rows, device=device, op=label, parts=tuple(parts), protocol=protocol)


def product_graph(dtype: str, turns: int = 1) -> OperatorGraph | None:
    """The product as a dtype column says it, with several weights in turn: weight-only formats compute in
    bf16.
    """
    if dtype.lower() in WEIGHT_ONLY:
        return kernels.gemm("bf16", WEIGHT_ONLY[dtype.lower()], copies=turns)
    name = dtype_name(dtype)
    return None if name is None else kernels.gemm(name, "", "bf16" if name in NARROW else "", copies=turns)


def _vector(
    device: str, op: str, dtype: str, rows: Rows, m: np.ndarray, n: np.ndarray
) -> Iterator[Answerable]:
    """Vector operators timed as eager calls; n = 0 says that m counts elements."""
    if not rows.size:
        return
    kind, name = VECTOR.get(op.lower()), dtype_name(dtype)
    if kind is None or name is None:
        yield Refusal(rows, f"operator {op!r} in {dtype!r} with k = 0 is not known to this layout", op)
        return
    graph = kernels.elementwise(kind[0], name, kind[1])
    sizes = {"rows": m[rows], "cols": np.where(n[rows] == 0, 1.0, n[rows])}
    yield Question(rows=rows, device=device, op=op, parts=(Part(graph=graph, sizes=sizes),), protocol=EVENT)
