"""Rows of one shape that depend on the same sizes, priced with the best of the engine's candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.expressions import Environment, Expr, number
from graphs.ir import Operator
from hwsim.candidates import Candidates, Choice
from hwsim.engines import engine
from hwsim.engines.demand import Array, AttentionRows, Demand, GemmRows, StreamRows
from hwsim.machine import Machine
from hwsim.optable import NEVER, OpTable
from hwsim.pricing import miss_fraction

REDUCTIONS = frozenset(
    ("norm", "rms_norm", "softmax", "log_softmax", "reduce", "norm_backward", "softmax_backward")
)
SHAPES = ("gemm", "attention", "stream")
_DIMS = {"gemm": ("b", "m", "n", "k"), "attention": ("b", "kv", "m", "n", "k", "v"), "stream": ()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """A group with its candidates chosen at nominal clock; amounts per row, [rows, points] or [rows, 1]."""

    candidates: Candidates
    choice: Choice
    core_j: Array
    dram_bytes: Array
    onchip_bytes: Array
    names: tuple[str, ...]


class Group:
    """Some rows of `table`, all of one shape and depending on the same symbols."""

    def __init__(self, table: OpTable, shape: str, rows: Sequence[int]) -> None:
        self.shape, self.rows = shape, list(rows)
        self.counts = table.counts[self.rows]
        self._rows = [table.rows[i] for i in rows]
        self._dtypes = [row.dtype for row in self._rows]
        works = [row.work for row in self._rows]
        self._flop = [work.flop for work in works]
        self._vector = [work.vector_flop for work in works]
        self._special = [work.special_op for work in works]
        self._run = [work.gather_run for work in works]
        self._scattered = [
            work.reads[0] if work.reads and not work.gather_run.is_zero else number(0) for work in works
        ]
        self._dims = {name: [work.dims[name] for work in works] for name in _DIMS[shape]}
        self._first_byte, self._second_byte = self._width(0), self._width(1)
        self._out_byte = np.array(
            [[(row.write_bits[0] if row.write_bits else 0.0) / 8] for row in self._rows]
        )
        self._causal = np.array([[float(row.operator.attribute("mask") == "causal")] for row in self._rows])
        self._reduces = np.array([[float(_reduces(row.operator))] for row in self._rows])
        self._traffic = _Traffic(table, self.rows)

    def price(self, values: Environment, machine: Machine) -> Priced:
        """The cheapest candidate of every row at every point, by its complete price at nominal clock."""
        dram, moved, first = self._traffic.bytes(values, machine)
        vector = _stack(self._vector, values)
        special = _stack(self._special, values)
        flop = self.flops(values)
        demand, arithmetic = self._demand(values, machine, moved)
        flop, vector, special = flop * arithmetic, vector * arithmetic, special * arithmetic
        vector_s = (
            vector / _per_row(machine.vector_flop_per_s, self._dtypes) + special / machine.special_op_per_s
        )
        dram = dram + demand.extra_dram
        candidates = Candidates(
            compute=np.maximum(demand.matrix / _per_row(machine.matrix_flop_per_s, self._dtypes), vector_s),
            onchip_s=np.maximum(
                demand.onchip / machine.onchip_byte_per_s, demand.busiest / machine.unit_byte_per_s
            ),
            executed=demand.executed,
            dram_s=dram / machine.dram_byte_per_s,
            overlap=machine.structure.coefficients["overlap"],
        )
        core_j = (
            flop * _per_row(machine.matrix_j_per_flop, self._dtypes)
            + vector * _per_row(machine.vector_j_per_flop, self._dtypes)
            + special * machine.special_j_per_op
        )
        return Priced(
            candidates=candidates,
            choice=candidates.cheapest(first.min(axis=1) / np.max(machine.dram_byte_per_s)),
            core_j=core_j,
            dram_bytes=dram,
            onchip_bytes=moved,
            names=demand.labels,
        )

    def flops(self, values: Environment) -> Array:
        """Algorithmic FLOP per run of each row."""
        return _stack(self._flop, values)

    def _demand(self, values: Environment, machine: Machine, moved: Array) -> tuple[Demand, Array | float]:
        """What the engine's candidates ask, and the share of the arithmetic that none of them can skip."""
        module = engine(machine.device.engine)
        if self.shape == "gemm":
            return module.gemm(self._gemm_rows(values, machine), machine.structure), 1.0
        if self.shape == "attention":
            rows = self._attention_rows(values)
            return module.attention(rows, machine.structure), _visible_share(rows)
        run = _stack(self._run, values) * self._first_byte
        scattered = _stack(self._scattered, values) * self._first_byte
        streams = StreamRows(moved_byte=moved, scattered_byte=scattered, run_byte=run, reduces=self._reduces)
        return module.stream(streams, machine.structure), 1.0

    def _width(self, operand: int) -> Array:
        """Bytes per element of an input, [rows, 1]."""
        return np.array(
            [[(row.read_bits[operand] if len(row.read_bits) > operand else 0.0) / 8] for row in self._rows]
        )

    def _sizes(self, values: Environment) -> list[Array]:
        return [_stack(exprs, values) for exprs in self._dims.values()]

    def _gemm_rows(self, values: Environment, machine: Machine) -> GemmRows:
        b, m, n, k = self._sizes(values)
        return GemmRows(
            b=b, m=m, n=n, k=k,
            left_byte=self._first_byte, right_byte=self._second_byte, out_byte=self._out_byte,
            on_lanes=np.array([[float(d in machine.on_lanes)] for d in self._dtypes]),
        )  # fmt: skip

    def _attention_rows(self, values: Environment) -> AttentionRows:
        heads, kv_heads, q_len, kv_len, head_dim, value_dim = self._sizes(values)
        return AttentionRows(
            heads=heads, kv_heads=kv_heads, q_len=q_len, kv_len=kv_len, head_dim=head_dim,
            value_dim=value_dim, causal=self._causal, byte=self._second_byte,
        )  # fmt: skip


