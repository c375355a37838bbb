"""GPUs: output tiles dealt to SMs in waves, split-K for skinny outputs, flash attention with split-KV."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwsim.engines.blocking import busiest_byte, reread_byte, streamed
from hwsim.engines.demand import Array, AttentionRows, Demand, GemmRows, StreamRows, Structure
from hwsim.engines.splitting import fixed_split

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
LANE_TILES = ((128, 128), (128, 64), (64, 128), (64, 64), (128, 32), (32, 128))  # of single-precision kernels
SPLITS = (1, 2, 4, 8, 16)
K_STEP, LANE_K_STEP = 32.0, 8.0  # K elements one main-loop step consumes on matrix units and on lanes
NARROW = 8.0  # channels out per group up to which a convolution has kernels that make no matrix product of it
# Multiply-adds of such a kernel beside the lanes' own rate: it loads an operand for each, 32 a clock and unit
# beside 64 to 128 multiply-adds.
DIRECT_SHARE = 0.25
NEVER = 1e-6  # efficiency of a tile that the units of a row have no kernel for
ALIGNED_BYTE = 16.0  # vector loads need rows that begin at multiples of it
QUERY_TILES = (128, 64, 16)
KV_STEP = 128
NARROW_BYTE = 2.0  # elements below it are of 8 bits or fewer
# FlashAttention 2 and LeanAttention (public sources): a decoded token is padded to 64 rows
LEAST_TILE = {"flash_attention_2": 64, "flash_decoding": 64, "stream_k": 64}
KV_SPLITS = (1, 2, 4, 8, 16, 32, 64)
DECODED = 8.0  # queries per sequence up to which kernels pack the heads of a group into one tile
_SCHEDULES = {"flash_decoding": "split-KV by rule", "stream_k": "stream-K"}
ROW_OF_A_WARP = 1024.0  # elements of a softmax row up to which one warp keeps it in registers (torch)
STREAM_BLOCK = 8192.0  # bytes a block of a streaming kernel handles: 256 threads x two 16 B accesses


def gemm(rows: GemmRows, machine: Structure) -> Demand:
    """The tiles of a library; a direct kernel also, for one row times a matrix and for narrow convolutions
    such as depthwise ones."""
    tiled = _tiled(rows, machine)
    narrow = ((rows.gathered > 0) & (rows.n <= NARROW)) | (rows.m <= 1)
    return _or_direct(tiled, rows, machine, narrow) if np.any(narrow) else tiled


def _or_direct(tiled: Demand, rows: GemmRows, machine: Structure, narrow: NDArray[np.bool_]) -> Demand:
    """One more candidate for `narrow` rows: each output by itself on ordinary lanes, inputs streamed once."""
    flop = 2 * rows.b * rows.m * rows.n * rows.k
    read = np.where(rows.gathered > 0, rows.m * rows.left_byte, rows.k * rows.right_byte)
    moved = rows.b * rows.n * (read + rows.m * rows.out_byte)

    def both(before: Array, direct: Array) -> Array:
        shape = np.broadcast_shapes(before.shape[1:], direct.shape)
        return np.concatenate([np.broadcast_to(one, (len(one), *shape)) for one in (before, direct[None])])

    return Demand(
        matrix=both(tiled.matrix, np.where(narrow, 0.0, flop / NEVER)),
        executed=both(tiled.executed, flop),
        onchip=both(tiled.onchip, moved),
        busiest=both(tiled.busiest, busiest_byte(moved, STREAM_BLOCK, machine.units)),
        extra_dram=tiled.extra_dram,
        labels=(*tiled.labels, "direct"),
        lanes=both(np.zeros((len(tiled.labels), 1, 1)), np.where(narrow, flop / DIRECT_SHARE, 0.0)),
    )


def _tiled(rows: GemmRows, machine: Structure) -> Demand:
    """Waves x tile time: ragged edges are padded work, small tiles reuse less, split-K adds partial sums.

    Batched products on lanes find few kernels in a library: whole tiles of a least size, K in one piece.
    """
    lanes = rows.on_lanes > 0
    grid = [(*tile, split) for tile in TILES for split in SPLITS] if not np.all(lanes) else []
    matrix_grid = len(grid)
    grid += [(*tile, split) for tile in LANE_TILES for split in SPLITS] if np.any(lanes) else []
    tm, tn, split = (np.array(column, dtype=np.float64)[:, None, None] for column in zip(*grid, strict=True))
    c = machine.coefficients
    tiles = rows.b * np.ceil(rows.m / tm) * np.ceil(rows.n / tn) * split
    step = np.where(lanes, LANE_K_STEP, K_STEP)
    depth = np.ceil(rows.k / split / step) * step
    flop_per_tile = 2 * tm * tn * depth
    reuse = tm * tn / (tm + tn)
    half_reuse = np.where(lanes, c["lane_tile_half_reuse"], c["tile_half_reuse"])
    prologue = np.where(lanes, c["lane_k_prologue"], c["k_prologue"])
    efficiency = reuse / (reuse + half_reuse) * depth / (depth + prologue)
    aligned = _aligned(rows)
    efficiency = efficiency * np.where(aligned, 1.0, c["unaligned_share"])
    efficiency = efficiency / np.where(rows.right_byte < rows.left_byte, c["widening_slowdown"], 1.0)
    byte_per_tile = depth * (
        np.minimum(tm, rows.m) * rows.left_byte + np.minimum(tn, rows.n) * rows.right_byte
    )
    byte_per_tile = byte_per_tile * np.where(aligned, 1.0, c["unaligned_traffic"])
    results = rows.b * rows.m * rows.n
    partial = np.where(split > 1, 2 * 4 * split * results, 0.0)  # fp32 partial sums written and read in L2
    suits = (np.arange(len(grid)) >= matrix_grid)[:, None, None] == lanes
    shipped = (tm * tn >= c["batched_lane_tile"]) & (split == 1)
    suits = suits & (shipped | ~lanes | (rows.b <= 1))
    efficiency = np.where(suits, efficiency, NEVER)
    return Demand(
        matrix=np.ceil(tiles / machine.units) * machine.units * flop_per_tile / efficiency,
        executed=tiles * flop_per_tile,
        onchip=tiles * byte_per_tile / c["cluster_sharing"] + results * rows.out_byte + partial,
        busiest=np.maximum(1.0, tiles / machine.units) * byte_per_tile / c["unit_sharing"],
        extra_dram=reread_byte(rows, machine.onchip_byte),
        labels=tuple(f"{a}x{b}" + (f" split-K {s}" if s > 1 else "") for a, b, s in grid),
    )


def _aligned(rows: GemmRows) -> Array:
    """Whether the rows of both operands begin at multiples of a vector load."""
    left, right = rows.k * rows.left_byte % ALIGNED_BYTE, rows.n * rows.right_byte % ALIGNED_BYTE
    return np.asarray(((left == 0) & (right == 0)) | (rows.gathered > 0))


def attention(rows: AttentionRows, machine: Structure) -> Demand:
    """Flash attention: a block per tile of queries; split-KV adds blocks, and a pass that joins them.

    Kernels for few queries may pack the heads that share keys into one tile, which reads keys less often
    and makes fewer blocks; the others give each head its own. Keys stored narrower than queries cost
    nothing extra: engines narrow the queries as well. A unit holds several blocks, so that all but the
    first begin while others work. FlashDecoding takes the split that its rule names, not the
    best. Stream-K has no such grid: the key steps of all tiles stand in one line, dealt evenly to two
    blocks a unit; these leave partial results (LeanAttention) where a tile goes over from one to the next.
    A unit then begins as many tiles as its stretch of the line touches.
    """
    kernel, c = machine.attention_kernel, machine.coefficients
    splits = KV_SPLITS if kernel == "flash_split_kv" else (1,)
    grid = [(split, packs) for packs in (True, False) for split in splits]
    split, packs = (np.array(column, dtype=np.float64)[:, None, None] for column in zip(*grid, strict=True))
    group = rows.heads / rows.kv_heads
    packed = rows.q_len * np.where((rows.q_len <= DECODED) & (packs > 0), group, 1.0)
    sizes = [size for size in QUERY_TILES[::-1] if size >= LEAST_TILE.get(kernel, 1)]
    tile = np.select([packed <= size for size in sizes], sizes, sizes[-1])
    if kernel == "flash_decoding":
        split = fixed_split(rows, packed, machine.units)
    steps = np.ceil(visible_keys(rows, tile * rows.q_len / packed) / split / KV_STEP)
    width = rows.head_dim + rows.value_dim
    flop_per_tile = 2.0 * tile * steps * KV_STEP * width
    tiles = rows.heads * rows.q_len / packed * np.ceil(packed / tile) * split
    efficiency = c["attention_efficiency"] * tile / (tile + c["query_half_tile"])
    efficiency = efficiency * np.where(rows.query_byte < NARROW_BYTE, c["narrow_attention_share"], 1.0)
    byte_per_tile = steps * KV_STEP * width * rows.byte
    partial = np.where(split > 1, 2 * 4 * split * rows.heads * rows.q_len * rows.value_dim, 0.0)
    waves, most = np.ceil(tiles / machine.units), np.maximum(1.0, tiles / machine.units)
    begun = 1.0 + (waves - 1.0) / c["blocks_together"] + (split > 1)
    if kernel == "stream_k":
        waves = most = np.ceil(tiles * steps / machine.units) / steps
        blocks = np.minimum(2.0 * machine.units, tiles * steps)
        begun = 1.0 + np.maximum(0.0, tiles / machine.units - 1.0 / steps) / c["blocks_together"]
        partial = 2 * 4 * blocks * np.minimum(tile, packed) * rows.value_dim
    return Demand(
        matrix=waves * machine.units * flop_per_tile / efficiency,
        executed=tiles * flop_per_tile,
        onchip=tiles * byte_per_tile + partial + 2 * rows.heads * rows.q_len * width * rows.byte,
        busiest=most * byte_per_tile,
        extra_dram=np.zeros((1, 1)),
        labels=tuple(_attention_label(kernel, int(s), bool(p)) for s, p in grid),
        begun=begun,
    )


def _attention_label(kernel: str, split: int, packs: bool) -> str:
    name = _SCHEDULES.get(kernel) or (f"split-KV {split}" if split > 1 else "one pass")
    return name if packs else f"{name}, heads apart"


def visible_keys(rows: AttentionRows, tile: Array | float) -> Array:
    """Average keys that a tile of queries visits: all, or under a causal mask those up to its last query,
    from the first of its window on.
    """
    skipped = np.maximum(0.0, (np.minimum(rows.q_len, rows.kv_len) - tile) / 2)
    seen = np.where(rows.causal > 0, rows.kv_len - skipped, rows.kv_len)
    if rows.window is None:
        return np.asarray(seen)
    most, fewest = rows.kv_len, rows.kv_len - 2 * skipped  # up to the last query of the last, the first tile
    window = np.minimum(rows.window + np.minimum(tile, rows.q_len) - 1, most)
    growing = np.maximum(window - fewest, 0.0)  # tiles whose first queries lie within a window of the start
    within = window - growing * growing / (2 * np.maximum(most - fewest, 1.0))
    return np.asarray(np.where(rows.causal > 0, np.minimum(within, seen), rows.kv_len))


def stream(rows: StreamRows, machine: Structure) -> Demand:
    """Streaming kernels: too few bytes to fill the SMs; a gather fetches whole sectors.

    Whoever combines a row waits for it: an SM then takes longer for a byte. A softmax row that a warp can
    hold passes at the speed of a copy, a longer one is read again by a whole block.
    """
    c = machine.coefficients
    slower = np.where(rows.row > ROW_OF_A_WARP, c["long_row_slowdown"], 1.0)
    slower = slower * np.where(rows.combined > 0, c["reduction_slowdown"], 1.0)
    slower = slower * np.where(rows.scattered_byte > 0, c["lookup_slowdown"], 1.0)
    return streamed(
        rows,
        machine,
        "stream",
        lambda byte: np.asarray(busiest_byte(byte, STREAM_BLOCK, machine.units) * slower),
    )
