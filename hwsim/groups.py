"""Rows of one shape that depend on the same sizes, priced with the best of the engine's candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from graphs.expressions import Environment, Expr, number
from graphs.ir import RECOMPUTE, Operator
from graphs.work import Work
from graphs.work.work import ZERO
from hwsim.candidates import Candidates, Choice
from hwsim.engines import engine
from hwsim.engines.demand import Array, AttentionRows, Demand, GemmRows, StreamRows
from hwsim.engines.simt import visible_keys
from hwsim.engines.tiling import Tiling
from hwsim.machine import Machine
from hwsim.optable import NEVER, OpTable, Row
from hwsim.pricing import combine
from hwsim.stacked import Stacked
from hwsim.surface import Correction, Corrector
from hwsim.traffic import Traffic

SOFTMAX = frozenset(("softmax", "log_softmax"))
COMBINED = frozenset(
    (
        "norm", "rms_norm", "reduce", "norm_backward", "rms_norm_backward", "softmax_backward",
        "log_softmax_backward", "loss", "quantise",
    )
)  # fmt: skip
# Larger blocks go back to the system when freed, smaller ones are used again: where glibc's threshold for
# mmap ends (DEFAULT_MMAP_THRESHOLD_MAX in mallopt(3)).
KEPT_BYTE = 2.0**25
SHAPES = ("gemm", "attention", "stream")
_DIMS = {"gemm": ("b", "m", "n", "k"), "attention": ("b", "kv", "m", "n", "k", "v"), "stream": ()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """A group with its candidates chosen at nominal clock; amounts per row, [rows, points] or [rows, 1]."""

    candidates: Candidates
    choice: Choice
    flops: Array
    core_j: Array
    dram_bytes: Array
    onchip_bytes: Array
    names: tuple[str, ...]
    tiling: Tiling | None
    own: Correction | None = None


class Group:
    """Some rows of `table`, all of one shape, in one place, and depending on the same symbols."""

    def __init__(self, table: OpTable, shape: str, rows: Sequence[int]) -> None:
        self.shape, self.rows = shape, list(rows)
        self.place = table.rows[rows[0]].place
        self.counts = table.counts[self.rows]
        self._rows = [table.rows[i] for i in rows]
        self._dtypes = [row.dtype for row in self._rows]
        works = [row.work for row in self._rows]
        # what is computed again is executed and not counted
        self._flop = Stacked([ZERO if row.phase == RECOMPUTE else row.work.flop for row in self._rows])
        self._executed = Stacked([work.flop_executed for work in works])
        self._vector = Stacked([work.vector_flop for work in works])
        coded = any(not work.coded_flop.is_zero for work in works)
        self._coded = Stacked([work.coded_flop for work in works]) if coded else None
        self._additions = Stacked([work.additions for work in works])
        self._special = Stacked([work.special_op for work in works])
        self._run = Stacked([work.gather_run for work in works])
        self._scattered = Stacked(
            [work.reads[0] if work.reads and not work.gather_run.is_zero else number(0) for work in works]
        )
        again = any(not work.again.is_zero for work in works)
        self._again = Stacked([work.again for work in works]) if again else None
        self._table = Stacked([_table(row) for row in self._rows])
        self._passes = Stacked([_passes(work) for work in works])
        self._dims = {name: Stacked([work.dims[name] for work in works]) for name in _DIMS[shape]}
        self._first_byte, self._second_byte = self._width(0), self._width(1)
        self._out_byte = np.array(
            [[(row.write_bits[0] if row.write_bits else 0.0) / 8] for row in self._rows]
        )
        self._causal = np.array([[float(row.operator.attribute("mask") == "causal")] for row in self._rows])
        windows = [_window(row.operator) for row in self._rows] if shape == "attention" else []
        self._windows = Stacked(windows) if any(not one.is_zero for one in windows) else None
        self._combined = np.array(
            [[float(_member(row.operator, COMBINED) is not None)] for row in self._rows]
        )
        softmax = [_member(row.operator, SOFTMAX) for row in self._rows]
        self._row = Stacked([one.dim("cols") if one is not None else number(0) for one in softmax])
        self._gathered = np.array([[float(_first(row.operator).kind == "conv")] for row in self._rows])
        self._loops = [_loops(row.operator) for row in self._rows]
        self._traffic = Traffic(table, self.rows)
        self._results = _results(self._rows)
        self._corrector: Corrector | None = None  # made when a device has measured kernels of its own

    def price(self, values: Environment, machine: Machine) -> Priced:
        """The cheapest candidate of every row at every point, by its complete price at nominal clock."""
        dram, moved, first = self._traffic.bytes(values, machine)
        if self._again is not None:
            moved = moved + self._again(values) * self._first_byte
        vector = self._vector(values)
        special = self._special(values)
        demand, arithmetic = self._demand(values, machine, moved)
        flop, vector, special = self._executed(values) * arithmetic, vector * arithmetic, special * arithmetic
        vector_s = (vector + demand.lanes) / _per_row(machine.vector_flop_per_s, self._dtypes)
        vector_s = vector_s + special / machine.special_op_per_s
        slowdown = self._of_loop("slowdown", machine.structure.coefficients, 1.0)
        serial_s = self._of_loop("call_s", machine.structure.coefficients, 0.0)
        serial_s = serial_s + self._fresh_s(values, machine.structure.coefficients)
        if np.any(demand.waited):  # zeros would take on every point of a varying bandwidth
            serial_s = serial_s + demand.waited / machine.dram_byte_per_s
        dram = dram + demand.extra_dram
        matrix_s = demand.matrix / _per_row(machine.matrix_flop_per_s, self._dtypes)
        c = machine.structure.coefficients
        dram_s = dram / machine.dram_byte_per_s
        if self.shape == "attention":
            # the softmax of a tile hides only partly behind the next product; keys come in pages
            compute = combine(matrix_s, vector_s, c.get("softmax_overlap", 0.0))
            dram_s = dram_s / c.get("attention_stream_share", 1.0)
        else:
            compute = np.maximum(matrix_s, vector_s)
        candidates = Candidates(
            compute=slowdown * np.maximum(compute, demand.feed / machine.onchip_byte_per_s)
            + demand.begun * machine.block_s
            + serial_s,
            onchip_s=slowdown
            * np.maximum(demand.onchip / machine.onchip_byte_per_s, demand.busiest / machine.unit_byte_per_s),
            executed=demand.executed,
            dram_s=dram_s,
            overlap=c["overlap"],
            serial_s=np.asarray(serial_s) if np.any(serial_s) else None,
        )
        least = first / np.max(machine.dram_byte_per_s)
        own, times = self._own(values, machine)
        if times is not None:
            rate = _per_row(machine.matrix_flop_per_s, self._dtypes)
            floor = demand.executed * _per_row(machine.matrix_share, self._dtypes) / rate
            dram_floor = dram / machine.dram_byte_per_s * c["dram_efficiency"]
            candidates = candidates.slower(times, floor, dram_floor)
            least = least * np.min(times, axis=-1)
        core_j = (
            flop * _per_row(machine.matrix_j_per_flop, self._dtypes)
            + vector * _per_row(machine.vector_j_per_flop, self._dtypes)
            + special * machine.special_j_per_op
        )
        if self._coded is not None:  # sums of what codes pick, no multiplications
            core_j = core_j + (
                self._additions(values) * _per_row(machine.addition_j_per_op, self._dtypes)
                - self._coded(values) * _per_row(machine.matrix_j_per_flop, self._dtypes)
            )
        return Priced(
            candidates=candidates,
            choice=candidates.cheapest(least),
            flops=self._flop(values),
            core_j=core_j,
            dram_bytes=dram,
            onchip_bytes=np.maximum(moved, demand.feed.min(axis=0)),
            names=demand.labels,
            tiling=demand.tiling,
            own=own,
        )

    def _of_loop(self, what: str, coefficients: Mapping[str, Any], default: float) -> Any:
        """The `slowdown` or `call_s` of each row's loop, [] or [rows, 1 or points]."""
        named = [
            next((n for one in loops if (n := f"{one}_{what}") in coefficients), "") for loops in self._loops
        ]
        if not any(named):
            return default
        return _per_row({"": default, **{name: coefficients[name] for name in named if name}}, named)

    def _own(self, values: Environment, machine: Machine) -> tuple[Correction | None, Array | None]:
        """What measured kernels of the device say, and how many times longer than counted all rows take."""
        c = machine.structure.coefficients
        surface, slower = machine.coefficients.surface, c.get("kernel_slowdown", 1.0)
        own = None
        if surface:
            if self._corrector is None:
                self._corrector = Corrector(self._rows)
            own = self._corrector.correction(surface, values, c.get("surface_weight", 1.0))
        if own is None and np.ndim(slower) == 0 and slower == 1.0:
            return None, None
        times = np.ones((1, 1)) if own is None else own.times
        return own, np.asarray(times * slower)

    def _fresh_s(self, values: Environment, coefficients: Mapping[str, Any]) -> Any:
        """Seconds that a host takes to hand out memory for large results, 0 or [rows, points]."""
        cost = coefficients.get("fresh_page_s_per_byte")
        if cost is None:
            return 0.0
        byte = [elements(values) * width for elements, width in self._results]
        return sum((np.where(one >= KEPT_BYTE, one, 0.0) for one in byte), start=np.zeros((1, 1))) * cost

    def _demand(self, values: Environment, machine: Machine, moved: Array) -> tuple[Demand, Array | float]:
        """What the engine's candidates ask, and the share of the arithmetic that none of them can skip."""
        module = engine(machine.device.engine)
        if self.shape == "gemm":
            return module.gemm(self._gemm_rows(values, machine), machine.structure), 1.0
        if self.shape == "attention":
            rows = self._attention_rows(values)
            demand = module.attention(rows, machine.structure)
            return _repeated(demand, self._passes(values)), _visible_share(rows)
        run = self._run(values) * self._first_byte
        scattered = self._scattered(values) * self._first_byte
        streams = StreamRows(
            moved_byte=moved, scattered_byte=scattered, run_byte=run,
            table_byte=self._table(values) * self._first_byte, combined=self._combined, row=self._row(values),
        )  # fmt: skip
        return module.stream(streams, machine.structure), 1.0

    def _width(self, operand: int) -> Array:
        """Bytes per element of an input, [rows, 1]."""
        return np.array(
            [[(row.read_bits[operand] if len(row.read_bits) > operand else 0.0) / 8] for row in self._rows]
        )

    def _sizes(self, values: Environment) -> list[Array]:
        return [sizes(values) for sizes in self._dims.values()]

    def _gemm_rows(self, values: Environment, machine: Machine) -> GemmRows:
        b, m, n, k = self._sizes(values)
        waits = "row_start_byte" in machine.structure.coefficients
        missed = self._traffic.second_missed(values, machine) if waits else np.ones((1, 1))
        return GemmRows(
            b=b, m=m, n=n, k=k,
            left_byte=self._first_byte, right_byte=self._second_byte, out_byte=self._out_byte,
            on_lanes=np.array([[float(d in machine.on_lanes)] for d in self._dtypes]),
            gathered=self._gathered, missed=missed,
        )  # fmt: skip

    def _seen(self, values: Environment) -> Array | None:
        """Windows of attention, infinite where a row has none; None where no row has one."""
        if self._windows is None:
            return None
        found = self._windows(values)
        return np.where(found > 0, found, np.inf)

    def _attention_rows(self, values: Environment) -> AttentionRows:
        heads, kv_heads, q_len, kv_len, head_dim, value_dim = self._sizes(values)
        return AttentionRows(
            heads=heads, kv_heads=kv_heads, q_len=q_len, kv_len=kv_len, head_dim=head_dim,
            value_dim=value_dim, causal=self._causal, window=self._seen(values), byte=self._second_byte,
            query_byte=self._first_byte,
        )  # fmt: skip