def build_groups(table: OpTable) -> list[Group]:
    """Groups of all rows: by shape and by the symbols they depend on, so that what is constant stays so."""
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
        """Bytes from and to DRAM, all bytes moved, and those no cache can save; [rows, points or 1]."""
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
        return (
            np.einsum("rq,qp->rp", self._weights, missed),
            np.einsum("rq,qp->rp", self._weights, picked),
            np.einsum("rq,qp->rp", self._first, picked),
        )


def _reduces(operator: Operator) -> bool:
    """Whether an operator, or a member of a fused one, combines the elements of a row."""
    return any(one.kind in REDUCTIONS for one in operator.members or (operator,))


def _visible_share(rows: AttentionRows) -> Array:
    """Share of the q x kv rectangle at or below the diagonal of a causal mask."""
    hidden = np.maximum(0.0, np.minimum(rows.q_len, rows.kv_len) - 1) / 2
    return np.asarray(np.where(rows.causal > 0, 1.0 - hidden / np.maximum(rows.kv_len, 1.0), 1.0))


def _stack(exprs: Sequence[Expr], values: Environment) -> Array:
    """Values of expressions as [rows, 1] when none varies, else [rows, points]."""
    found = [values(expr) for expr in exprs]
    width = max((value.size for value in found), default=1)
    out = np.empty((len(found), width))
    for index, value in enumerate(found):
        out[index] = value
    return out


def _per_row(rates: Mapping[str, Any], dtypes: Sequence[str]) -> Array:
    """A rate per row, [rows, 1] or [rows, points]; a dtype no row computes in counts as 1."""
    values = [rates.get(dtype, 1.0) for dtype in dtypes]
    if all(np.ndim(v) == 0 for v in values):
        return np.array(values, dtype=np.float64)[:, None]
    return np.stack(np.broadcast_arrays(*values))
