"""What engines receive and return. Axes: candidates C, rows R, distinct size tuples U; arrays broadcast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmRows:
    """b independent products m x k times k x n, each [R, U]; bytes per element of the operands, [R, 1]."""

    b: Array
    m: Array
    n: Array
    k: Array
    left_byte: Array
    right_byte: Array
    out_byte: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionRows:
    """`heads` q x kv attentions over `kv_heads` distinct key/value sets (batch included), each [R, U].

    `causal` [R, 1] is 1 where query i sees keys up to kv_len - q_len + i.
    """

    heads: Array
    kv_heads: Array
    q_len: Array
    kv_len: Array
    head_dim: Array
    value_dim: Array
    causal: Array
    byte: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRows:
    """Work that streams: bytes moved and elements made [R, U]; contiguous bytes of a gather (0 = all contiguous)."""

    moved_byte: Array
    elements: Array
    run_byte: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Per candidate: FLOP at nominal peak the matrix unit is busy for (waves, padding and tile efficiency included),
    FLOP truly executed, bytes through the shared on-chip level, DRAM bytes beyond the operands themselves, and the
    fraction of DRAM bandwidth that this much parallel work can draw. Arrays broadcast to [C, R, U].
    """

    matrix: Array
    executed: Array
    onchip: Array
    extra_dram: Array
    spread: Array
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """The machine without rates: what engines may read. Fields are floats or [U] arrays."""

    units: Any
    array_rows: Any
    array_columns: Any
    array_count: Any
    dataflow: str
    onchip_byte: Any
    lanes: Any
    coefficients: dict[str, Any]
    attention_kernel: str
