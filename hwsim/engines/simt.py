"""GPUs: output tiles dealt to SMs in waves, split-K for skinny outputs, flash attention with optional split-KV."""

from __future__ import annotations

import numpy as np

from hwsim.engines.blocking import reread_byte
from hwsim.engines.demand import Array, AttentionRows, Demand, GemmRows, StreamRows, Structure

# Output tiles that vendor GEMM libraries ship, rows x columns, and K splits.
TILES = (
    (256, 128),
    (128, 256),
    (128, 128),
    (128, 64),
    (64, 128),
    (64, 64),
    (32, 64),
    (64, 32),
    (32, 32),
    (16, 64),
)
SPLITS = (1, 2, 4, 8, 16)
K_STEP = 32  # K elements one main-loop step consumes
QUERY_TILES = (128, 64, 16)
KV_STEP = 128
KV_SPLITS = (1, 2, 4, 8, 16, 32, 64)
STREAM_BLOCK = 1024  # elements a block of a streaming kernel handles


def gemm(rows: GemmRows, machine: Structure) -> Demand:
    """Waves x tile time: ragged edges are padded work, small tiles reuse less, split-K adds partial sums."""
    grid = [(tm, tn, split) for tm, tn in TILES for split in SPLITS]
    tm, tn, split = (np.array(column, dtype=np.float64)[:, None, None] for column in zip(*grid, strict=True))
    c = machine.coefficients
    tiles = rows.b * np.ceil(rows.m / tm) * np.ceil(rows.n / tn) * split
    depth = np.ceil(rows.k / split / K_STEP) * K_STEP
    flop_per_tile = 2 * tm * tn * depth
    reuse = tm * tn / (tm + tn)
    efficiency = reuse / (reuse + c["tile_half_reuse"]) * depth / (depth + c["k_prologue"])
    waves = np.ceil(tiles / machine.units)
    matrix = waves * machine.units * flop_per_tile / efficiency
    loads = tiles * depth * (tm * rows.left_byte + tn * rows.right_byte) / c["cluster_sharing"]
    results = rows.b * rows.m * rows.n
    partial = np.where(split > 1, 2 * 4 * split * results, 0.0)  # fp32 partial sums written and read in L2
    spread = np.minimum(1.0, tiles * c["block_bandwidth_share"] / machine.units)
    labels = tuple(f"{a}x{b}" + (f" split-K {s}" if s > 1 else "") for a, b, s in grid)
    return Demand(
        matrix=matrix,
        executed=tiles * flop_per_tile,
        onchip=loads + results * rows.out_byte + partial,
        extra_dram=reread_byte(rows, machine.onchip_byte)[None],
        spread=spread,
        labels=labels,
    )


def attention(rows: AttentionRows, machine: Structure) -> Demand:
    """Flash attention: a block per query tile, heads that share keys packed into one tile; split-KV adds blocks."""
    splits = KV_SPLITS if machine.attention_kernel in ("flash_split_kv", "stream_k") else (1,)
    split = np.array(splits, dtype=np.float64)[:, None, None]
    c = machine.coefficients
    group = rows.heads / rows.kv_heads
    pack = rows.q_len * group <= QUERY_TILES[0]
    packed, sets = np.where(pack, rows.q_len * group, rows.q_len), np.where(pack, rows.kv_heads, rows.heads)
    tq = np.select([packed <= q for q in QUERY_TILES[::-1]], QUERY_TILES[::-1], QUERY_TILES[0]).astype(
        np.float64
    )
    query_tiles = np.ceil(packed / tq)
    seen = visible_keys(rows, np.minimum(tq, rows.q_len))
    steps = np.ceil(seen / split / KV_STEP)
    width = rows.head_dim + rows.value_dim
    flop_per_tile = 2 * tq * steps * KV_STEP * width
    tiles = sets * query_tiles * split
    waves = np.ceil(tiles / machine.units)
    efficiency = c["attention_efficiency"] * tq / (tq + c["query_half_tile"])
    loads = tiles * steps * KV_STEP * width * rows.byte
    partial = np.where(split > 1, 2 * 4 * split * rows.heads * rows.q_len * rows.value_dim, 0.0)
    labels = tuple(f"split-KV {s}" if s > 1 else "one pass" for s in splits)
    return Demand(
        matrix=waves * machine.units * flop_per_tile / efficiency,
        executed=tiles * flop_per_tile,
        onchip=loads + partial + 2 * rows.heads * rows.q_len * width * rows.byte,
        extra_dram=np.zeros(()),
        spread=np.minimum(1.0, tiles * c["block_bandwidth_share"] / machine.units),
        labels=labels,
    )


def visible_keys(rows: AttentionRows, tile: Array | float) -> Array:
    """Average keys a query tile visits: all, or under a causal mask those up to its last query."""
    skipped = np.maximum(0.0, (np.minimum(rows.q_len, rows.kv_len) - tile) / 2)
    return np.asarray(np.where(rows.causal > 0, rows.kv_len - skipped, rows.kv_len))


def stream(rows: StreamRows, machine: Structure) -> Demand:
    """Streaming kernels: too few elements to fill the SMs draw only part of the bandwidth."""
    c = machine.coefficients
    blocks = np.maximum(1.0, rows.elements / STREAM_BLOCK)
    waste = np.where(
        rows.run_byte > 0, np.maximum(1.0, c["gather_granule_byte"] / np.maximum(rows.run_byte, 1)), 1.0
    )
    zero = np.zeros_like(rows.moved_byte)[None]
    return Demand(
        matrix=zero,
        executed=zero,
        onchip=(rows.moved_byte * waste)[None],
        extra_dram=(rows.moved_byte * (waste - 1))[None],
        spread=np.minimum(1.0, blocks * c["block_bandwidth_share"] / machine.units)[None],
        labels=("stream",),
    )
