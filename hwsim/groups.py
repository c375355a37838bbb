"""Rows of one shape that depend on the same sizes, priced together: demands from the engine, the best candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from graphs.expressions import Environment, Expr, total
from numpy.typing import NDArray

from hwsim.engines import engine
from hwsim.engines.demand import Array, AttentionRows, Demand, GemmRows, StreamRows
from hwsim.machine import Machine
from hwsim.optable import NEVER, OpTable
from hwsim.pricing import combine, miss_fraction

SHAPES = ("gemm", "attention", "stream")
WHOLE = 20_000  # candidates x rows x points up to which all candidates are priced in one go


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """What the chosen candidates of a group ask, [rows, points] or [rows, 1]: seconds at nominal clock, amounts."""

    seconds: Array
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

    def at(self, index: NDArray[np.intp]) -> Priced:
        """Times at some of the points."""

        def some(a: Array) -> Array:
            return a[:, index] if a.shape[-1] > 1 else a

        return replace(
            self, compute=some(self.compute), dram_s=some(self.dram_s), onchip_s=some(self.onchip_s)
        )

    def labels(self) -> list[str]:
        """Name of the chosen candidate per row, at the first point."""
        return [self.names[i] for i in self.candidate[:, 0]]


class Group:
    """Some rows of `table`, all of one shape and depending on the same symbols."""

    def __init__(self, table: OpTable, shape: str, rows: Sequence[int]) -> None:
        self.shape, self.rows = shape, list(rows)
        self.counts = table.counts[self.rows]
        self._rows = [table.rows[i] for i in rows]
        self._dtypes = [row.dtype for row in self._rows]
        self._flop = [row.work.flop for row in self._rows]
        self._traffic = _Traffic(table, self.rows)

    def price(self, values: Environment, machine: Machine) -> Priced:
        """The cheapest candidate of every row at every point, by its complete price at nominal clock."""
        c = machine.structure.coefficients
        dram, moved, first = self._traffic.bytes(values, machine)
        vector = _stack([row.work.vector_flop for row in self._rows], values)
        special = _stack([row.work.special_op for row in self._rows], values)
        flop = self.flops(values)
        demand, useful = self._demand(values, machine, moved, flop)
        vector_s = (
            vector / _per_row(machine.vector_flop_per_s, self._dtypes) + special / machine.special_op_per_s
        )
        compute = np.maximum(demand.matrix / _per_row(machine.matrix_flop_per_s, self._dtypes), vector_s)
        candidates = _Candidates(
            compute=compute,
            onchip_s=demand.onchip / machine.onchip_byte_per_s,
            extra=demand.extra_dram,
            slowdown=1.0 / demand.spread,
            executed=demand.executed,
            dram=dram,
            byte_per_s=machine.dram_byte_per_s,
            overlap=c["overlap"],
        )
        chosen = candidates.cheapest(first.min(axis=1) / np.max(machine.dram_byte_per_s))
        core_j = (
            useful * _per_row(machine.matrix_j_per_flop, self._dtypes)
            + vector * _per_row(machine.vector_j_per_flop, self._dtypes)
            + special * machine.special_j_per_op
        )
        seconds, compute, dram_s, onchip_s, executed, extra = candidates.at(chosen)
        return Priced(
            seconds=seconds,
            compute=compute,
            dram_s=dram_s,
            onchip_s=onchip_s,
            executed=executed,
            core_j=core_j,
            dram_bytes=dram + extra,
            onchip_bytes=moved,
            candidate=chosen,
            names=demand.labels,
        )

    def flops(self, values: Environment) -> Array:
        """Algorithmic FLOP per run of each row."""
        return _stack(self._flop, values)

    def _demand(
        self, values: Environment, machine: Machine, moved: Array, flop: Array
    ) -> tuple[Demand, Array]:
        """What the engine's candidates ask, and the matrix FLOP that no candidate can avoid."""
        module = engine(machine.device.engine)
        if self.shape == "gemm":
            return module.gemm(self._gemm_rows(values), machine.structure), flop
        if self.shape == "attention":
            rows = self._attention_rows(values)
            return module.attention(rows, machine.structure), flop * _visible_share(rows)
        run = _stack([row.work.gather_run for row in self._rows], values) * self._width(0)
        elements = _stack([total(row.work.writes) for row in self._rows], values)
        streams = StreamRows(moved_byte=moved, elements=elements, run_byte=run)
        return module.stream(streams, machine.structure), flop

    def _width(self, operand: int) -> Array:
        """Bytes per element of an input, [rows, 1]."""
        return np.array(
            [[(row.read_bits[operand] if len(row.read_bits) > operand else 0.0) / 8] for row in self._rows]
        )

    def _dim(self, name: str, values: Environment) -> Array:
        return _stack([row.work.dims[name] for row in self._rows], values)

    def _gemm_rows(self, values: Environment) -> GemmRows:
        b, m, n, k = (self._dim(name, values) for name in "bmnk")
        out = np.array([[(row.write_bits[0] if row.write_bits else 0.0) / 8] for row in self._rows])
        return GemmRows(b=b, m=m, n=n, k=k, left_byte=self._width(0), right_byte=self._width(1), out_byte=out)

    def _attention_rows(self, values: Environment) -> AttentionRows:
        heads, kv_heads, q_len, kv_len, head_dim, value_dim = (
            self._dim(name, values) for name in ("b", "kv", "m", "n", "k", "v")
        )
        causal = np.array([[float(row.operator.attribute("mask") == "causal")] for row in self._rows])
        return AttentionRows(
            heads=heads, kv_heads=kv_heads, q_len=q_len, kv_len=kv_len, head_dim=head_dim, value_dim=value_dim,
            causal=causal, byte=self._width(1),
        )  # fmt: skip


