"""The columnar evaluator: an `OpTable` on a `Machine` at many points, in chunks; one estimate is a sweep of one.

Per chunk: sizes and DRAM bytes of all rows by linear forms, the best candidate of each row at nominal clock, one
clock per point under the power limit, sums over rows. What depends on few distinct sizes (tiles of a GEMM on batch)
is computed once per distinct tuple and gathered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from graphs.expressions import Environment

from hwsim.engines.demand import Array
from hwsim.groups import Group, Priced, build_groups
from hwsim.machine import Machine
from hwsim.optable import NEVER, OpTable
from hwsim.power import solve_clock
from hwsim.pricing import combine, compute_part, miss_fraction

CHUNK_ELEMENTS = 65_536  # rows x points of one chunk: what stays in a core's L2


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over rows at every point, each [points]; seconds, joules, bytes, FLOP."""

    latency_s: Array
    compute_s: Array
    memory_s: Array
    overhead_s: Array
    power_s: Array
    clock: Array
    energy: Mapping[str, Array]
    flops: Array
    flops_executed: Array
    dram_bytes: Array
    onchip_bytes: Array
    memory: Mapping[str, Array]


@dataclass(frozen=True, kw_only=True)
class RowValues:
    """Per row at one point, each [rows]; times at the solved clock, for one run of the row."""

    seconds: Array
    compute_s: Array
    memory_s: Array
    energy_j: Array
    flops: Array
    executed: Array
    dram_bytes: Array
    onchip_bytes: Array
    choice: tuple[str, ...]


