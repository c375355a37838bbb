"""The tiling of a product under a buffer: searched over tile sizes and loop orders, as arrays.

Half the buffer holds tiles of both operands and of the sums, the other half is being filled. Per order one
operand's tile stays while the others stream past:

    sums stay      left x ceil(n / tn)   right x ceil(m / tm)   results once
    left stays     left once             right x ceil(m / tm)   partial sums 2 ceil(k / tk) - 1 times
    right stays    left x ceil(n / tn)   right once             partial sums 2 ceil(k / tk) - 1 times

For every size of one side the largest other side that fits is best, so a larger buffer never moves more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwsim.engines.demand import Array, GemmRows

SIDES = np.array([16.0 * 2**j for j in range(10)] + [np.inf])[:, None, None]  # [tiles, 1, 1]
DEPTH = 32.0  # of k that a tile of operands holds where sums stay
SUM_BYTE = 4.0
ORDERS = ("sums", "left", "right")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """The best tiles of each row, [R, U]: sides, which operand stays, and DRAM bytes beyond one pass."""

    m: Array
    n: Array
    k: Array
    stays: NDArray[np.intp]
    reread_byte: Array

    def text(self, row: int, point: int = 0) -> str:
        """A row's tiling in words."""
        at = (row, min(point, self.stays.shape[1] - 1))
        sides = "x".join(f"{float(side[at]):.0f}" for side in (self.m, self.k, self.n))
        return f"tile {sides}, {ORDERS[int(self.stays[at])]} stay{'s' if self.stays[at] else ''}"


def best_tiling(rows: GemmRows, capacity: object) -> Tiling:
    """The tiling that moves the fewest bytes, per row and point."""
    half = np.maximum(np.asarray(capacity, dtype=np.float64) / 2, 1.0)
    left_byte, right_byte = rows.left_byte, rows.right_byte
    left, right = rows.m * rows.k * left_byte, rows.k * rows.n * right_byte
    sums = rows.m * rows.n * SUM_BYTE
    found = []
    # sums stay: the side m of a tile is given, the largest n fits beside it
    m, k = np.minimum(SIDES, rows.m), np.minimum(DEPTH, rows.k)
    n = _rest(half - m * k * left_byte, m * SUM_BYTE + k * right_byte, rows.n)
    found.append((m, k, n, left * (_times(rows.n, n) - 1) + right * (_times(rows.m, m) - 1)))
    # an operand stays: its depth is given, the largest free side fits; one fold of the other streams past
    depth = np.minimum(SIDES, rows.k)
    m, n = _rest(half, depth * left_byte + SUM_BYTE, rows.m), np.minimum(1.0, rows.n) + 0.0 * depth
    again = 2.0 * (_times(rows.k, depth) - 1) * sums
    found.append((m, depth, n, right * (_times(rows.m, m) - 1) + again))
    n = _rest(half, depth * right_byte + SUM_BYTE, rows.n)
    found.append((np.minimum(1.0, rows.m) + 0.0 * depth, depth, n, left * (_times(rows.n, n) - 1) + again))
    every = [np.concatenate(np.broadcast_arrays(*parts)) for parts in zip(*found, strict=True)]
    m, k, n, more = every
    best = np.argmin(more, axis=0)
    m, k, n, more = (np.take_along_axis(one, best[None], axis=0)[0] for one in (m, k, n, more))
    without = left * (rows.n - 1) + right * (rows.m - 1)  # where no tile fits, every element for every use
    return Tiling(
        m=m, k=k, n=n, stays=best // len(SIDES), reread_byte=np.asarray(rows.b * np.minimum(more, without))
    )


def _rest(room: Array, per_unit: Array, whole: Array) -> Array:
    """The largest side for which there is room, at least one, at most the whole."""
    return np.asarray(np.minimum(np.maximum(np.floor(room / per_unit), 0.0), whole))


def _times(whole: Array, tile: Array) -> Array:
    """Tiles along a side; without room for any, no number of them is enough."""
    return np.asarray(np.where(tile > 0, np.ceil(whole / np.maximum(tile, 1.0)), np.inf))