def build_groups(table: OpTable) -> list[Group]:
    """Groups of all rows: by shape and by the symbols they depend on, so that what is constant stays one column."""
    keys: dict[tuple[str, frozenset[str]], list[int]] = {}
    for index, row in enumerate(table.rows):
        exprs = [
            *row.work.dims.values(),
            *row.work.reads,
            *row.work.writes,
            row.work.flop,
            row.work.vector_flop,
        ]
        exprs += [row.work.special_op, row.work.gather_run]
        for reuse in (*row.read_classes, *row.write_classes):
            if reuse != NEVER:
                exprs += [table.sizes[i] for i in np.flatnonzero(table.distances.coefficients[reuse])]
        symbols = frozenset(name for expr in exprs for name in expr.symbols)
        keys.setdefault((row.work.shape, symbols), []).append(index)
    ordered = sorted(keys.items(), key=lambda item: (SHAPES.index(item[0][0]), sorted(item[0][1])))
    return [Group(table, shape, rows) for (shape, _), rows in ordered]


class _Traffic:
    """DRAM bytes of some rows as a matrix product over distinct (size, reuse class) pairs."""

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
        self._sizes = [table.sizes[i] for i in used]
        self._forms = forms[:, used]
        self._size = np.array([used.index(size) for size, _ in pairs], dtype=np.intp)
        self._class = np.array(
            [classes.index(c) if c != NEVER else len(classes) for _, c in pairs], dtype=np.intp
        )
        self._first = self._weights * (self._class == len(classes))

    def bytes(self, values: Environment, machine: Machine) -> tuple[Array, Array, Array]:
        """Bytes that come from or go to DRAM, all bytes moved, and those no cache can save; [rows, points or 1]."""
        c = machine.structure.coefficients
        elements = _stack(self._sizes, values)
        miss = miss_fraction(
            np.einsum("cs,sp->cp", self._forms, elements),
            machine.structure.onchip_byte,
            c["cache_reuse_low"],
            c["cache_reuse_high"],
        )
        miss = np.concatenate([miss, np.ones((1, miss.shape[1]))])  # the last row serves NEVER
        picked = elements[self._size]
        missed = picked * miss[self._class]
        return tuple(
            np.einsum("rq,qp->rp", w, x)
            for w, x in ((self._weights, missed), (self._weights, picked), (self._first, picked))
        )  # type: ignore[return-value]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidates:
    """Seconds and amounts of all candidates, each broadcastable to [C, R, P]; DRAM bytes shared by them [R, P]."""

    compute: Array
    onchip_s: Array
    extra: Array
    slowdown: Array
    executed: Array
    dram: Array
    byte_per_s: Any
    overlap: Any

    def cheapest(self, least: Array) -> NDArray[np.intp]:
        """Index of the cheapest candidate, [R, P or 1]; `least` [R] are seconds of DRAM traffic no point can avoid."""
        shape = np.broadcast_shapes(
            self.compute.shape, self.onchip_s.shape, self.extra.shape, self.slowdown.shape, self.dram.shape,
            (1, 1, np.size(self.byte_per_s)), (1, 1, np.size(self.overlap)),
        )  # fmt: skip
        if shape[0] == 1:
            return np.zeros(shape[1:], dtype=np.intp)
        if shape[0] * shape[1] * shape[2] <= WHOLE:
            seconds = combine(self.compute, np.maximum(self._dram_s(self), self.onchip_s), self.overlap)
            return np.asarray(np.argmin(np.broadcast_to(seconds, shape), axis=0))
        if self._same_at_all_points():
            return self._by_rank(shape, least)
        best = np.full(shape[1:], np.inf)
        chosen = np.zeros(shape[1:], dtype=np.intp)
        for index in range(shape[0]):
            one = replace(
                self,
                **{n: _plane(getattr(self, n), index) for n in ("compute", "onchip_s", "extra", "slowdown")},
            )
            seconds = combine(one.compute, np.maximum(self._dram_s(one), one.onchip_s), self.overlap)
            better = seconds < best
            np.copyto(best, seconds, where=better)
            np.copyto(chosen, index, where=better)
        return chosen

    def _same_at_all_points(self) -> bool:
        parts = (self.compute, self.onchip_s, self.slowdown, self.extra)
        return all(a.ndim == 0 or a.shape[-1] == 1 for a in parts) and np.ndim(self.overlap) == 0

    def _by_rank(self, shape: tuple[int, ...], least: Array) -> NDArray[np.intp]:
        """The cheapest where candidates do not vary over points: only those worth trying, rank by rank."""
        flat = (shape[0], shape[1])
        compute, onchip_s, slowdown, extra = (
            np.broadcast_to(a[..., 0] if a.ndim else a, flat)
            for a in (self.compute, self.onchip_s, self.slowdown, self.extra)
        )
        order, kept = _worth_trying(compute, onchip_s, slowdown, extra, least, self.overlap)
        dram = np.broadcast_to(self.dram, (shape[1], self.dram.shape[1]))
        best = np.full(shape[1:], np.inf)
        chosen = np.broadcast_to(order[0][:, None], shape[1:]).copy()
        everyone = np.arange(shape[1])
        for rank in range(int(kept.max())):
            rows = everyone[kept > rank]
            cell = (order[rank, rows], rows)
            whole = rows.size == everyone.size
            seconds = (dram if whole else dram[rows]) + extra[cell][:, None]
            seconds = seconds * (slowdown[cell][:, None] / self.byte_per_s)
            seconds = np.maximum(seconds, onchip_s[cell][:, None])
            seconds = combine(compute[cell][:, None], seconds, self.overlap)
            if rank == 0:
                best[...] = seconds
                continue
            before = best if whole else best[rows]
            better = seconds < before
            best[rows] = np.minimum(seconds, before)
            chosen[rows] = np.where(better, cell[0][:, None], chosen[rows])
        return chosen

    def at(self, chosen: NDArray[np.intp]) -> tuple[Array, Array, Array, Array, Array, Array]:
        """Seconds, compute, DRAM and on-chip seconds, executed FLOP and extra bytes of the chosen, [R, P or 1]."""

        def pick(a: Array) -> Array:
            if a.ndim < 3 or a.shape[0] == 1:
                return a.reshape(a.shape[-2:]) if a.ndim >= 2 else a
            if a.shape[2] == 1 and chosen.shape[1] > 1:
                return np.asarray(a[chosen, np.arange(chosen.shape[0])[:, None] if a.shape[1] > 1 else 0, 0])
            return np.asarray(
                np.take_along_axis(np.broadcast_to(a, (a.shape[0], *chosen.shape)), chosen[None], axis=0)[0]
            )

        compute, onchip_s, extra, slowdown = (
            pick(a) for a in (self.compute, self.onchip_s, self.extra, self.slowdown)
        )
        dram_s = (self.dram + extra) * (slowdown / self.byte_per_s)
        seconds = combine(compute, np.maximum(dram_s, onchip_s), self.overlap)
        return seconds, compute, dram_s, onchip_s, pick(self.executed), extra

    @staticmethod
    def _dram_s(one: _Candidates) -> Array:
        return (one.dram + one.extra) * (one.slowdown / one.byte_per_s)


