"""The choice among an engine's candidates: the cheapest by its complete price at a clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.engines.demand import Array
from hwsim.pricing import combine

WHOLE = 20_000  # candidates x rows x points up to which all candidates are priced in one go


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Index of the chosen candidate and its price, [R, P]: seconds, and the two limits that they combine."""

    index: NDArray[np.intp]
    seconds: Array
    compute: Array
    memory: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Seconds at nominal clock and executed FLOP of all candidates, each [C or 1, R or 1, P or 1].

    DRAM seconds [R, P or 1] are the same for every candidate. That, and energy that no choice changes, is why
    a faster or larger machine is never slower, however candidates change places. `serial_s` [R, P or 1] of
    the compute seconds pass in calls and while DRAM is waited for: a slower clock leaves them as they are.
    """

    compute: Array
    onchip_s: Array
    executed: Array
    dram_s: Array
    overlap: Any
    serial_s: Array | None = None

    def cheapest(self, least: Array, clock: Array | None = None) -> Choice:
        """The cheapest per row and point, ties to the fewest executed FLOP.

        `least` [R] are seconds of DRAM traffic no point can avoid. A relative `clock` [P] slows the core and
        its on-chip level, not DRAM.
        """
        shape = np.broadcast_shapes(
            self.compute.shape, self.onchip_s.shape, (1, *self.dram_s.shape), (1, 1, np.size(self.overlap)),
            (1, 1, 1 if clock is None else clock.size),
        )  # fmt: skip
        if shape[0] == 1:
            seconds, compute, memory = self._price(0, clock)
            index = np.zeros((shape[1], 1), dtype=np.intp)
            return Choice(index=index, seconds=seconds, compute=compute, memory=memory)
        if np.prod(shape) <= WHOLE:
            return self._of_all(shape, clock)
        constant = self.compute.shape[2] == self.onchip_s.shape[2] == self.executed.shape[2] == 1
        if constant and np.ndim(self.overlap) == 0 and self.serial_s is None:
            return self._by_rank(shape, least if clock is None else np.zeros(1), clock)
        return self._one_by_one(shape, clock)

    def slower(self, times: Array, compute_floor: Array, dram_floor: Array) -> Candidates:
        """All of them `times` [R, P] as slow, none faster than the peaks of the machine allow."""
        return Candidates(
            compute=np.maximum(self.compute * times, compute_floor),
            onchip_s=self.onchip_s * times,
            executed=self.executed,
            dram_s=np.maximum(self.dram_s * times, dram_floor),
            overlap=self.overlap,
            serial_s=None if self.serial_s is None else self.serial_s * times,
        )

    def some(self, points: NDArray[np.intp]) -> Candidates:
        """The candidates at some of the points."""

        def cut(a: Array) -> Array:
            return a[..., points] if a.shape[-1] > 1 else a

        return Candidates(
            compute=cut(self.compute),
            onchip_s=cut(self.onchip_s),
            executed=cut(self.executed),
            dram_s=cut(self.dram_s),
            overlap=self.overlap[points] if np.ndim(self.overlap) else self.overlap,
            serial_s=None if self.serial_s is None else cut(self.serial_s),
        )

    def executed_by(self, index: NDArray[np.intp]) -> Array:
        """FLOP the chosen candidates execute, [R, P or 1]."""
        return _pick(self.executed, index)

    def held(self, index: NDArray[np.intp]) -> Candidates:
        """These candidates with the choice already made: one per row and point."""
        compute, onchip_s, executed = (
            _pick(a, index)[None] for a in (self.compute, self.onchip_s, self.executed)
        )
        return Candidates(
            compute=compute, onchip_s=onchip_s, executed=executed, dram_s=self.dram_s, overlap=self.overlap,
            serial_s=self.serial_s,
        )  # fmt: skip

    def _price(self, part: Any, clock: Array | None) -> tuple[Array, Array, Array]:
        """Seconds, compute and memory of one or a slice of the candidates."""
        compute, onchip_s = (a[part if a.shape[0] > 1 else 0] for a in (self.compute, self.onchip_s))
        if clock is not None:
            compute, onchip_s = compute / clock, onchip_s / clock
            if self.serial_s is not None:
                compute = compute - self.serial_s * (1.0 / clock - 1.0)
        memory = np.maximum(self.dram_s, onchip_s)
        return combine(compute, memory, self.overlap), compute, memory

    def _of_all(self, shape: tuple[int, ...], clock: Array | None) -> Choice:
        seconds, compute, memory = (np.broadcast_to(a, shape) for a in self._price(slice(None), clock))
        tied = seconds == seconds.min(axis=0)
        index = np.argmin(np.where(tied, self.executed, np.inf), axis=0)
        best = (np.take_along_axis(a, index[None], axis=0)[0] for a in (seconds, compute, memory))
        return Choice(index=index, **dict(zip(("seconds", "compute", "memory"), best, strict=True)))

    def _one_by_one(self, shape: tuple[int, ...], clock: Array | None) -> Choice:
        best = [np.array(np.broadcast_to(a, shape[1:])) for a in self._price(0, clock)]
        index = np.zeros(shape[1:], dtype=np.intp)
        for candidate in range(1, shape[0]):
            new = self._price(candidate, clock)
            better = new[0] < best[0]
            tied = new[0] == best[0]
            if tied.any():
                better |= tied & (_plane(self.executed, candidate) < self.executed_by(index))
            for kept, value in zip(best, new, strict=True):
                np.copyto(kept, value, where=better)
            np.copyto(index, candidate, where=better)
        return Choice(index=index, seconds=best[0], compute=best[1], memory=best[2])

    def _by_rank(self, shape: tuple[int, ...], least: Array, clock: Array | None) -> Choice:
        """Where candidates do not vary over points: only those worth trying, rank by rank."""
        flat = (shape[0], shape[1])
        compute, onchip_s, executed = (
            np.broadcast_to(a[..., 0], flat) for a in (self.compute, self.onchip_s, self.executed)
        )
        order, kept = worth_trying(compute, onchip_s, executed, least, self.overlap)
        dram_s = np.broadcast_to(self.dram_s, (shape[1], self.dram_s.shape[1]))
        best: list[Array] = []
        index = np.array(np.broadcast_to(order[0][:, None], shape[1:] if kept.max() > 1 else (shape[1], 1)))
        for rank in range(int(kept.max())):
            rows = np.flatnonzero(kept > rank)
            some: Any = slice(None) if rows.size == shape[1] else rows  # a view where that will do
            cell = (order[rank, rows], rows)
            part, memory = compute[cell][:, None], onchip_s[cell][:, None]
            if clock is not None:
                part, memory = part / clock, memory / clock
            memory = np.maximum(dram_s[some], memory)
            seconds = combine(part, memory, self.overlap)
            if rank == 0:
                best = [seconds, part, memory]
                if kept.max() > 1:
                    best = [
                        a if a.shape == index.shape else np.array(np.broadcast_to(a, index.shape))
                        for a in best
                    ]
                continue
            known = best[0][some]
            better = seconds < known
            tied = seconds == known
            if tied.any():
                better |= tied & (executed[cell][:, None] < executed[index[some], rows[:, None]])
            if better.any():
                found = (seconds, part, memory, cell[0][:, None])
                for kept_part, value in zip((*best, index), found, strict=True):
                    if rows.size == shape[1]:
                        np.copyto(kept_part, value, where=better)
                    else:
                        kept_part[rows] = np.where(better, value, kept_part[rows])
        return Choice(index=index, seconds=best[0], compute=best[1], memory=best[2])


def worth_trying(
    compute: Array, onchip_s: Array, executed: Array, least: Array, overlap: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Candidate order [C, R] that begins with those that may be cheapest somewhere, and their number [R].

    `least` [R] are seconds of DRAM traffic no point can avoid. A candidate is out when another needs no more
    compute, executes no more, and costs no more at `least`: with more DRAM time the other stays flat until
    DRAM outlasts its on-chip time, and from there on both wait for DRAM alike. With `least` 0 this holds at
    any clock, too.
    """
    price = combine(compute, np.maximum(onchip_s, least), overlap)
    count = compute.shape[0]
    no_worse = np.ones((count, *compute.shape), dtype=bool)  # [other, one, row]
    strictly = np.zeros_like(no_worse)
    for part in (compute, executed, price):
        no_worse &= part[:, None] <= part[None]
        strictly |= part[:, None] < part[None]
    earlier = np.arange(count)[:, None] < np.arange(count)[None]
    dominated = np.any(no_worse & (strictly | earlier[..., None]), axis=0)
    return np.argsort(dominated, axis=0, kind="stable"), np.sum(~dominated, axis=0)


def _plane(a: Array, candidate: int) -> Array:
    """One candidate of an array over candidates, [R or 1, P or 1]."""
    return np.asarray(a[candidate if a.shape[0] > 1 else 0])


def _pick(a: Array, index: NDArray[np.intp]) -> Array:
    """An array over candidates at the choice of each row and point, [R, P or 1]."""
    if a.shape[0] == 1:
        return np.asarray(a[0])
    rows: Any = np.arange(index.shape[0])[:, None] if a.shape[1] > 1 else 0
    points: Any = np.arange(max(index.shape[1], a.shape[2])) if a.shape[2] > 1 else 0
    return np.asarray(a[index, rows, points])
