"""Pareto fronts over any number of objectives, less is better: divide and conquer, so that a million points
are quick.

A point is on the front if no other is at least as good in everything and better in something. Equal points
are on it together. After Kung, Luccio, Preparata (1975): sorted by the first objective, the better half can
only dominate the worse one, and only has to in the remaining objectives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.engines.demand import Array

PAIRS = 1 << 18  # pairs of points that are compared outright
SCOUTS = 64  # good points that thin out the rest first, if a sample shows that they do
SAMPLE = 2048

Mask = NDArray[np.bool_]


def front(costs: Array) -> NDArray[np.intp]:
    """Places of the points of `costs` [points, objectives] that no other dominates; points with NaN never
    are.
    """
    rows = np.flatnonzero(~np.any(np.isnan(costs), axis=1))
    if not rows.size or costs.shape[1] == 0:
        return rows
    distinct, inverse = _sorted_distinct(_thinned(costs, rows))
    kept = np.zeros(len(distinct), dtype=bool)
    kept[_front(distinct, np.arange(len(distinct)))] = True
    return np.sort(inverse.rows[kept[inverse.group]])


class _Groups:
    """Which group of equal points each row belongs to."""

    def __init__(self, rows: NDArray[np.intp], group: NDArray[np.intp]) -> None:
        self.rows, self.group = rows, group


def _thinned(costs: Array, rows: NDArray[np.intp]) -> tuple[Array, NDArray[np.intp]]:
    """The points that a few good ones do not dominate."""
    values = costs[rows]
    if len(rows) <= 8 * SCOUTS:
        return values, rows
    low, high = np.min(values, axis=0), np.max(values, axis=0)
    scale = np.where(np.isfinite(high - low) & (high > low), high - low, 1.0)
    nearness = np.sum((values - low) / scale, axis=1)
    scouts = values[np.argpartition(nearness, SCOUTS)[:SCOUTS]]
    some = values[:: len(values) // SAMPLE + 1]
    for scout in scouts:
        if some.size and np.mean(_alive(some, scout)) < 0.95:
            alive = _alive(values, scout)
            values, rows = values[alive], rows[alive]
            some = some[_alive(some, scout)]
    return values, rows


def _alive(values: Array, scout: Array) -> Mask:
    return np.asarray(np.any(values < scout, axis=1) | np.all(values == scout, axis=1))


def _sorted_distinct(points: tuple[Array, NDArray[np.intp]]) -> tuple[Array, _Groups]:
    """Distinct points in lexicographic order, and which of them every row is."""
    values, rows = points
    order = np.lexsort(values.T[::-1])
    ordered = values[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = np.any(ordered[1:] != ordered[:-1], axis=1)
    return ordered[first], _Groups(rows[order], np.cumsum(first) - 1)


def _front(points: Array, index: NDArray[np.intp]) -> NDArray[np.intp]:
    """The front among `index`, which is in lexicographic order and holds no point twice."""
    if points.shape[1] == 1:
        return index[:1]
    if points.shape[1] == 2:
        second = points[index, 1]
        lowest = np.minimum.accumulate(second)
        return np.asarray(index[np.concatenate([[True], second[1:] < lowest[:-1]])])
    if len(index) ** 2 <= PAIRS:
        return index[~_any_below(points[index], points[index], 1, itself=True)]
    half = len(index) // 2
    better, worse = _front(points, index[:half]), _front(points, index[half:])
    alive = ~_covered(points[better], points[worse], 1)
    return np.concatenate([better, worse[alive]])


def _covered(better: Array, worse: Array, start: int) -> Mask:
    """Which of `worse` have a point of `better` at or below them in objectives `start` and after."""
    covered = np.zeros(len(worse), dtype=bool)
    if not len(better) or not len(worse):
        return covered
    left = better.shape[1] - start
    if left == 1:
        return np.asarray(worse[:, start] >= np.min(better[:, start]))
    if left == 2:
        return _covered_in_plane(better[:, start:], worse[:, start:])
    if len(better) * len(worse) <= PAIRS:
        return _any_below(better, worse, start)
    low, high = np.min(better[:, start]), np.max(better[:, start])
    reach = worse[:, start] >= low
    if not np.all(reach):
        covered[reach] = _covered(better, worse[reach], start)
        return covered
    if high <= np.min(worse[:, start]):
        return _covered(better, worse, start + 1)
    # below `high`, so that both sides of the cut are smaller than the whole
    middle = np.median(better[:, start])
    pivot = middle if middle < high else np.max(better[better[:, start] < high, start], initial=low)
    near, far = better[:, start] <= pivot, worse[:, start] > pivot
    covered[far] = _covered(better[near], worse[far], start + 1)
    covered[~far] = _covered(better[near], worse[~far], start)
    rest = np.flatnonzero(far & ~covered)
    covered[rest] = _covered(better[~near], worse[rest], start)
    return covered


def _covered_in_plane(better: Array, worse: Array) -> Mask:
    order = np.argsort(better[:, 0], kind="stable")
    first, lowest = better[order, 0], np.minimum.accumulate(better[order, 1])
    reached = np.searchsorted(first, worse[:, 0], side="right")
    return np.asarray((reached > 0) & (lowest[np.maximum(reached - 1, 0)] <= worse[:, 1]))


def _any_below(better: Array, worse: Array, start: int, *, itself: bool = False) -> Mask:
    """Pair by pair. Among distinct sorted points with `itself`: which have another point at or below."""
    below: Any = np.ones((len(better), len(worse)), dtype=bool)
    for column in range(start, better.shape[1]):
        below &= better[:, column, None] <= worse[None, :, column]
    if itself:
        below = np.triu(below, k=1)  # only an earlier one can dominate
    return np.asarray(np.any(below, axis=0))
