"""What engines receive and return. Axes: candidates C, rows R, distinct size tuples U; arrays broadcast."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hwsim.engines.tiling import Tiling

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmRows:
    """b independent products m x k times k x n, each [R, U]; bytes per element of the operands, [R, 1].

    `on_lanes` [R, 1] is 1 where the dtype has no matrix unit and ordinary SIMD lanes multiply;
    `gathered` where operands are collected first (convolution): the alignment of k and n says nothing.
    `missed` is the share of the right operand that no cache holds.
    """

    b: Array
    m: Array
    n: Array
    k: Array
    left_byte: Array
    right_byte: Array
    out_byte: Array
    on_lanes: Array = field(default_factory=lambda: np.zeros((1, 1)))
    gathered: Array = field(default_factory=lambda: np.zeros((1, 1)))
    missed: Array = field(default_factory=lambda: np.ones((1, 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionRows:
    """`heads` q x kv attentions over `kv_heads` distinct key/value sets (batch included), each [R, U].

    `causal` [R, 1] is 1 where query i sees keys up to kv_len - q_len + i, and of these only the last `window`
    [R, U], infinite where there is none; `byte` is of a key element, `query_byte` of a query element.
    """

    heads: Array
    kv_heads: Array
    q_len: Array
    kv_len: Array
    head_dim: Array
    value_dim: Array
    causal: Array
    byte: Array
    query_byte: Array
    window: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRows:
    """Work that streams, [R, U]: bytes moved, those of them read in scattered runs, the bytes of one run, and
    those of the table that the runs are picked from.

    `combined` [R, 1] is 1 for norms and other work that combines the elements of a row; `row` [R, U] are the
    elements of a row of softmax, 0 elsewhere.
    """

    moved_byte: Array
    scattered_byte: Array
    run_byte: Array
    table_byte: Array
    combined: Array = field(default_factory=lambda: np.zeros((1, 1)))
    row: Array = field(default_factory=lambda: np.zeros((1, 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What each candidate asks, arrays that broadcast to [C, R, U]; never less for larger rows, never more
    for more units.

    `matrix`: FLOP at nominal peak the matrix unit is busy for (waves, padding and tile efficiency included);
    `executed`: FLOP truly executed; `onchip`: bytes through the shared on-chip level; `busiest`: bytes
    through the unit with the most of them; `lanes`: FLOP at the peak of ordinary lanes that these are busy
    for, where no matrix unit multiplies; `begun`: blocks that unit begins one after the other, beyond what
    `matrix` holds; `feed`: bytes between buffer and arrays while these compute. `extra_dram` [R, U] are DRAM
    bytes beyond the operands themselves,
    the same for every candidate: else a faster DRAM could invite a candidate that spends more energy, and
    throttling slow it down. `waited` [R, U] are bytes that could come from DRAM while it is waited for and
    nothing else is done.
    """

    matrix: Array
    executed: Array
    onchip: Array
    busiest: Array
    extra_dram: Array
    labels: tuple[str, ...]
    feed: Array = field(default_factory=lambda: np.zeros((1, 1, 1)))
    tiling: Tiling | None = None  # under the buffer, the same for every candidate
    begun: Array = field(default_factory=lambda: np.zeros((1, 1, 1)))
    lanes: Array = field(default_factory=lambda: np.zeros((1, 1, 1)))
    waited: Array = field(default_factory=lambda: np.zeros((1, 1)))


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
