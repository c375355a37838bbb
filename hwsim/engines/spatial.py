"""Spatial arrays (Eyeriss-like): operands mapped over the grid, one shared global buffer."""

from __future__ import annotations

import numpy as np

from hwsim.engines.demand import AttentionRows, Demand, GemmRows, StreamRows, Structure
from hwsim.engines.simt import visible_keys
from hwsim.engines.tiling import best_tiling

# Which GEMM dims lie along array rows and columns: outputs, or a reduction along one side.
MAPPINGS = (("m", "n"), ("n", "m"), ("k", "n"), ("k", "m"))


def gemm(rows: GemmRows, machine: Structure) -> Demand:
    """Four mappings of two dims onto the grids; the third runs in time."""
    sizes = {"m": rows.m, "n": rows.n, "k": rows.k}
    exact = 2.0 * rows.b * rows.m * rows.n * rows.k
    r, c, count = machine.array_rows, machine.array_columns, machine.array_count
    left, right = rows.b * rows.m * rows.k * rows.left_byte, rows.b * rows.k * rows.n * rows.right_byte
    out = rows.b * rows.m * rows.n * rows.out_byte
    matrix, feed = [], []
    for down, across in MAPPINGS:
        (third,) = set(sizes) - {down, across}
        folds_down, folds_across = np.ceil(sizes[down] / r), np.ceil(sizes[across] / c)
        passes = np.ceil(rows.b * folds_down * folds_across / count)
        matrix.append(passes * (sizes[third] + r + c - 2) * (2.0 * r * c * count))
        again = {
            "m": np.ceil(rows.m / (r if down == "m" else c)),
            "n": np.ceil(rows.n / (r if down == "n" else c)),
        }
        left_again = again["n"] if "n" in (down, across) else 1.0
        right_again = again["m"] if "m" in (down, across) else 1.0
        out_again = np.ceil(rows.k / r) if down == "k" else 1.0
        feed.append(left * left_again + right * right_again + out * out_again)
    tiles = best_tiling(rows, machine.onchip_byte)
    return Demand(
        matrix=np.stack(matrix),
        executed=exact[None],
        onchip=np.zeros((1, 1, 1)),
        busiest=np.zeros((1, 1, 1)),
        extra_dram=tiles.reread_byte,
        labels=tuple(f"{down} by {across}" for down, across in MAPPINGS),
        feed=np.stack(feed),
        tiling=tiles,
    )


def attention(rows: AttentionRows, machine: Structure) -> Demand:
    """Two products per head; scores stay in the global buffer only as far as it reaches."""
    seen = visible_keys(rows, np.minimum(machine.array_rows, rows.q_len))
    wide = {"left_byte": rows.byte, "right_byte": rows.byte, "out_byte": rows.byte}
    first = gemm(GemmRows(b=rows.heads, m=rows.q_len, n=seen, k=rows.head_dim, **wide), machine)
    second = gemm(GemmRows(b=rows.heads, m=rows.q_len, n=rows.value_dim, k=seen, **wide), machine)
    scores = rows.q_len * seen * rows.byte
    spilled = np.maximum(0.0, scores - machine.onchip_byte) * rows.heads * 2
    return Demand(
        matrix=first.matrix + second.matrix,
        executed=first.executed + second.executed,
        onchip=first.onchip,
        busiest=first.busiest,
        extra_dram=spilled,
        labels=first.labels,
        feed=first.feed + second.feed,
    )


def stream(rows: StreamRows, machine: Structure) -> Demand:
    """Elementwise work on the grid's lanes, operands through the global buffer."""
    zero = np.zeros((1, 1, 1))
    return Demand(
        matrix=zero,
        executed=zero,
        onchip=rows.moved_byte[None],
        busiest=zero,
        extra_dram=np.zeros((1, 1)),
        labels=("lanes",),
    )
