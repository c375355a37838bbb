"""CPUs: cores x SIMD with cache blocking; small products lose to ragged vectors and thread start."""

from __future__ import annotations

import numpy as np

from hwsim.engines.blocking import busiest_byte, reread_byte, streamed
from hwsim.engines.demand import Array, AttentionRows, Demand, GemmRows, StreamRows, Structure
from hwsim.engines.simt import visible_keys

# Rows of a register tile in BLIS-like micro-kernels (6 x 2 vectors); matrix-vector work has its own.
PANEL_ROWS = 6.0
MATRIX_BLOCK = 2.0**15  # multiply-adds below which a product stays on one core
# Queries of a head that one core takes at once in torch's kernel, and how many such blocks there may be
# before the next larger size is used (192 and 768 queries).
QUERY_BLOCKS = ((32.0, 6.0), (64.0, 12.0), (256.0, np.inf))
KEY_BLOCK = 512.0  # keys that torch's kernel takes at once
BYTE_BLOCK = 65536.0  # bytes below which a loop stays on one core


def gemm(rows: GemmRows, machine: Structure) -> Demand:
    """Micro-kernels of 6 x two vectors: ragged edges are padded; short K and few rows reuse less.

    One row is a product with a vector and packs nothing. Weights from DRAM come later than a stream would:
    each row is waited for before the prefetcher has seen it, and so is part of the rest. No arithmetic hides
    that, as rows are packed before they are multiplied.
    """
    c = machine.coefficients
    padded_m = np.where(rows.m < PANEL_ROWS, rows.m, np.ceil(rows.m / PANEL_ROWS) * PANEL_ROWS)
    padded_n = np.ceil(rows.n / machine.lanes) * machine.lanes
    work = rows.b * padded_m * padded_n * rows.k
    packing = np.where(rows.m > 1, c["panel_half_rows"], 0.0)
    busy = rows.b * (padded_m + packing) * padded_n * (rows.k + c["k_prologue"])
    left, right = rows.b * rows.m * rows.k * rows.left_byte, rows.b * rows.k * rows.n * rows.right_byte
    out = rows.b * rows.m * rows.n * rows.out_byte
    onchip = left * np.ceil(rows.n / 2048) + right * np.ceil(rows.m / 512) + out
    waited = (
        rows.b * rows.n * rows.missed * (c["row_start_byte"] + c["weight_wait"] * rows.k * rows.right_byte)
    )
    return Demand(
        matrix=_on_cores(2 * busy, 2 * MATRIX_BLOCK, machine)[None],
        executed=(2 * work)[None],
        onchip=onchip[None],
        busiest=busiest_byte(onchip, BYTE_BLOCK, machine.units)[None],
        extra_dram=reread_byte(rows, machine.onchip_byte),
        labels=("blocked",),
        waited=waited,
    )


def attention(rows: AttentionRows, machine: Structure) -> Demand:
    """Flash attention on a core per head and query block; the softmax of a score stands as FLOP beside it.

    Keys are skipped by blocks of `KEY_BLOCK`, so that a causal mask saves nothing over shorter ones.
    Each pair of a query and a key block is two small products to call and pack, however few its scores.
    """
    c = machine.coefficients
    blocks = query_blocks(rows.q_len)
    size = rows.q_len / blocks
    seen = visible_keys(rows, np.maximum(KEY_BLOCK, np.minimum(size, rows.q_len)))
    width = rows.head_dim + rows.value_dim
    executed = 2 * seen * width
    per_query = seen * (2 * width / c["attention_efficiency"] + c["score_flop"])
    filled = np.minimum(1.0, rows.q_len / QUERY_BLOCKS[0][0])
    per_block = c["block_flop"] * filled * np.ceil(seen / KEY_BLOCK)
    half = c["query_half_rows"]
    busy = rows.heads * ((rows.q_len + half) * per_query + blocks * per_block)
    onchip = rows.heads * blocks * seen * width * rows.byte
    return Demand(
        matrix=_on_cores(busy, (size + half) * per_query + per_block, machine)[None],
        executed=(rows.heads * rows.q_len * executed)[None],
        onchip=onchip[None],
        busiest=busiest_byte(onchip, BYTE_BLOCK, machine.units)[None],
        extra_dram=np.zeros((1, 1)),
        labels=("per head",),
    )


def query_blocks(q_len: Array) -> Array:
    """Blocks that queries of a head are cut into, larger ones the more there are; never fewer of more."""
    found = np.ones(np.shape(q_len))
    for size, most in QUERY_BLOCKS:
        found = np.maximum(found, np.minimum(np.ceil(q_len / size), most))
    return np.asarray(found)


def stream(rows: StreamRows, machine: Structure) -> Demand:
    """Loops over memory, split over cores when long enough; a gather fetches whole cache lines."""
    return streamed(rows, machine, "loop", lambda byte: busiest_byte(byte, BYTE_BLOCK, machine.units))


def _on_cores(busy: Array, block: Array | float, machine: Structure) -> Array:
    """FLOP the machine is busy for when `busy` is dealt to cores in blocks, at least one on one core."""
    return np.asarray(np.maximum(busy, np.minimum(busy, block) * machine.units))
