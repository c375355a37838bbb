"""What operators of a serving engine's layers stream, as parts of questions: `rows` tokens each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphs import kernels
from hwsim.measurements.question import Part, Protocol

Array = NDArray[np.float64]
_SOURCE = "kernel durations of a profiler over a layer's ops, one after the other"
# products read weights that the layer's other work pushed out of the cache, streams what the op before wrote
KERNELS = Protocol(timing="kernel", statistic="sum of the kernels of one op", warm=False, source=_SOURCE)
STREAMS = Protocol(timing="kernel", statistic="sum of the kernels of one op", warm=True, source=_SOURCE)


def linear(rows: Array, k: Array, n: Array, dtype: str) -> tuple[Part, ...]:
    """Plain product."""
    return (Part(graph=kernels.gemm(dtype), sizes={"m": rows, "k": k, "n": n}),)


def norm(rows: Array, cols: Array, dtype: str, *, kind: str = "rms_norm") -> tuple[Part, ...]:
    """One norm in one kernel."""
    return (Part(graph=kernels.elementwise(kind, dtype, 1), sizes={"rows": rows, "cols": cols}),)


def norm_with_residual(rows: Array, cols: Array, dtype: str) -> tuple[Part, ...]:
    """Residual sum and RMS norm in one kernel: two tensors in, two out."""
    return (Part(graph=kernels.elementwise("rms_norm", dtype, 2, 2), sizes={"rows": rows, "cols": cols}),)


def written_out_norm(rows: Array, cols: Array) -> tuple[Part, ...]:
    """RMS norm as a model library spells it for 16-bit data: cast, square, mean, scale, cast, weight.

    Elements in fp32; six kernels.
    """
    size = rows * cols
    graph = kernels.stream("fp32", "mul")
    traffic = ((0.5, 1.0), (1.0, 1.0), (1.0, 1.0 / 1024), (1.0, 1.0), (1.0, 0.5), (0.5, 0.5))
    return tuple(Part(graph=graph, sizes={"read": size * r, "written": size * w}) for r, w in traffic)


def gated_activation(rows: Array, width: Array, dtype: str) -> tuple[Part, ...]:
    """SiLU of one half times the other: 2 x width in, width out."""
    sizes = {"read": 2 * rows * width, "written": rows * width}
    return (Part(graph=kernels.stream(dtype, "silu"), sizes=sizes),)


def in_place(rows: Array, width: Array, dtype: str, op: str = "mul") -> tuple[Part, ...]:
    """Read and written once, such as a rotary embedding in one kernel."""
    return (Part(graph=kernels.elementwise(op, dtype, 1), sizes={"rows": rows, "cols": width}),)


def written_out_rotary(rows: Array, width: Array, dtype: str) -> tuple[Part, ...]:
    """A rotary embedding as a model library spells it: negate half, concatenate, two products, a sum."""
    size = rows * width
    graph = kernels.stream(dtype, "mul")
    traffic = ((0.5, 0.5), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (2.0, 1.0))
    return tuple(Part(graph=graph, sizes={"read": size * r, "written": size * w}) for r, w in traffic)


def total(rows: Array, width: Array, dtype: str) -> tuple[Part, ...]:
    """Sum of two tensors."""
    return (Part(graph=kernels.elementwise("add", dtype, 2), sizes={"rows": rows, "cols": width}),)


def embedding(rows: Array, width: Array, table: Array | float, dtype: str) -> tuple[Part, ...]:
    """Rows picked out of a table."""
    sizes = {"rows": rows, "cols": width, "table": np.broadcast_to(table, rows.shape)}
    return (Part(graph=kernels.lookup(dtype), sizes=sizes),)


def sampler(rows: Array, vocab: Array) -> tuple[Part, ...]:
    """Softmax over the fp32 logits; the choice itself is small beside it."""
    return (Part(graph=kernels.elementwise("softmax", "fp32", 1), sizes={"rows": rows, "cols": vocab}),)


def attention(
    batch: Array, heads: Array, kv_heads: Array, new: Array, cached: Array, head_dim: Array, dtype: str
) -> tuple[Part, ...]:
    """`new` tokens per sequence after `cached` ones, causal."""
    sizes = {
        "batch": batch,
        "heads": heads,
        "kv_heads": np.maximum(kv_heads, 1.0),
        "q_len": new,
        "kv_len": cached + new,
        "head_dim": head_dim,
    }
    return (Part(graph=kernels.attention(dtype, causal=True), sizes=sizes),)
