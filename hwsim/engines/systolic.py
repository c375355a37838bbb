"""Systolic arrays (TPU, NPU, Gemmini): GEMMs folded onto R x C cells; vector unit for the rest."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.engines.blocking import streamed
from hwsim.engines.demand import Array, AttentionRows, Demand, GemmRows, StreamRows, Structure
from hwsim.engines.simt import visible_keys
from hwsim.engines.tiling import best_tiling
from hwsim.errors import HwsimError

DATAFLOWS = ("ws", "os", "is")
STREAMED = {"ws": "rows", "os": "depth", "is": "columns"}
PARTS = (1, 2, 4, 8, 16, 32, 64, 128)  # into which the streamed side is cut for several arrays
QUERY_TILE = 128.0  # queries whose scores are kept on chip together; keys hidden from all of them are skipped


def gemm_cycles(
    m: Any,
    n: Any,
    k: Any,
    rows: Any,
    cols: Any,
    dataflow: str,
    overlap: bool = True,
    *,
    batch: Any = 1.0,
    arrays: Any = 1.0,
    parts: Any = 1.0,
    fill: Any = 1.0,
) -> Array:
    """Cycles of `batch` m x k times k x n products on R x C arrays (Samajdar et al. 2018, SCALE-Sim).

    Without overlap every fold loads its stationary operand (R cycles, none for outputs), streams T values
    through a skewed array and drains, and the last cycle index counts from 0: folds x (load + R + C + T - 2)
    - 1; T is k with outputs, m with weights, n with inputs stationary. With overlap the next fold's load
    hides behind this fold's stream, and fill and drain are paid once. Folds are dealt to `arrays`, each in
    `parts` of the streamed side; partial sums of different arrays meet in their accumulators. `fill` is the
    share of the first load, fill and drain that shows: it may hide behind the fetch of operands.
    """
    m, n, k, rows, cols = (np.asarray(v, dtype=np.float64) for v in (m, n, k, rows, cols))
    if dataflow == "os":
        streamed, load, folds = k, 0.0 * rows, np.ceil(m / rows) * np.ceil(n / cols)
    elif dataflow == "ws":
        streamed, load, folds = m, rows, np.ceil(k / rows) * np.ceil(n / cols)
    elif dataflow == "is":
        streamed, load, folds = n, rows, np.ceil(k / rows) * np.ceil(m / cols)
    else:
        raise HwsimError(f"dataflow {dataflow!r} is unknown; use 'ws', 'os' or 'is'")
    passes, streamed = np.ceil(batch * folds * parts / arrays), np.ceil(streamed / parts)
    if overlap:
        hidden = (passes - 1) * np.maximum(streamed, load)
        return np.asarray(hidden + streamed + fill * (load + rows + cols - 2))
    return np.asarray(passes * (load + rows + cols + streamed - 2) - 1)


def sram_elements(m: Any, n: Any, k: Any, rows: Any, cols: Any, dataflow: str) -> tuple[Array, Array, Array]:
    """Elements of left operand, right operand and results that pass between buffer and array.

    What is stationary is read once; what streams is read once per fold of the side it does not lie along;
    partial sums go back once per fold of k unless they are what stays.
    """
    m, n, k, rows, cols = (np.asarray(v, dtype=np.float64) for v in (m, n, k, rows, cols))
    down = np.ceil((m if dataflow == "os" else k) / rows)
    across = np.ceil((m if dataflow == "is" else n) / cols)
    left, right, out = m * k, k * n, m * n
    if dataflow == "os":
        return left * across, right * down, out
    if dataflow == "ws":
        return left * across, right, out * down
    return left, right * across, out * down


def dataflows(machine: Structure) -> tuple[str, ...]:
    """What may be stationary: what the profile says, all three where it says `any`."""
    return DATAFLOWS if machine.dataflow == "any" else (machine.dataflow,)


def gemm(rows: GemmRows, machine: Structure) -> Demand:
    """Every dataflow the arrays can do, the streamed side in parts: folds are dealt to the arrays.

    Operands that the buffer cannot hold are read again as the best tiling says (`hwsim.engines.tiling`); it
    is the same for all candidates. Sums stay in the accumulators; what several arrays need is broadcast.
    """
    r, c, count = machine.array_rows, machine.array_columns, machine.array_count
    matrix, feed, labels = [], [], []
    for dataflow in dataflows(machine):
        left, right, _ = sram_elements(rows.m, rows.n, rows.k, r, c, dataflow)
        taken = rows.b * (left * rows.left_byte + right * rows.right_byte + rows.m * rows.n * rows.out_byte)
        for parts in PARTS if np.max(count) > 1 else PARTS[:1]:
            cycles = gemm_cycles(
                rows.m, rows.n, rows.k, r, c, dataflow, batch=rows.b, arrays=count, parts=parts,
                fill=machine.coefficients["fill_share"],
            )  # fmt: skip
            matrix.append(cycles * (2.0 * r * c * count))
            feed.append(taken)
            labels.append(f"{dataflow}, {STREAMED[dataflow]} in {parts}" if parts > 1 else dataflow)
    tiles = best_tiling(rows, machine.onchip_byte)
    return Demand(
        matrix=np.stack(np.broadcast_arrays(*matrix)),
        executed=(2.0 * rows.b * rows.m * rows.n * rows.k)[None],
        onchip=np.zeros((1, 1, 1)),
        busiest=np.zeros((1, 1, 1)),
        extra_dram=tiles.reread_byte,
        labels=tuple(labels),
        feed=np.stack(np.broadcast_arrays(*feed)),
        tiling=tiles,
    )


def attention(rows: AttentionRows, machine: Structure) -> Demand:
    """Scores and values as two GEMMs per head with the score tile kept on chip."""
    c = machine.coefficients
    seen = visible_keys(rows, np.minimum(QUERY_TILE, rows.q_len))
    wide, kept = rows.byte, 0.0 * rows.byte
    score = GemmRows(
        b=rows.heads, m=rows.q_len, n=seen, k=rows.head_dim, left_byte=wide, right_byte=wide, out_byte=kept
    )
    value = GemmRows(
        b=rows.heads, m=rows.q_len, n=rows.value_dim, k=seen, left_byte=kept, right_byte=wide, out_byte=wide
    )
    first, second = gemm(score, machine), gemm(value, machine)
    return Demand(
        matrix=(first.matrix + second.matrix) / c["attention_efficiency"],
        executed=first.executed + second.executed,
        onchip=first.onchip,
        busiest=first.busiest,
        extra_dram=np.zeros((1, 1)),
        labels=first.labels,
        feed=first.feed + second.feed,
    )


def stream(rows: StreamRows, machine: Structure) -> Demand:
    """Vector unit: everything streams through the scratchpad."""
    return streamed(rows, machine, "vector unit")