@lru_cache(maxsize=64)
def build_groups(table: OpTable, together: bool = False) -> tuple[Group, ...]:
    """Groups of all rows: by shape and by the symbols they depend on, so that what is constant stays so.

    `together` groups by shape alone, for fewer and longer array operations where no row's time
    stays constant.
    """
    keys: dict[tuple[str, str, frozenset[str]], list[int]] = {}
    for index, row in enumerate(table.rows):
        if row.work.shape not in SHAPES:
            continue  # exchanges between ranks have no engine
        exprs = [
            *row.work.dims.values(),
            *row.work.reads,
            *row.work.writes,
            row.work.flop_executed,
            row.work.vector_flop,
            row.work.additions,
        ]
        exprs += [row.work.special_op, row.work.gather_run, row.work.again, _table(row)]
        for reuse in (*row.read_classes, *row.write_classes):
            if reuse != NEVER:
                exprs += [table.sizes[i] for i in np.flatnonzero(table.distances.coefficients[reuse])]
        symbols = frozenset(name for expr in exprs if not together for name in expr.symbols)
        keys.setdefault((row.place, row.work.shape, symbols), []).append(index)
    ordered = sorted(keys, key=lambda key: (key[0], SHAPES.index(key[1]), sorted(key[2])))
    return tuple(Group(table, key[1], keys[key]) for key in ordered)


