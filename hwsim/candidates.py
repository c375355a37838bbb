"""The choice among an engine's candidates: the cheapest by its complete price at nominal clock."""

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
    """Index of the chosen candidate and what it costs: seconds, and its compute and memory part's limits, [R, P]."""

    index: NDArray[np.intp]
    seconds: Array
    compute: Array
    memory: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Seconds and amounts of all candidates, each broadcastable to [C, R, P]; DRAM bytes shared by them [R, P]."""

    compute: Array
    onchip_s: Array
    extra: Array
    slowdown: Array
    executed: Array
    dram: Array
    byte_per_s: Any
    overlap: Any

    def cheapest(self, least: Array) -> Choice:
        """The cheapest per row and point; `least` [R] are seconds of DRAM traffic no point can avoid."""
        shape = np.broadcast_shapes(
            self.compute.shape, self.onchip_s.shape, self.extra.shape, self.slowdown.shape, self.dram.shape,
            (1, 1, np.size(self.byte_per_s)), (1, 1, np.size(self.overlap)),
        )  # fmt: skip
        if shape[0] == 1 or np.prod(shape) <= WHOLE:
            return self._of_all(shape)
        parts = (self.compute, self.onchip_s, self.slowdown, self.extra)
        if np.ndim(self.overlap) == 0 and all(a.ndim == 0 or a.shape[-1] == 1 for a in parts):
            return self._by_rank(shape, least)
        return self._one_by_one(shape)

    def pick(self, candidates: Array, index: NDArray[np.intp], points: Any = None) -> Array:
        """An array over candidates at each point's choice `index` [R, P]; with `points`, at some points only."""
        if candidates.ndim < 2:
            return candidates
        if candidates.ndim == 3 and candidates.shape[0] > 1:
            rows = np.arange(index.shape[0])[:, None] if candidates.shape[1] > 1 else 0
            at: Any = 0 if candidates.shape[2] == 1 else np.arange(index.shape[1])
            chosen = index
            if points is not None and index.shape[1] > 1:
                chosen, at = index[:, points], at if candidates.shape[2] == 1 else points
            return np.asarray(candidates[chosen, rows, at])
        plane = candidates.reshape(candidates.shape[-2:])
        return plane[:, points] if points is not None and plane.shape[1] > 1 else plane

    def seconds_at(self, index: NDArray[np.intp], points: Any = None) -> tuple[Array, Array, Array]:
        """Compute, DRAM and on-chip seconds of the chosen, at all or some points."""
        compute, onchip_s, extra, slowdown, dram = (
            self.pick(a, index, points)
            for a in (self.compute, self.onchip_s, self.extra, self.slowdown, self.dram)
        )
        rate = self.byte_per_s if points is None or not np.ndim(self.byte_per_s) else self.byte_per_s[points]
        return compute, (dram + extra) * (slowdown / rate), onchip_s

    def _price(self, part: Any) -> tuple[Array, Array, Array]:
        """Seconds, compute and memory of a slice of the candidates."""
        compute, onchip_s, extra, slowdown = (
            a[part if a.shape[0] > 1 else 0] if a.ndim == 3 else a
            for a in (self.compute, self.onchip_s, self.extra, self.slowdown)
        )
        memory = np.maximum((self.dram + extra) * (slowdown / self.byte_per_s), onchip_s)
        return combine(compute, memory, self.overlap), compute, memory

    def _of_all(self, shape: tuple[int, ...]) -> Choice:
        if shape[0] == 1:
            seconds, compute, memory = self._price(0)
            index = np.zeros((shape[1], 1), dtype=np.intp)
            return Choice(index=index, seconds=seconds, compute=compute, memory=memory)
        memory = np.maximum((self.dram + self.extra) * (self.slowdown / self.byte_per_s), self.onchip_s)
        seconds = np.broadcast_to(combine(self.compute, memory, self.overlap), shape)
        index = np.argmin(seconds, axis=0)
        best, compute, memory = (
            np.take_along_axis(np.broadcast_to(a, shape), index[None], axis=0)[0]
            for a in (seconds, self.compute, memory)
        )
        return Choice(index=index, seconds=best, compute=compute, memory=memory)

    def _one_by_one(self, shape: tuple[int, ...]) -> Choice:
        best = [np.array(np.broadcast_to(a, shape[1:])) for a in self._price(0)]
        index = np.zeros(shape[1:], dtype=np.intp)
        for candidate in range(1, shape[0]):
            new = self._price(candidate)
            better = new[0] < best[0]
            for kept, value in zip(best, new, strict=True):
                np.copyto(kept, value, where=better)
            np.copyto(index, candidate, where=better)
        return Choice(index=index, seconds=best[0], compute=best[1], memory=best[2])

    def _by_rank(self, shape: tuple[int, ...], least: Array) -> Choice:
        """Where candidates do not vary over points: only those worth trying, the first of every row, then the second."""
        flat = (shape[0], shape[1])
        compute, onchip_s, slowdown, extra = (
            np.broadcast_to(a[..., 0] if a.ndim else a, flat)
            for a in (self.compute, self.onchip_s, self.slowdown, self.extra)
        )
        order, kept = worth_trying(compute, onchip_s, slowdown, extra, least, self.overlap)
        dram = np.broadcast_to(self.dram, (shape[1], self.dram.shape[1]))
        best: list[Array] = []
        index = np.broadcast_to(order[0][:, None], shape[1:])
        for rank in range(int(kept.max())):
            rows = np.flatnonzero(kept > rank)
            cell = (order[rank, rows], rows)
            memory = (dram if rank == 0 else dram[rows]) + extra[cell][:, None]
            memory = memory * (slowdown[cell][:, None] / self.byte_per_s)
            np.maximum(memory, onchip_s[cell][:, None], out=memory)
            seconds = combine(compute[cell][:, None], memory, self.overlap)
            if rank == 0:
                memory = np.array(np.broadcast_to(memory, shape[1:]))
                best = [seconds, np.array(np.broadcast_to(compute[cell][:, None], shape[1:])), memory]
                index = np.array(index)
                continue
            better = seconds < best[0][rows]
            new = (seconds, compute[cell][:, None], memory)
            for kept_part, value in zip(best, new, strict=True):
                kept_part[rows] = np.where(better, value, kept_part[rows])
            index[rows] = np.where(better, cell[0][:, None], index[rows])
        return Choice(index=index, seconds=best[0], compute=best[1], memory=best[2])


def worth_trying(
    compute: Array, onchip_s: Array, slowdown: Array, extra: Array, least: Array, overlap: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Candidate order [C, R] that begins with those that may be cheapest somewhere, and their number [R].

    `least` [R] are seconds of DRAM traffic no point can avoid. A candidate is out when another needs no more compute,
    DRAM time and extra traffic, and costs no more at `least`: with more DRAM time the other stays flat until DRAM
    outlasts its on-chip time, and from there on it is ahead in both parts.
    """
    price = combine(compute, np.maximum(onchip_s, least * slowdown), overlap)
    count = compute.shape[0]
    no_worse = np.ones((count, *compute.shape), dtype=bool)  # [other, one, row]
    strictly = np.zeros_like(no_worse)
    for part in (compute, slowdown, extra, price):
        no_worse &= part[:, None] <= part[None]
        strictly |= part[:, None] < part[None]
    earlier = np.arange(count)[:, None] < np.arange(count)[None]
    dominated = np.any(no_worse & (strictly | earlier[..., None]), axis=0)
    return np.argsort(dominated, axis=0, kind="stable"), np.sum(~dominated, axis=0)