class Evaluator:
    """Prices one table on one machine; build once, call `totals` for all points or `row_values` for one."""

    def __init__(self, table: OpTable, machine: Machine, sizes: Mapping[str, Array], points: int) -> None:
        self.table, self.machine, self.sizes, self.points = table, machine, sizes, points
        self.groups: list[Group] = build_groups(table, machine, sizes, points)
        self._overlap = machine.structure.coefficients["overlap"]
        self._traffic = _Traffic(table, self.groups)

    def totals(self) -> Totals:
        """Every total at every point."""
        rows = max(1, len(self.table.rows))
        chunk = max(64, min(8192, CHUNK_ELEMENTS // rows))
        parts = [self._chunk(slice(at, min(at + chunk, self.points))) for at in range(0, self.points, chunk)]
        joined = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        energy = {k.removeprefix("energy."): v for k, v in joined.items() if k.startswith("energy.")}
        memory = {k.removeprefix("memory."): v for k, v in joined.items() if k.startswith("memory.")}
        plain = {k: v for k, v in joined.items() if "." not in k}
        return Totals(energy=energy, memory=memory, **plain)

    def _chunk(self, part: slice) -> dict[str, Array]:
        width = part.stop - part.start
        values = Environment({name: v[part] if np.ndim(v) else v for name, v in self.sizes.items()})
        machine = self.machine if self.points == 1 else self.machine.at(part)
        counts_sum: dict[str, Array] = dict.fromkeys(
            ("device", "compute", "executed", "dram", "onchip", "core_j"), np.zeros(width)
        )
        elements = self._traffic.elements(values, width)
        dram = self._traffic.dram(elements, machine, width)
        priced: list[Priced] = []
        for group in self.groups:
            one = group.price(values, machine, part, dram[group.slice], width)
            priced.append(one)
            seconds = combine(one.compute, one.memory(1.0), machine.structure.coefficients["overlap"])
            counts = group.counts
            counts_sum["device"] = counts_sum["device"] + counts @ seconds
            counts_sum["compute"] = counts_sum["compute"] + counts @ compute_part(
                one.compute, one.memory(1.0), machine.structure.coefficients["overlap"]
            )
            counts_sum["executed"] = counts_sum["executed"] + counts @ one.executed
            counts_sum["dram"] = counts_sum["dram"] + counts @ one.dram_bytes
            counts_sum["onchip"] = counts_sum["onchip"] + counts @ one.onchip_bytes
            counts_sum["core_j"] = counts_sum["core_j"] + counts @ one.core_j
        nominal = self._elapsed(counts_sum["device"], machine)
        clock = solve_clock(self, priced, machine, counts_sum, nominal)
        latency = nominal if np.all(clock == 1.0) else self._elapsed(self._device_seconds(priced, machine, clock), machine)
        return self._assemble(machine, values, elements, counts_sum, nominal, latency, clock, width)

    def _device_seconds(self, priced: list[Priced], machine: Machine, clock: Array) -> Array:
        """Seconds of all kernels at relative `clock` [points]."""
        overlap = machine.structure.coefficients["overlap"]
        total = np.zeros(np.shape(clock))
        for group, one in zip(self.groups, priced, strict=True):
            total = total + group.counts @ combine(one.compute / clock, one.memory(clock), overlap)
        return total

    def _elapsed(self, device_s: Array, machine: Machine) -> Array:
        """Kernels with their gaps, or the host that dispatches them, whichever takes longer; plus the first dispatch."""
        stack, c = machine.stack, machine.structure.coefficients
        kernels = self.table.kernels
        on_device = device_s + kernels * (stack.launch_s + c["kernel_ramp_s"])
        return np.asarray(np.maximum(on_device, kernels * stack.dispatch_s) + stack.dispatch_s)

    def _assemble(
        self,
        machine: Machine,
        values: Environment,
        elements: Array,
        sums: Mapping[str, Array],
        nominal: Array,
        latency: Array,
        clock: Array,
        width: int,
    ) -> dict[str, Array]:
        memory_s = sums["device"] - sums["compute"]
        scale = voltage_energy(clock, machine)
        compute_j, onchip_j = sums["core_j"], sums["onchip"] * machine.onchip_j_per_byte
        dram_j = sums["dram"] * machine.dram_j_per_byte
        flops = np.zeros(width)
        for group in self.groups:
            flops = flops + group.counts @ group.flops(values, width)
        result = {
            "latency_s": latency,
            "compute_s": sums["compute"],
            "memory_s": memory_s,
            "overhead_s": nominal - sums["device"],
            "power_s": latency - nominal,
            "clock": clock,
            "energy.compute": compute_j * scale,
            "energy.onchip": onchip_j * scale,
            "energy.dram": dram_j,
            "energy.link": np.zeros(width),
            "energy.static": machine.static_w * latency,
            "flops": flops,
            "flops_executed": sums["executed"],
            "dram_bytes": sums["dram"],
            "onchip_bytes": sums["onchip"],
        }
        for role, form in self.table.resident.items():
            result[f"memory.{role}"] = form @ elements
        result["memory.activations"] = np.max(self.table.live.coefficients @ elements, axis=0, initial=0.0)
        return {name: np.broadcast_to(np.asarray(v, dtype=np.float64), (width,)) for name, v in result.items()}

    def row_values(self) -> RowValues:
        """Values of every row at the single point of this evaluator."""
        if self.points != 1:
            raise ValueError("row values exist for a single point")
        values = Environment(self.sizes)
        machine = self.machine
        elements = self._traffic.elements(values, 1)
        dram = self._traffic.dram(elements, machine, 1)
        overlap = machine.structure.coefficients["overlap"]
        priced = [g.price(values, machine, slice(0, 1), dram[g.slice], 1) for g in self.groups]
        clock = self.totals().clock
        scale = voltage_energy(clock, machine)
        count = len(self.table.rows)
        out = {n: np.zeros(count) for n in ("seconds", "compute_s", "memory_s", "energy_j", "flops", "executed", "dram_bytes", "onchip_bytes")}  # fmt: skip
        choice = [""] * count
        for group, one in zip(self.groups, priced, strict=True):
            compute, memory = one.compute / clock, one.memory(clock)
            index = group.rows
            out["seconds"][index] = combine(compute, memory, overlap)[:, 0]
            out["compute_s"][index] = compute_part(compute, memory, overlap)[:, 0]
            out["memory_s"][index] = out["seconds"][index] - out["compute_s"][index]
            dynamic = (one.core_j + one.onchip_bytes * machine.onchip_j_per_byte) * scale
            out["energy_j"][index] = (dynamic + one.dram_bytes * machine.dram_j_per_byte)[:, 0]
            out["flops"][index] = group.flops(values, 1)[:, 0]
            out["executed"][index] = one.executed[:, 0]
            out["dram_bytes"][index] = one.dram_bytes[:, 0]
            out["onchip_bytes"][index] = one.onchip_bytes[:, 0]
            for position, label in zip(index, one.labels(), strict=True):
                choice[position] = label
        return RowValues(**out, choice=tuple(choice))


def voltage_energy(clock: Array, machine: Machine) -> Array:
    """Core energy per operation relative to nominal: the square of voltage, which stops falling below the knee."""
    knee = machine.structure.coefficients["clock_knee"]
    return np.asarray(np.maximum(clock, knee) ** 2)


class _Traffic:
    """DRAM bytes of every row as one matrix product over distinct (size, reuse class) pairs."""

    def __init__(self, table: OpTable, groups: list[Group]) -> None:
        self.table = table
        order = [row for group in groups for row in group.rows]
        pairs: dict[tuple[int, int], int] = {}
        position = {expr.text: i for i, expr in enumerate(table.sizes)}
        entries: list[tuple[int, int, float]] = []
        for at, index in enumerate(order):
            row = table.rows[index]
            terms = [
                *zip(row.work.reads, row.read_bits, row.read_classes, strict=True),
                *zip(row.work.writes, row.write_bits, row.write_classes, strict=True),
            ]
            for expr, bits, reuse in terms:
                if expr.is_zero:
                    continue
                pair = (position[expr.text], reuse)
                entries.append((at, pairs.setdefault(pair, len(pairs)), bits / 8))
        self._weights = np.zeros((len(order), len(pairs)))
        for at, pair_index, width in entries:
            self._weights[at, pair_index] += width
        keys = np.array(list(pairs), dtype=np.intp).reshape(-1, 2)
        self._size, self._class = keys[:, 0], keys[:, 1]

    def elements(self, values: Environment, width: int) -> Array:
        """Element counts [sizes, points]."""
        out = np.empty((len(self.table.sizes), width))
        for index, expr in enumerate(self.table.sizes):
            out[index] = values(expr)
        return out

    def dram(self, elements: Array, machine: Machine, width: int) -> Array:
        """Bytes [rows in group order, points] that come from or go to DRAM."""
        c = machine.structure.coefficients
        distances = self.table.distances.coefficients @ elements
        miss = np.ones((distances.shape[0] + 1, width))  # the last row serves NEVER
        miss[:-1] = miss_fraction(distances, machine.structure.onchip_byte, c["cache_reuse_low"], c["cache_reuse_high"])
        reuse = np.where(self._class == NEVER, distances.shape[0], self._class)
        return np.asarray(self._weights @ (elements[self._size] * miss[reuse]))
