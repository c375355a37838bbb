"""The numeric points of a case in the order they are priced: what has few values varies slowest.

Any run of points is made on its own, without those before it, so that processes and clusters need no list of
points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import numpy as np

from hwsim.engines.demand import Array
from hwsim.errors import HwsimError
from hwsim.sweeps.axes import Axis

STRATUM = 4096  # points of a random sample that are drawn together
LARGEST_HYPERCUBE = 10_000_000  # points; every process holds all of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """How many points are drawn, and how: `random`, `lhs` or `sobol`."""

    points: int
    method: str
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Space:
    """The product of grid axes, slowest first, with each of whose points come all samples."""

    grid: tuple[Axis, ...]
    sampled: tuple[Axis, ...]
    sample: Sample | None

    @property
    def drawn(self) -> int:
        return self.sample.points if self.sample is not None and self.sampled else 1

    @property
    def points(self) -> int:
        total = self.drawn
        for axis in self.grid:
            total *= int(axis.distinct)
        return total

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Every axis, slowest first."""
        return (*self.grid, *self.sampled)

    def corner(self, *, high: bool) -> dict[tuple[str, ...], Array]:
        """The point of all least, or all largest, values."""
        found = {}
        for axis in self.axes:
            values = axis.quantile(np.array([0.0, 1.0])) if axis.values is None else axis.values
            found[axis.names] = np.atleast_1d(np.max(values) if high else np.min(values))
        return found

    def at(self, start: int, stop: int) -> dict[tuple[str, ...], Array]:
        """Values of every axis at points [start, stop)."""
        found: dict[tuple[str, ...], Array] = {}
        index = np.arange(start, stop)
        outer = index // self.drawn
        for axis in reversed(self.grid):
            assert axis.values is not None  # of a grid
            outer, at = np.divmod(outer, axis.values.size)
            found[axis.names] = axis.values[at]
        if self.sampled:
            shares = self._shares(start, stop)
            for column, axis in enumerate(self.sampled):
                found[axis.names] = axis.quantile(shares[:, column])
        return found

    def _shares(self, start: int, stop: int) -> Array:
        """The samples in the unit cube that belong to points [start, stop); they repeat for each point of the
        grid.
        """
        assert self.sample is not None
        drawn, wanted = self.drawn, []
        while start < stop:
            first = start % drawn
            last = min(first + stop - start, drawn)
            wanted.append(unit_samples(self.sample, len(self.sampled), first, last))
            start += last - first
        return np.concatenate(wanted)


def space(axes: list[Axis], sample: Sample | None) -> Space:
    """The space of some axes, in the order that keeps slow what has few values."""
    ordered = sorted(axes, key=lambda axis: axis.distinct)
    sampled = tuple(axis for axis in ordered if axis.values is None)
    if sample is not None and sample.method == "lhs" and sample.points > LARGEST_HYPERCUBE:
        raise HwsimError(
            f"a Latin hypercube of {sample.points} points is too large (at most {LARGEST_HYPERCUBE}); "
            "take method 'sobol' or 'random'"
        )
    return Space(
        grid=tuple(axis for axis in ordered if axis.values is not None), sampled=sampled, sample=sample
    )


def unit_samples(sample: Sample, dimensions: int, start: int, stop: int) -> Array:
    """Samples [start, stop) of the unit cube. Of a random sample and a hypercube the first column rises."""
    if sample.points <= STRATUM or sample.method == "lhs":
        return _whole(sample.method, sample.points, sample.seed, dimensions)[start:stop]
    if sample.method == "sobol":
        return _sobol(sample.seed, dimensions).rows(start, stop)
    counts = _strata(sample.points, sample.seed)
    edges = np.concatenate([[0], np.cumsum(counts)])
    first, last = np.searchsorted(edges, [start, stop - 1], side="right") - 1
    rows = [
        _stratum(sample.seed, counts.size, number, int(counts[number]), dimensions)
        for number in range(first, last + 1)
    ]
    return np.concatenate(rows)[start - edges[first] : stop - edges[first]]


@lru_cache(maxsize=4)
def _whole(method: str, points: int, seed: int, dimensions: int) -> Array:
    if method == "random":
        return _sorted(np.random.default_rng(seed).random((points, dimensions)))
    if method == "sobol":
        return _sorted(_sobol(seed, dimensions).rows(0, points))
    from scipy.stats import qmc

    return _sorted(qmc.LatinHypercube(dimensions, rng=np.random.default_rng(seed)).random(points))


def _sorted(rows: Array) -> Array:
    return rows[np.argsort(rows[:, 0], kind="stable")]


@lru_cache(maxsize=4)
def _strata(points: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """How many of independent uniform points fall into equal strata of the first column."""
    strata = -(-points // STRATUM)
    return np.random.default_rng([seed, 0]).multinomial(points, np.full(strata, 1 / strata))


@lru_cache(maxsize=64)
def _stratum(seed: int, strata: int, number: int, points: int, dimensions: int) -> Array:
    rows = np.random.default_rng([seed, 1, number]).random((points, dimensions))
    rows[:, 0] = (number + rows[:, 0]) / strata
    return _sorted(rows)


class _Sobol:
    """A scrambled Sobol sequence that any run of points is taken from."""

    def __init__(self, seed: int, dimensions: int) -> None:
        from scipy.stats import qmc

        self._sequence = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(seed))
        self._at = 0
        self._lock = Lock()

    def rows(self, start: int, stop: int) -> Array:
        count = stop - start
        # the first draw of any other number warns about balance, which is the whole sample's, not this run's
        drawn = 2 ** math.ceil(math.log2(count)) if start == 0 else count
        with self._lock:
            if start < self._at:
                self._sequence.reset()
                self._at = 0
            if start > self._at:
                self._sequence.fast_forward(start - self._at)
            self._at = start + drawn
            return np.asarray(self._sequence.random(drawn))[:count]


@lru_cache(maxsize=4)
def _sobol(seed: int, dimensions: int) -> _Sobol:
    return _Sobol(seed, dimensions)
