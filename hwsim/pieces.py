"""Cuts the points of a sweep into pieces in which columns with few distinct values are constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hwsim.engines.demand import Array
from hwsim.machine import Machine

# Points that pay for a piece of their own: fewer where the engine has many candidates to price at each.
PIECE = {"simt": 128}
PIECE_OF_OTHERS = 512
SAMPLE = 2048

Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some points: their places in the sweep, sizes and machine there (constants as scalars); how many."""

    index: slice | Index
    sizes: Mapping[str, Array]
    machine: Machine
    width: int


def pieces(sizes: Mapping[str, Array], machine: Machine, points: int, chunk: int) -> Iterator[Piece]:
    """Pieces of at most `chunk` points that together are all points, each once."""
    varying = [v for v in (*sizes.values(), *machine.arrays()) if np.ndim(v)]
    if points == 1 or not varying:
        yield Piece(slice(0, points), sizes, machine, 1 if not varying else points)
        return
    least = PIECE.get(machine.device.engine, PIECE_OF_OTHERS)
    constant, order, edges = _runs(varying, points, least)
    for start, stop in pairwise(edges):
        for at in range(start, stop, chunk):
            here = slice(at, min(at + chunk, stop))
            index = here if order is None else order[here]
            first = at if order is None else int(order[at])
            yield Piece(index, *_at(sizes, machine, index, first, constant), here.stop - at)


def _at(
    sizes: Mapping[str, Array], machine: Machine, index: slice | Index, first: int, constant: set[int]
) -> tuple[dict[str, Array], Machine]:
    def cut(a: Array) -> Array:
        if not np.ndim(a):
            return a
        return np.asarray(a[first]) if id(a) in constant else a[index]

    return {name: cut(a) for name, a in sizes.items()}, machine.mapped(cut)


def _runs(varying: list[Array], points: int, least: int) -> tuple[set[int], Index | None, list[int]]:
    """Ids of the columns held constant, points in the order of these columns' values, and where a run ends.

    The order is None where points come in it already.
    """
    found = [(column, _codes(column, points)) for column in {id(v): v for v in varying}.values()]
    few = sorted(
        ((codes, column) for column, codes in found if codes is not None), key=lambda pair: pair[0][1]
    )
    code, size, constant = np.zeros(points, dtype=np.int64), 1, set()
    for (codes, count), column in few:
        if size * count * least > points:
            break
        code, size = code * count + codes, size * count
        constant.add(id(column))
    order = None
    if np.any(code[1:] < code[:-1]):
        order = np.argsort(code.astype(np.uint16) if size < 2**16 else code, kind="stable")
        code = code[order]
    ends = np.flatnonzero(code[1:] != code[:-1]) + 1
    return constant, order, [0, *ends.tolist(), points]


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