def _plane(a: Array, index: int) -> Array:
    """One candidate of an array over candidates."""
    if a.ndim < 3:
        return a
    return np.asarray(a[index if a.shape[0] > 1 else 0])


def _worth_trying(
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


def _visible_share(rows: AttentionRows) -> Array:
    """Share of the q x kv rectangle at or below the diagonal of a causal mask."""
    hidden = np.maximum(0.0, np.minimum(rows.q_len, rows.kv_len) - 1) / 2
    return np.asarray(np.where(rows.causal > 0, 1.0 - hidden / np.maximum(rows.kv_len, 1.0), 1.0))


def _stack(exprs: Sequence[Expr], values: Environment) -> Array:
    """Values of expressions as [rows, 1] when none varies, else [rows, points]."""
    found = [values(expr) for expr in exprs]
    width = max((np.size(v) for v in found), default=1)
    out = np.empty((len(found), width))
    for index, value in enumerate(found):
        out[index] = value
    return out


def _per_row(rates: Mapping[str, Any], dtypes: Sequence[str]) -> Array:
    """A rate per row: [rows, 1], or [rows, points] when any is an array; a dtype no row computes in counts as 1."""
    values = [rates.get(dtype, 1.0) for dtype in dtypes]
    if all(np.ndim(v) == 0 for v in values):
        return np.array(values, dtype=np.float64)[:, None]
    return np.stack(np.broadcast_arrays(*values))