def _passes(work: Work) -> Expr:
    """How often over a kernel makes the two products of a forward attention."""
    if work.executed is None:
        return number(1)
    b, m, n, k, v = (work.dims[name] for name in "bmnkv")
    return work.executed / (2 * b * m * n * (k + v))


def _repeated(demand: Demand, times: Array) -> Demand:
    """The demand of a kernel that makes an engine's products `times` over, [rows, points or 1]."""
    if np.all(times == 1):
        return demand
    scaled = {
        name: getattr(demand, name) * times
        for name in ("matrix", "executed", "onchip", "busiest", "begun", "extra_dram", "waited")
    }
    return replace(demand, **scaled)


def _first(operator: Operator) -> Operator:
    """The operator itself, or the first member of a fused one."""
    return operator.members[0] if operator.members else operator


def _results(rows: Sequence[Row]) -> list[tuple[Stacked, Array]]:
    """Elements and bytes per element of each result of every row; none where it is written in place."""
    most = max(len(row.write_bits) for row in rows)
    found = []
    for at in range(most):
        new = [at < len(row.write_bits) and not _in_place(row.operator) for row in rows]
        elements = [
            row.operator.outputs[at].elements if fresh else number(0)
            for row, fresh in zip(rows, new, strict=True)
        ]
        width = [[row.write_bits[at] / 8 if fresh else 0.0] for row, fresh in zip(rows, new, strict=True)]
        found.append((Stacked(elements), np.array(width)))
    return found


