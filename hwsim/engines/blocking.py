"""How often operands are read again, and how far work spreads over units: the same rules for every engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hwsim.engines.demand import Array, Demand, GemmRows, StreamRows, Structure
from hwsim.pricing import miss_fraction


def reread_byte(rows: GemmRows, capacity: Any) -> Array:
    """DRAM bytes of the operands beyond one read of each, under the better of two blockings of half the
    capacity.

    Panels: the smaller operand stays in pieces, each further piece streams the larger one again. Squares:
    partial sums of a square output block stay, its rows and columns stream past (2 m n k / side elements,
    Hong & Kung 1981). Both fall with capacity.
    """
    left, right = rows.m * rows.k * rows.left_byte, rows.k * rows.n * rows.right_byte
    half = np.maximum(capacity / 2, 1.0)
    small, large = np.minimum(left, right), np.maximum(left, right)
    panels = small + np.maximum(1.0, small / half) * large
    side = np.maximum(1.0, np.sqrt(half / 4.0))  # fp32 partial sums
    squares = rows.m * rows.n * rows.k * (rows.left_byte + rows.right_byte) / side
    return np.asarray(rows.b * np.maximum(0.0, np.minimum(panels, squares) - left - right))


def busiest_byte(total: Array, block: float, units: Any) -> Array:
    """Bytes of the busiest unit when `total` is dealt out in blocks of at least `block` bytes."""
    return np.asarray(np.maximum(total / units, np.minimum(total, block)))


def streamed(
    rows: StreamRows, machine: Structure, label: str, busiest: Callable[[Array], Array] | None = None
) -> Demand:
    """A pass over memory that computes no product; `busiest` says how many of the bytes one unit fetches."""
    wasted, wasted_dram = wasted_byte(rows, machine)
    fetched = rows.moved_byte + wasted
    zero = np.zeros((1, 1, 1))
    return Demand(
        matrix=zero,
        executed=zero,
        onchip=fetched[None],
        busiest=zero if busiest is None else busiest(fetched)[None],
        extra_dram=wasted_dram,
        labels=(label,),
    )


def wasted_byte(rows: StreamRows, machine: Structure) -> tuple[Array, Array]:
    """Bytes fetched beyond those wanted, where runs are shorter than one access: on chip, and from DRAM.

    A table that stays on chip comes from DRAM once at most, however often its rows are picked.
    """
    run = np.maximum(rows.run_byte, 1.0)
    c = machine.coefficients
    granule = c["gather_granule_byte"]
    wasted = rows.scattered_byte * (np.maximum(run, granule) / run - 1.0)
    missed = miss_fraction(rows.table_byte, machine.onchip_byte, c["cache_reuse_low"], c["cache_reuse_high"])
    return np.asarray(wasted), np.asarray(np.minimum(wasted, rows.table_byte + missed * wasted))
