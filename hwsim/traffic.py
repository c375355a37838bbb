"""DRAM bytes of some rows as a matrix product over distinct (size, reuse class) pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphs.expressions import Environment
from hwsim.engines.demand import Array
from hwsim.machine import Machine
from hwsim.optable import NEVER, OpTable
from hwsim.pricing import miss_fraction
from hwsim.stacked import Stacked

Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Split:
    """Places of what is the same at all points of a piece and of what is not."""

    constant: Index  # sizes
    varying: Index
    classes: Index  # reuse classes whose distance, or the cache itself, varies
    by_class: Index  # pairs of such a class
    by_size: Index  # other pairs whose size varies
    still: Index  # all other pairs


class Traffic:
    """Bytes that rows move, and what of it comes from or goes to DRAM after on-chip residency."""

    def __init__(self, table: OpTable, rows: Sequence[int]) -> None:
        position = {expr.text: i for i, expr in enumerate(table.sizes)}
        pairs: dict[tuple[int, int], int] = {}
        entries: list[tuple[int, int, float]] = []
        for at, index in enumerate(rows):
            row = table.rows[index]
            reads = zip(row.work.reads, row.read_bits, row.read_classes, strict=True)
            writes = zip(row.work.writes, row.write_bits, row.write_classes, strict=True)
            for expr, bits, reuse in (*reads, *writes):
                if not expr.is_zero:
                    pair = (position[expr.text], reuse)
                    entries.append((at, pairs.setdefault(pair, len(pairs)), bits / 8))
        self._weights = np.zeros((len(rows), len(pairs)))
        for at, pair_index, width in entries:
            self._weights[at, pair_index] += width
        classes = sorted({reuse for _, reuse in pairs if reuse != NEVER})
        forms = table.distances.coefficients[classes]
        used = sorted({size for size, _ in pairs} | set(np.flatnonzero(forms.any(axis=0)).tolist()))
        self._sizes = Stacked([table.sizes[i] for i in used])
        self._symbols = [table.sizes[i].symbols for i in used]
        self._forms = forms[:, used]
        self._size = np.array([used.index(size) for size, _ in pairs], dtype=np.intp)
        self._class = np.array(
            [classes.index(c) if c != NEVER else len(classes) for _, c in pairs], dtype=np.intp
        )
        second = [(*table.rows[i].read_classes, NEVER, NEVER)[1] for i in rows]
        self._second = np.array([classes.index(c) if c in classes else len(classes) for c in second])
        # the same by size alone: all bytes, and those that no cache saves
        self._moved, self._first = np.zeros((2, len(rows), len(used)))
        np.add.at(self._moved.T, self._size, self._weights.T)
        never = self._class == len(classes)
        np.add.at(self._first.T, self._size[never], self._weights[:, never].T)
        self._splits: dict[bytes, _Split] = {}

    def bytes(self, values: Environment, machine: Machine) -> tuple[Array, Array, Array]:
        """Bytes from and to DRAM and all bytes moved, [rows, points or 1]; what no cache saves, [rows]."""
        c = machine.structure.coefficients
        cache = (machine.structure.onchip_byte, c["cache_reuse_low"], c["cache_reuse_high"])
        elements = self._sizes(values)
        split = self._split(values, any(np.ndim(part) for part in cache))
        low = elements[:, :1]
        moved = _product(self._moved[:, split.constant], low[split.constant])
        miss = np.ones((len(self._forms) + 1, 1))  # the last serves NEVER
        miss[:-1] = miss_fraction(_product(self._forms, low), *(_first(part) for part in cache))
        weights = self._weights * miss[self._class, 0]
        dram = _product(weights[:, split.still], low[self._size[split.still]])
        if split.varying.size:
            moved = moved + _product(self._moved[:, split.varying], elements[split.varying])
        if split.by_size.size:
            dram = dram + _product(weights[:, split.by_size], elements[self._size[split.by_size]])
        if split.by_class.size:
            missing = miss_fraction(_product(self._forms[split.classes], elements), *cache)
            place = np.searchsorted(split.classes, self._class[split.by_class])
            missed = elements[self._size[split.by_class]] * missing[place]
            dram = dram + _product(self._weights[:, split.by_class], missed)
        return dram, moved, np.einsum("rs,s->r", self._first, elements.min(axis=1))

    def second_missed(self, values: Environment, machine: Machine) -> Array:
        """Share of each row's second operand that no cache holds, [rows, points or 1].

        Of that operand alone: the share of all bytes would fall as others grow that the cache holds.
        """
        c = machine.structure.coefficients
        cache = (machine.structure.onchip_byte, c["cache_reuse_low"], c["cache_reuse_high"])
        used, place = np.unique(self._second, return_inverse=True)
        reused = used[used < len(self._forms)]
        missed = miss_fraction(_product(self._forms[reused], self._sizes(values)), *cache)
        if reused.size < used.size:  # the last serves NEVER
            missed = np.concatenate([missed, np.ones((1, missed.shape[1]))])
        return np.asarray(missed[place])

    def _split(self, values: Environment, cache_varies: bool) -> _Split:
        varies = np.array(
            [any(values.values[name].size > 1 for name in names) for names in self._symbols], dtype=bool
        )
        key = varies.tobytes() + bytes([cache_varies])
        if key not in self._splits:
            moving = self._forms[:, varies].any(axis=1) | cache_varies
            by_class = np.append(moving, False)[self._class]  # what has no class never waits in the cache
            by_size = varies[self._size] & ~by_class
            self._splits[key] = _Split(
                constant=np.flatnonzero(~varies),
                varying=np.flatnonzero(varies),
                classes=np.flatnonzero(moving),
                by_class=np.flatnonzero(by_class),
                by_size=np.flatnonzero(by_size),
                still=np.flatnonzero(~by_class & ~by_size),
            )
        return self._splits[key]


def _product(left: Array, right: Array) -> Array:
    """A matrix product; einsum, as BLAS threads fight over small arrays."""
    return np.asarray(np.einsum("rq,qp->rp", left, right))


def _first(value: Any) -> Any:
    """The value of the first point."""
    return value[:1] if np.ndim(value) else value
