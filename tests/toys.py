"""A toy machine (1e12 FLOP/s, 1e11 B/s) of every engine and graphs of one operator, to check by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import devices
from devices import Device, Stack
from graphs.expressions import Expr, product, symbol
from graphs.ir import (
    ACTIVATION,
    INPUT,
    Operator,
    OperatorGraph,
    OpNode,
    SizeSymbol,
    Storage,
    TensorSpec,
)

ENGINES = ("simt", "systolic", "cpu", "spatial")
PEAK, BANDWIDTH, ONCHIP = 1e12, 1e11, 1e12
PROFILE = """
name = "Toy {engine}"
kind = "accelerator"
vendor = "toy"
generation = "toy"
year = 2000
process = "7 nm"
engine = "{engine}"
source = "made up for tests"
[compute]
units = {units}
clock = "1 GHz"
lanes_per_unit = 8
special = "125 GOP/s"
source = "made up for tests"
[compute.matrix]
fp32 = "1 TFLOP/s"
fp16 = "1 TFLOP/s"
[compute.vector]
fp32 = "500 GFLOP/s"
{array}
[memory.l2]
capacity = "1 MB"
bandwidth = "1 TB/s"
energy = "1 pJ/B"
source = "made up for tests"
[memory.dram]
capacity = "16 GB"
bandwidth = "100 GB/s"
energy = "10 pJ/B"
source = "made up for tests"
[energy]
matrix = {{ fp32 = "2 pJ/FLOP", fp16 = "1 pJ/FLOP" }}
vector = {{ fp32 = "4 pJ/FLOP" }}
special = "8 pJ/op"
static = "2 W"
source = "made up for tests"
[power]
limit = "{limit} W"
source = "made up for tests"
"""
ARRAY = """
[compute.array]
rows = 16
columns = 16
count = {count}
dataflow = "{dataflow}"
source = "made up for tests"
"""
UNITS = {"simt": 10, "systolic": 2, "cpu": 10, "spatial": 256}
# Every efficiency 1, perfect overlap, no start-up: what is left is arithmetic.
IDEAL = {
    "matrix_efficiency": 1.0, "vector_efficiency": 1.0, "special_efficiency": 1.0,
    "attention_efficiency": 1.0, "dram_efficiency": 1.0, "onchip_efficiency": 1.0, "overlap": 0.0,
    "kernel_ramp_s": 0.0, "unit_byte_per_clock": 1000.0, "tile_half_reuse": 0.0, "k_prologue": 0.0,
    "query_half_tile": 0.0, "panel_half_rows": 0.0, "lane_matrix_efficiency": 1.0,
    "lane_tile_half_reuse": 0.0, "lane_k_prologue": 0.0, "core_energy_scale": 1.0, "cluster_sharing": 1.0,
    "reduction_slowdown": 1.0, "board_compute_scale": 1.0,
    "board_memory_scale": 1.0, "fill_share": 1.0,
    "query_half_rows": 0.0, "block_flop": 0.0, "weight_wait": 0.0, "score_flop": 0.0,
    "row_start_byte": 0.0, "fresh_page_s_per_byte": 0.0, "norm_call_s": 0.0, "rms_norm_call_s": 0.0,
    "reduce_call_s": 0.0, "bmm_call_s": 0.0,
    "long_row_slowdown": 1.0, "lookup_slowdown": 1.0,
    "narrow_matrix_efficiency": 1.0, "narrow_attention_share": 1.0, "widening_slowdown": 1.0,
    "softmax_overlap": 0.0, "block_begin_cycle": 0.0, "node_exponent": 0.0,
    "attention_stream_share": 1.0, "batched_lane_tile": 1.0, "blocks_together": 1.0,
}  # fmt: skip
NO_SOFTWARE = Stack(
    id="none", dispatch_s=0.0, launch_s=0.0, graph_capture=True, passes=(), attention_kernel="flash",
    reserve_byte=0.0, allocator_round_byte=512.0, source="made up for tests",
)  # fmt: skip


def toy(folder: Path, engine: str, limit_w: float = 1000.0) -> Device:
    """The toy machine of an engine, read from a profile file."""
    array = ""
    if engine in ("systolic", "spatial"):
        array = ARRAY.format(
            count=2 if engine == "systolic" else 1, dataflow="ws" if engine == "systolic" else "rs"
        )
    path = folder / f"toy-{engine}.toml"
    path.write_text(PROFILE.format(engine=engine, units=UNITS[engine], array=array, limit=limit_w))
    return devices.device(str(path))


def ideal(device: Device, **changes: float) -> dict[str, float]:
    """Overrides that make the coefficients of `device` ideal; `changes` are further coefficients."""
    from hwsim.fitted import coefficients_for

    known = coefficients_for(device).values
    chosen = {name: value for name, value in IDEAL.items() if name in known} | changes
    return {f"coefficient.{name}": value for name, value in chosen.items()}


def gemm_graph(dtype: str = "fp32") -> OperatorGraph:
    """b products of m x k times k x n; sizes b m n k."""
    b, m, n, k = (symbol(name) for name in "bmnk")
    dims = (("b", b), ("m", m), ("n", n), ("k", k))
    return one_op("gemm", "aten.bmm", dims, [(b, m, k), (b, k, n)], (b, m, n), dtype=dtype)


def attention_graph(mask: str = "none", dtype: str = "fp32") -> OperatorGraph:
    """`batch` sequences, `sets` key heads with `group` query heads each; q queries, k keys of d elements."""
    batch, kv, group, q, k, d = (symbol(name) for name in ("batch", "sets", "group", "q", "k", "d"))
    dims = (
        ("batch", batch), ("heads", kv * group), ("kv_heads", kv), ("q_len", q), ("kv_len", k),
        ("head_dim", d), ("value_dim", d),
    )  # fmt: skip
    query, key = (batch, kv * group, q, d), (batch, kv, k, d)
    return one_op("attention", "attention", dims, [query, key, key], query, mask=mask, dtype=dtype)


def stream_graph(dtype: str = "fp32") -> OperatorGraph:
    """Addition of two vectors of e elements."""
    e = symbol("e")
    return one_op("pointwise", "aten.add", (), [(e,), (e,)], (e,), dtype=dtype)


def gather_graph(dtype: str = "fp32") -> OperatorGraph:
    """`rows` picks of `run` elements each from a table of t rows."""
    rows, run, table = symbol("rows"), symbol("run"), symbol("t")
    dims = (("rows", rows), ("run", run), ("table", table * run))
    return one_op("gather", "aten.embedding", dims, [(table, run), (rows,)], (rows, run), dtype=dtype)


def one_op(
    kind: str, name: str, dims: Any, inputs: Any, output: Any, mask: str = "", dtype: str = "fp32"
) -> OperatorGraph:
    """A graph that reads its inputs from memory, runs one operator and returns the result."""

    def spec(shape: tuple[Expr, ...], role: str) -> TensorSpec:
        return TensorSpec(shape, dtype, role, product(shape))

    reads = tuple(spec(shape, INPUT) for shape in inputs)
    result = spec(output, ACTIVATION)
    operator = Operator(kind, name, dims, reads, (result,), (("mask", mask),) if mask else ())
    storages = [Storage(one.elements, dtype, INPUT, -1, 0, 1) for one in reads]
    storages.append(Storage(result.elements, dtype, ACTIVATION, 0, 0, 1))
    names = sorted(
        {name for one in (*reads, result) for name in one.elements.symbols}.union(
            *(expr.symbols for _, expr in dims)
        )
    )
    return OperatorGraph(
        model=kind, phase="forward", dtype=dtype,
        symbols=tuple(SizeSymbol(name=name, default=product(()), minimum=product(())) for name in names),
        guards=(), nodes=(OpNode(operator, tuple(range(len(reads))), (len(reads),), 0, 0),),
        storages=tuple(storages), modules=("",), provenance={},
    )  # fmt: skip
