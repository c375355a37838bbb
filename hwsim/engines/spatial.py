"""Spatial arrays (Eyeriss-like): operands mapped over the grid, row-stationary reuse, one shared global buffer."""

from __future__ import annotations

import numpy as np

from hwsim.engines.blocking import reread_byte
from hwsim.engines.demand import AttentionRows, Demand, GemmRows, StreamRows, Structure

# Which GEMM dims lie along array rows and columns: outputs, or a reduction along one side.
MAPPINGS = (("m", "n"), ("n", "m"), ("k", "n"), ("k", "m"))


def gemm(rows: GemmRows, machine: Structure) -> Demand:
    """Best of four mappings of two dims onto the grid; the third runs in time, operands re-read over the buffer."""
    sizes = {"m": rows.m, "n": rows.n, "k": rows.k}
    exact = 2.0 * rows.b * rows.m * rows.n * rows.k
    r, c = machine.array_rows, machine.array_columns
    left, right = rows.b * rows.m * rows.k * rows.left_byte, rows.b * rows.k * rows.n * rows.right_byte
    out = rows.b * rows.m * rows.n * rows.out_byte
    matrix, onchip = [], []
    for down, across in MAPPINGS:
        (third,) = set(sizes) - {down, across}
        folds_down, folds_across = np.ceil(sizes[down] / r), np.ceil(sizes[across] / c)
        passes = rows.b * folds_down * folds_across
        matrix.append(passes * (sizes[third] + r + c - 2) * 2.0 * r * c)
        again = {
            "m": np.ceil(rows.m / (r if down == "m" else c)),
            "n": np.ceil(rows.n / (r if down == "n" else c)),
        }
        left_again = again["n"] if "n" in (down, across) else 1.0
        right_again = again["m"] if "m" in (down, across) else 1.0
        out_again = np.ceil(rows.k / r) if down == "k" else 1.0
        onchip.append(left * left_again + right * right_again + out * out_again)
    return Demand(
        matrix=np.stack(matrix),
        executed=exact[None],
        onchip=np.stack(onchip),
        extra_dram=reread_byte(rows, machine.onchip_byte)[None],
        spread=np.ones(()),
        labels=tuple(f"{down} by {across}" for down, across in MAPPINGS),
    )


def attention(rows: AttentionRows, machine: Structure) -> Demand:
    """Two products per head; scores stay in the global buffer only as far as it reaches."""
    score = GemmRows(b=rows.heads, m=rows.q_len, n=rows.kv_len, k=rows.head_dim, left_byte=rows.byte, right_byte=rows.byte, out_byte=rows.byte)  # fmt: skip
    value = GemmRows(b=rows.heads, m=rows.q_len, n=rows.value_dim, k=rows.kv_len, left_byte=rows.byte, right_byte=rows.byte, out_byte=rows.byte)  # fmt: skip
    first, second = gemm(score, machine), gemm(value, machine)
    scores = rows.q_len * rows.kv_len * rows.byte
    spilled = np.maximum(0.0, 1.0 - machine.onchip_byte / np.maximum(scores, 1.0)) * scores * rows.heads * 2
    return Demand(
        matrix=first.matrix + second.matrix,
        executed=first.executed + second.executed,
        onchip=first.onchip + second.onchip,
        extra_dram=spilled[None],
        spread=np.ones(()),
        labels=first.labels,
    )


def stream(rows: StreamRows, machine: Structure) -> Demand:
    """Elementwise work on the grid's lanes, operands through the global buffer."""
    zero = np.zeros_like(rows.moved_byte)[None]
    return Demand(
        matrix=zero,
        executed=zero,
        onchip=rows.moved_byte[None],
        extra_dram=zero,
        spread=np.ones(()),
        labels=("lanes",),
    )