def _table(row: Row) -> Expr:
    """Elements of the tensor whose rows are picked or added to; 0 where all is read in order."""
    first = _first(row.operator)
    return number(0) if row.work.gather_run.is_zero or not first.inputs else first.inputs[0].elements


def _in_place(operator: Operator) -> bool:
    """Whether the result lies where an operand lay; a cache that is appended to grows where it is."""
    return operator.kind == "kv_append" or operator.name.endswith("_")


def _loops(operator: Operator) -> tuple[str, ...]:
    """Names by which coefficients may tell of an operator's loop, the closest first; none of fused ones."""
    if operator.members:
        return ()
    name = operator.name.rpartition(".")[2].rstrip("_")
    form = operator.attribute("form")
    return (f"{name}_{form}" if form else name, operator.kind)


def _window(operator: Operator) -> Expr:
    """Keys up to its own that a query sees; 0 where there is no window."""
    return dict(operator.dims).get("window", ZERO)


def _member(operator: Operator, kinds: frozenset[str]) -> Operator | None:
    """The operator itself, or the first member of a fused one, that is of some kinds."""
    return next((one for one in operator.members or (operator,) if one.kind in kinds), None)


def _visible_share(rows: AttentionRows) -> Array:
    """Share of the q x kv rectangle that masks leave."""
    return np.asarray(visible_keys(rows, 1.0) / np.maximum(rows.kv_len, 1.0))


def _per_row(rates: Mapping[str, Any], dtypes: Sequence[str]) -> Any:
    """A rate for all rows, [] or [points], or one each, [rows, 1 or points]; 1 where there is none."""
    values = [rates.get(dtype, 1.0) for dtype in dtypes]
    if all(value is values[0] for value in values):
        return values[0]
    if all(np.ndim(value) == 0 for value in values):
        return np.array(values, dtype=np.float64)[:, None]
    return np.stack(np.broadcast_arrays(*values))
