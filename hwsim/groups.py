"""Rows of one shape (GEMM, attention, stream) priced together: demands from the engine, the best candidate per point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from graphs.expressions import Environment, Expr, total
from numpy.typing import NDArray

from hwsim.engines import engine
from hwsim.engines.demand import Array, AttentionRows, Demand, GemmRows, StreamRows, Structure
from hwsim.machine import Machine, structure_columns, with_structure
from hwsim.optable import OpTable
from hwsim.pricing import combine

SHAPES = ("gemm", "attention", "stream")
FEW_POINTS = 256  # below it, finding distinct sizes costs more than it saves


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """What the chosen candidates of a group ask: seconds at nominal clock [rows, points], and amounts."""

    compute: Array
    dram_s: Array
    onchip_s: Array
    executed: Array
    core_j: Array
    dram_bytes: Array
    onchip_bytes: Array
    candidate: NDArray[np.intp]
    names: tuple[str, ...]

    def memory(self, clock: Array | float) -> Array:
        """Seconds of the slower of DRAM and the on-chip level, whose clock follows the core's."""
        return np.maximum(self.dram_s, self.onchip_s / clock)

    def at(self, index: Array | NDArray[np.intp]) -> Priced:
        """Some of the points."""

        def some(a: Array) -> Array:
            return a[:, index] if a.shape[-1] > 1 else a

        return replace(
            self,
            compute=some(self.compute),
            dram_s=some(self.dram_s),
            onchip_s=some(self.onchip_s),
        )

    def labels(self) -> list[str]:
        """Name of the chosen candidate per row, at the first point."""
        return [self.names[i] for i in self.candidate[:, 0]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """Demands on distinct size tuples: candidates [C, R, U], shared amounts [R, U]."""

    matrix: Array
    executed: Array
    onchip: Array
    extra: Array
    slowdown: Array  # 1 / share of DRAM bandwidth
    candidate: NDArray[np.intp]
    vector: Array
    special: Array
    moved: Array
    flop: Array
    names: tuple[str, ...]


class Group:
    """The rows of `table` with one shape on one machine."""

    def __init__(self, table: OpTable, machine: Machine, shape: str, rows: Sequence[int], offset: int) -> None:
        self.shape, self.rows = shape, list(rows)
        self.slice = slice(offset, offset + len(rows))
        self.counts = table.counts[self.rows]
        self._rows = [table.rows[i] for i in rows]
        self._dtypes = [row.dtype for row in self._rows]
        self._moved = [_moved_bytes(row) for row in self._rows]
        self._machine = machine
        self._prepared: _Prepared | None = None
        self._inverse: NDArray[np.intp] | None = None

    def prepare(self, sizes: Mapping[str, Array], points: int) -> None:
        """Compute demands once per distinct tuple of what they depend on, when there are few."""
        names = {n for n in self._symbols() if np.ndim(sizes[n])}
        columns = structure_columns(self._machine)
        varying = {**{n: sizes[n] for n in names}, **columns}
        if not varying:
            self._prepared = self._demand(Environment(sizes), self._machine.structure, 1, prune=points > FEW_POINTS)
            return
        found = _distinct(varying, points)
        if found is None:
            return
        tuples, self._inverse = found
        width = len(next(iter(tuples.values())))
        values = Environment({**sizes, **{n: tuples[n] for n in names}})
        structure = with_structure(self._machine, {n: tuples[n] for n in columns})
        self._prepared = self._demand(values, structure, width, prune=True)

    def price(self, values: Environment, machine: Machine, part: slice, dram: Array, width: int) -> Priced:
        """The cheapest candidate of every row at every point of the chunk, by its complete price at nominal clock."""
        ready = self._prepared
        if ready is None:
            ready = self._demand(values, machine.structure, width, prune=False)
        take = self._taker(part)
        matrix_rate = _per_row([machine.matrix_flop_per_s.get(d, np.inf) for d in self._dtypes])
        vector_rate = _per_row([machine.vector_flop_per_s.get(d, np.inf) for d in self._dtypes])
        overlap = machine.structure.coefficients["overlap"]
        vector, special = take(ready.vector), take(ready.special)
        vector_s = vector / vector_rate + special / machine.special_op_per_s
        best: list[Array] = []
        shape = (len(self.rows), width)
        for index in range(ready.candidate.shape[0]):
            compute = np.maximum(take(ready.matrix[index]) / matrix_rate, vector_s)
            bytes_ = dram + take(ready.extra[index])
            dram_s = bytes_ * take(ready.slowdown[index]) / machine.dram_byte_per_s
            onchip = take(ready.onchip[index])
            onchip_s = onchip / machine.onchip_byte_per_s
            seconds = combine(compute, np.maximum(dram_s, onchip_s), overlap)
            columns = [seconds, compute, dram_s, onchip_s, take(ready.executed[index]), bytes_, onchip, take(ready.candidate[index])]  # fmt: skip
            if not best:
                best = [np.array(np.broadcast_to(c, shape)) for c in columns]
                continue
            better = seconds < best[0]
            for kept, new in zip(best, columns, strict=True):
                np.copyto(kept, new, where=better)
        core_j = self._core_energy(machine, take(ready.flop), vector, special)
        return Priced(
            compute=best[1],
            dram_s=best[2],
            onchip_s=best[3],
            executed=best[4],
            core_j=np.broadcast_to(core_j, shape),
            dram_bytes=best[5],
            onchip_bytes=np.broadcast_to(take(ready.moved), shape),
            candidate=best[7],
            names=ready.names,
        )

    def flops(self, values: Environment, width: int) -> Array:
        """Algorithmic FLOP per run of each row."""
        return _stack([row.work.flop for row in self._rows], values, width)

    def _core_energy(self, machine: Machine, executed: Array, vector: Array, special: Array) -> Array:
        matrix_j = _per_row([machine.matrix_j_per_flop.get(d, 0.0) for d in self._dtypes])
        vector_j = _per_row([machine.vector_j_per_flop.get(d, 0.0) for d in self._dtypes])
        return np.asarray(executed * matrix_j + vector * vector_j + special * machine.special_j_per_op)

    def _taker(self, part: slice) -> Callable[[Array], Array]:
        if self._inverse is None:
            return lambda a: a
        index = self._inverse[part]
        return lambda a: a if a.shape[-1] == 1 else np.take(a, index, axis=-1)

    def _symbols(self) -> set[str]:
        exprs: list[Expr] = [*self._moved]
        for row in self._rows:
            exprs += [*row.work.dims.values(), row.work.vector_flop, row.work.special_op, row.work.flop]
            exprs += [row.work.gather_run, *row.work.writes]
        return {name for expr in exprs for name in expr.symbols}

    def _demand(self, values: Environment, structure: Structure, width: int, *, prune: bool) -> _Prepared:
        works = [row.work for row in self._rows]
        module = engine(self._machine.device.engine)
        moved = _stack(self._moved, values, width)
        flop = _stack([w.flop for w in works], values, width)
        if self.shape == "gemm":
            demand: Demand = module.gemm(self._gemm_rows(values, width), structure)
        elif self.shape == "attention":
            rows = self._attention_rows(values, width)
            demand = module.attention(rows, structure)
            flop = flop * _visible_share(rows)
        else:
            run = _stack([w.gather_run for w in works], values, width) * self._width(0)
            elements = _stack([total(w.writes) for w in works], values, width)
            demand = module.stream(StreamRows(moved_byte=moved, elements=elements, run_byte=run), structure)
        shape = np.broadcast_shapes(demand.matrix.shape, demand.onchip.shape, moved.shape)
        parts = [np.broadcast_to(a, shape) for a in (demand.matrix, demand.executed, demand.onchip, demand.extra_dram, 1.0 / demand.spread)]  # fmt: skip
        order = np.broadcast_to(np.arange(shape[0])[:, None, None], shape)
        if prune and shape[0] > 1:
            order = _undominated([parts[0], parts[2], parts[3], parts[4]])
            parts = [np.take_along_axis(a, order, axis=0) for a in parts]
        return _Prepared(
            matrix=parts[0],
            executed=parts[1],
            onchip=parts[2],
            extra=parts[3],
            slowdown=parts[4],
            candidate=order,
            vector=_stack([w.vector_flop for w in works], values, width),
            special=_stack([w.special_op for w in works], values, width),
            moved=moved,
            flop=flop,
            names=demand.labels,
        )

    def _width(self, operand: int) -> Array:
        """Bytes per element of an input, [rows, 1]."""
        return np.array([[(row.read_bits[operand] if len(row.read_bits) > operand else 0.0) / 8] for row in self._rows])

    def _gemm_rows(self, values: Environment, width: int) -> GemmRows:
        def dim(name: str) -> Array:
            return _stack([row.work.dims[name] for row in self._rows], values, width)

        out = np.array([[(row.write_bits[0] if row.write_bits else 0.0) / 8] for row in self._rows])
        return GemmRows(
            b=dim("b"), m=dim("m"), n=dim("n"), k=dim("k"),
            left_byte=self._width(0), right_byte=self._width(1), out_byte=out,
        )  # fmt: skip

    def _attention_rows(self, values: Environment, width: int) -> AttentionRows:
        def dim(name: str) -> Array:
            return _stack([row.work.dims[name] for row in self._rows], values, width)

        causal = np.array([[float(row.operator.attribute("mask") == "causal")] for row in self._rows])
        return AttentionRows(
            heads=dim("b"), kv_heads=dim("kv"), q_len=dim("m"), kv_len=dim("n"), head_dim=dim("k"), value_dim=dim("v"),
            causal=causal, byte=self._width(1),
        )  # fmt: skip


def build_groups(table: OpTable, machine: Machine, sizes: Mapping[str, Array], points: int) -> list[Group]:
    """Groups of all rows, prepared."""
    groups = []
    offset = 0
    for shape in SHAPES:
        rows = [i for i, row in enumerate(table.rows) if row.work.shape == shape]
        if rows:
            group = Group(table, machine, shape, rows, offset)
            group.prepare(sizes, points)
            groups.append(group)
            offset += len(rows)
    return groups


def _visible_share(rows: AttentionRows) -> Array:
    """Share of the q x kv rectangle at or below the diagonal of a causal mask."""
    hidden = np.maximum(0.0, np.minimum(rows.q_len, rows.kv_len) - 1) / 2
    return np.asarray(np.where(rows.causal > 0, 1.0 - hidden / np.maximum(rows.kv_len, 1.0), 1.0))


def _moved_bytes(row: Any) -> Expr:
    """Bytes of all operands as an expression."""
    terms = [
        *zip(row.work.reads, row.read_bits, strict=True),
        *zip(row.work.writes, row.write_bits, strict=True),
    ]
    return total(expr * (bits / 8) for expr, bits in terms)


def _stack(exprs: Sequence[Expr], values: Environment, width: int) -> Array:
    """Values of expressions as [rows, 1] when none varies, else [rows, width]."""
    found = [values(expr) for expr in exprs]
    if all(np.ndim(v) == 0 for v in found):
        return np.array(found, dtype=np.float64)[:, None]
    out = np.empty((len(found), width))
    for index, value in enumerate(found):
        out[index] = value
    return out


def _per_row(values: Sequence[Any]) -> Array:
    """A rate per row: [rows, 1], or [rows, points] when any is an array."""
    if all(np.ndim(v) == 0 for v in values):
        return np.array(values, dtype=np.float64)[:, None]
    return np.stack(np.broadcast_arrays(*values))


def _distinct(columns: Mapping[str, Array], points: int) -> tuple[dict[str, Array], NDArray[np.intp]] | None:
    """Distinct tuples of the columns and each point's index into them; None when there are too many to pay off."""
    if points < FEW_POINTS:
        return None
    sample = np.linspace(0, points - 1, num=min(points, 2048)).astype(np.intp)
    few = np.stack([np.asarray(c)[sample] for c in columns.values()])
    if np.unique(few, axis=1).shape[1] > 0.4 * sample.size:
        return None
    code = np.zeros(points, dtype=np.int64)
    for column in columns.values():
        _, inverse = np.unique(column, return_inverse=True)
        code = code * (int(inverse.max()) + 1) + inverse
        _, code = np.unique(code, return_inverse=True)
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    if first.size > points // 4:
        return None
    return {name: np.asarray(column)[first] for name, column in columns.items()}, inverse


def _undominated(parts: list[Array]) -> NDArray[np.intp]:
    """Candidate order [K, R, U] that keeps, in original order, those no other is at most equal to in every part.

    The price rises with every part, so a dominated candidate is never strictly the cheapest. K is the largest
    number kept anywhere; spare places repeat dominated ones, which changes no minimum.
    """
    count = parts[0].shape[0]
    dominated = np.zeros(parts[0].shape, dtype=bool)
    for one in range(count):
        for other in range(count):
            if one == other:
                continue
            no_worse = np.ones(parts[0].shape[1:], dtype=bool)
            better = np.zeros(parts[0].shape[1:], dtype=bool)
            for part in parts:
                no_worse &= part[other] <= part[one]
                better |= part[other] < part[one]
            dominated[one] |= no_worse & (better | (other < one))
    order = np.argsort(dominated, axis=0, kind="stable")
    kept = int((~dominated).sum(axis=0).max())
    return order[:kept]
