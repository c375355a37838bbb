"""Systolic arrays (TPU, NPU, Gemmini): GEMMs folded onto R x C cells; vector unit for the rest."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.engines.blocking import reread_byte
from hwsim.engines.demand import Array, AttentionRows, Demand, GemmRows, StreamRows, Structure
from hwsim.errors import HwsimError


def gemm_cycles(m: Any, n: Any, k: Any, rows: Any, cols: Any, dataflow: str, overlap: bool = True) -> Array:
    """Cycles of an m x k times k x n product on one R x C array (Samajdar et al. 2018, SCALE-Sim).

    Without overlap every fold loads its stationary operand (R cycles, none for outputs), streams T values through a
    skewed array and drains, and the last cycle index counts from 0: folds x (load + R + C + T - 2) - 1; T is k with
    outputs, m with weights, n with inputs stationary. With overlap the next fold's load hides behind this fold's
    stream, and fill and drain are paid once.
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
        return np.asarray(folds * np.maximum(streamed, load) + load + rows + cols - 2)
    return np.asarray(folds * (load + rows + cols + streamed - 2) - 1)


def gemm(rows: GemmRows, machine: Structure) -> Demand:
    """Independent products and output columns are dealt to the arrays; the machine's dataflow is the candidate.

    An operand that the buffer cannot hold is read again (`reread_byte`).
    """
    dataflow = machine.dataflow if machine.dataflow in ("ws", "os", "is") else "ws"
    r, c, count = machine.array_rows, machine.array_columns, machine.array_count
    over_b = np.minimum(np.maximum(rows.b, 1.0), count)
    per_b = np.ceil(rows.b / over_b)
    over_n = np.maximum(1.0, np.floor(count / over_b))
    cycles = per_b * gemm_cycles(rows.m, np.ceil(rows.n / over_n), rows.k, r, c, dataflow)
    flop_per_cycle = 2.0 * r * c * count
    exact = 2.0 * rows.b * rows.m * rows.n * rows.k
    left, right = rows.b * rows.m * rows.k * rows.left_byte, rows.b * rows.k * rows.n * rows.right_byte
    out = rows.b * rows.m * rows.n * rows.out_byte
    onchip = left * np.ceil(rows.n / c) + right + out * np.ceil(rows.k / r)
    return Demand(
        matrix=(cycles * flop_per_cycle)[None],
        executed=exact[None],
        onchip=onchip[None],
        extra_dram=reread_byte(rows, machine.onchip_byte)[None],
        spread=np.ones(()),
        labels=(dataflow,),
    )


def attention(rows: AttentionRows, machine: Structure) -> Demand:
    """Scores and values as two GEMMs per head with the score tile kept on chip."""
    c = machine.coefficients
    seen = rows.kv_len - np.where(rows.causal > 0, np.maximum(0.0, (rows.q_len - 128.0) / 2), 0.0)
    score = GemmRows(b=rows.heads, m=rows.q_len, n=seen, k=rows.head_dim, left_byte=rows.byte, right_byte=rows.byte, out_byte=0 * rows.byte)  # fmt: skip
    value = GemmRows(b=rows.heads, m=rows.q_len, n=rows.value_dim, k=seen, left_byte=0 * rows.byte, right_byte=rows.byte, out_byte=rows.byte)  # fmt: skip
    first, second = gemm(score, machine), gemm(value, machine)
    return Demand(
        matrix=(first.matrix + second.matrix) / c["attention_efficiency"],
        executed=first.executed + second.executed,
        onchip=first.onchip + second.onchip,
        extra_dram=np.zeros(()),
        spread=np.ones(()),
        labels=("two products",),
    )


def stream(rows: StreamRows, machine: Structure) -> Demand:
    """Vector unit: everything streams through the scratchpad."""
    c = machine.coefficients
    waste = np.where(
        rows.run_byte > 0, np.maximum(1.0, c["gather_granule_byte"] / np.maximum(rows.run_byte, 1)), 1.0
    )
    zero = np.zeros_like(rows.moved_byte)[None]
    return Demand(
        matrix=zero,
        executed=zero,
        onchip=(rows.moved_byte * waste)[None],
        extra_dram=(rows.moved_byte * (waste - 1))[None],
        spread=np.ones(()),
        labels=("vector unit",),
    )
