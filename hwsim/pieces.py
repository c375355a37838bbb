"""Cuts the points of a sweep into pieces in which columns with few distinct values are constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.engines.demand import Array
from hwsim.machine import Machine

PIECE = 512  # points a piece should have at least for grouping to pay off
SAMPLE = 2048


@dataclass(frozen=True, slots=True)
class Piece:
    """Some points: their places in the sweep, sizes and machine there (constants as scalars); how many."""

    index: Any
    sizes: Mapping[str, Array]
    machine: Machine
    width: int


def pieces(sizes: Mapping[str, Array], machine: Machine, points: int, chunk: int) -> Iterator[Piece]:
    """Pieces of at most `chunk` points that together are all points, each once."""
    varying = [v for v in (*sizes.values(), *machine.arrays()) if np.ndim(v)]
    if points == 1 or not varying:
        yield Piece(slice(0, points), sizes, machine, 1 if not varying else points)
        return
    constant, runs = _runs(varying, points)
    for order in runs:
        for at in range(0, len(order), chunk):
            index = order[at : at + chunk]
            yield Piece(index, *_at(sizes, machine, index, constant), len(index))


def _at(
    sizes: Mapping[str, Array], machine: Machine, index: NDArray[np.intp], constant: set[int]
) -> tuple[dict[str, Array], Machine]:
    def cut(a: Array) -> Array:
        if not np.ndim(a):
            return a
        return np.asarray(a[index[0]]) if id(a) in constant else a[index]

    return {name: cut(a) for name, a in sizes.items()}, machine.mapped(cut)


def _runs(varying: list[Array], points: int) -> tuple[set[int], list[NDArray[np.intp]]]:
    """Ids of the columns held constant, and the points of each combination of their values."""
    everything = np.arange(points)
    found = [(column, _codes(column, points)) for column in {id(v): v for v in varying}.values()]
    few = sorted(
        ((codes, column) for column, codes in found if codes is not None), key=lambda pair: pair[0][1]
    )
    code, size, constant = np.zeros(points, dtype=np.int64), 1, set()
    for (codes, count), column in few:
        if size * count * PIECE > points:
            break
        code, size = code * count + codes, size * count
        constant.add(id(column))
    if not constant:
        return set(), [everything]
    small = code.astype(np.uint16) if size < 2**16 else code
    order = np.argsort(small, kind="stable")
    edges = np.flatnonzero(np.diff(small[order])) + 1
    return constant, np.split(order, edges)


def _codes(column: Array, points: int) -> tuple[NDArray[np.int64], int] | None:
    """Number of each point's value among the distinct ones, how many these are; None when they are many."""
    sample = column[np.linspace(0, points - 1, num=min(points, SAMPLE)).astype(np.intp)]
    if np.unique(sample).size > SAMPLE // 2:
        return None
    low, high = float(np.min(column)), float(np.max(column))
    if high - low < 2**20 and np.all(column == np.floor(column)):
        shifted = (column - low).astype(np.int64)
        present = np.zeros(int(high - low) + 1, dtype=np.int64)
        present[shifted] = 1
        return (np.cumsum(present) - 1)[shifted], int(present.sum())
    values, codes = np.unique(column, return_inverse=True)
    return codes, values.size
