"""CPUs: cores x SIMD with cache blocking; small products lose to ragged vectors and thread start."""

from __future__ import annotations

import numpy as np

from hwsim.engines.blocking import reread_byte
from hwsim.engines.demand import AttentionRows, Demand, GemmRows, StreamRows, Structure
from hwsim.engines.simt import visible_keys

PANEL_ROWS = (
    6.0  # rows of a register tile in BLIS-like micro-kernels (6 x 2 vectors); 1 for matrix-vector work
)
STREAM_BLOCK = 16384.0  # elements below which a loop stays on one core
MATRIX_BLOCK = 2.0**15  # multiply-adds below which a product stays on one core


def gemm(rows: GemmRows, machine: Structure) -> Demand:
    """Micro-kernels of 6 x two vectors: ragged edges are padded; short K and few rows reuse less."""
    c = machine.coefficients
    lanes = machine.lanes
    wide_m = np.ceil(rows.m / PANEL_ROWS) * PANEL_ROWS
    padded_m = np.where(rows.m < PANEL_ROWS, rows.m, wide_m)
    padded_n = np.ceil(rows.n / lanes) * lanes
    reuse = padded_m / (padded_m + c["panel_half_rows"]) * rows.k / (rows.k + c["k_prologue"])
    work = rows.b * padded_m * padded_n * rows.k
    cores = np.clip(work / MATRIX_BLOCK, 1.0, machine.units)
    left, right = rows.b * rows.m * rows.k * rows.left_byte, rows.b * rows.k * rows.n * rows.right_byte
    out = rows.b * rows.m * rows.n * rows.out_byte
    return Demand(
        matrix=(2 * work / reuse * machine.units / cores)[None],
        executed=(2 * work)[None],
        onchip=(left * np.ceil(rows.n / 2048) + right * np.ceil(rows.m / 512) + out)[None],
        extra_dram=reread_byte(rows, machine.onchip_byte)[None],
        spread=np.minimum(1.0, cores * c["block_bandwidth_share"] / machine.units)[None],
        labels=("blocked",),
    )


def attention(rows: AttentionRows, machine: Structure) -> Demand:
    """Flash attention on a core per head and query block."""
    c = machine.coefficients
    seen = visible_keys(rows, np.minimum(64.0, rows.q_len))
    width = rows.head_dim + rows.value_dim
    work = rows.heads * rows.q_len * seen * width
    cores = np.minimum(machine.units, np.maximum(1.0, rows.heads * np.ceil(rows.q_len / 64)))
    reuse = rows.q_len / (rows.q_len + c["panel_half_rows"])
    return Demand(
        matrix=(2 * work / (reuse * c["attention_efficiency"]) * machine.units / cores)[None],
        executed=(2 * work)[None],
        onchip=(rows.heads * np.ceil(rows.q_len / 64) * seen * width * rows.byte)[None],
        extra_dram=np.zeros(()),
        spread=np.minimum(1.0, cores * c["block_bandwidth_share"] / machine.units)[None],
        labels=("per head",),
    )


def stream(rows: StreamRows, machine: Structure) -> Demand:
    """Loops over memory, split over cores when long enough; a gather fetches whole cache lines."""
    c = machine.coefficients
    cores = np.clip(rows.elements / STREAM_BLOCK, 1.0, machine.units)
    waste = np.where(
        rows.run_byte > 0, np.maximum(1.0, c["gather_granule_byte"] / np.maximum(rows.run_byte, 1)), 1.0
    )
    zero = np.zeros_like(rows.moved_byte)[None]
    return Demand(
        matrix=zero,
        executed=zero,
        onchip=(rows.moved_byte * waste)[None],
        extra_dram=(rows.moved_byte * (waste - 1))[None],
        spread=np.minimum(1.0, cores * c["block_bandwidth_share"] / machine.units)[None],
        labels=("loop",),
    )
