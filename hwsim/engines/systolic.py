"""Systolic arrays (TPU, NPU, Gemmini): GEMMs folded onto R x C cells; vector unit for the rest."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.engines.blocking import reread_byte, wasted_byte
from hwsim.engines.demand import Array, AttentionRows, Demand, GemmRows, StreamRows, Structure
from hwsim.engines.simt import visible_keys
from hwsim.errors import HwsimError

QUERY_TILE = 128.0  # queries whose scores are kept on chip together; keys hidden from all of them are skipped


def gemm_cycles(m: Any, n: Any, k: Any, rows: Any, cols: Any, dataflow: str, overlap: bool = True) -> Array:
    """Cycles of an m x k times k x n product on one R x C array (Samajdar et al. 2018, SCALE-Sim).

    Without overlap every fold loads its stationary operand (R cycles, none for outputs), streams T values
    through a skewed array and drains, and the last cycle index counts from 0: folds x (load + R + C + T - 2)
    - 1; T is k with outputs, m with weights, n with inputs stationary. With overlap the next fold's load
    hides behind this fold's stream, and fill and drain are paid once.
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
    if overlap:
        hidden = (folds - 1) * np.maximum(streamed, load)
        return np.asarray(load + hidden + streamed + rows + cols - 2)
    return np.asarray(folds * (load + rows + cols + streamed - 2) - 1)


def gemm(rows: GemmRows, machine: Structure) -> Demand:
    """Independent products, then output columns or output rows, are dealt to the arrays: two candidates.

    An operand that the buffer cannot hold is read again (`reread_byte`). The buffer gives the left operand
    once per fold of columns and takes partial sums back once per fold of K; what several arrays need is
    broadcast.
    """
    dataflow = machine.dataflow if machine.dataflow in ("ws", "os", "is") else "ws"
    r, c, count = machine.array_rows, machine.array_columns, machine.array_count
    over_b = np.minimum(np.maximum(rows.b, 1.0), count)
    share = np.maximum(1.0, np.floor(count / over_b))
    dealt = ((rows.m, np.ceil(rows.n / share)), (np.ceil(rows.m / share), rows.n))
    cycles = np.stack([gemm_cycles(m, n, rows.k, r, c, dataflow) for m, n in dealt]) * np.ceil(
        rows.b / over_b
    )
    left, right = rows.b * rows.m * rows.k * rows.left_byte, rows.b * rows.k * rows.n * rows.right_byte
    out = rows.b * rows.m * rows.n * rows.out_byte
    onchip = left * np.ceil(rows.n / c) + right + out * np.ceil(rows.k / r)
    return Demand(
        matrix=cycles * (2.0 * r * c * count),
        executed=(2.0 * rows.b * rows.m * rows.n * rows.k)[None],
        onchip=onchip[None],
        busiest=np.zeros((1, 1, 1)),
        extra_dram=reread_byte(rows, machine.onchip_byte),
        labels=(f"{dataflow}, columns dealt", f"{dataflow}, rows dealt"),
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
        onchip=first.onchip + second.onchip,
        busiest=first.busiest,
        extra_dram=np.zeros((1, 1)),
        labels=first.labels,
    )


def stream(rows: StreamRows, machine: Structure) -> Demand:
    """Vector unit: everything streams through the scratchpad."""
    wasted = wasted_byte(rows, machine.coefficients["gather_granule_byte"])
    fetched = rows.moved_byte + wasted
    zero = np.zeros((1, 1, 1))
    return Demand(
        matrix=zero,
        executed=zero,
        onchip=fetched[None],
        busiest=zero,
        extra_dram=wasted,
        labels=("vector unit",),
    )
