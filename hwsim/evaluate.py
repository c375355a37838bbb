"""The columnar evaluator: an `OpTable` on a `Machine` at many points; one estimate is a sweep of one.

Per piece: DRAM bytes of all rows by linear forms, the best candidate of each row at nominal clock, one clock
per point under the power limit, sums over rows. Points are taken in pieces that share the values of columns
with few distinct values (`hwsim.pieces`), so that whatever depends on these alone is computed once a piece.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from graphs.expressions import Environment
from graphs.ir import HOST
from hwsim.candidates import Choice
from hwsim.energy import dynamic_j, kept_share
from hwsim.engines.demand import Array
from hwsim.exchanges import Exchanges
from hwsim.groups import SHAPES, Group, Priced, build_groups
from hwsim.machine import Machine
from hwsim.optable import OpTable
from hwsim.pieces import Piece, pieces
from hwsim.power import NOTHING, Throttled, throttle
from hwsim.pricing import compute_part

Times = list[tuple[Array, Array, Array]]
HOSTED = ("host_compute", "host_executed", "host_j", "host_flop")
SUMMED = ("device", "compute", "executed", "dram", "onchip", "core_j", "flop")
KINDS = {shape: f"kind.{shape}" for shape in SHAPES}
CHUNK_ELEMENTS = 196_608  # rows x points of one piece: what stays in a core's cache
KEPT_BYTE = 30 * 2**20  # below the 32 MiB up to which glibc adapts


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over rows at every point, each [points]; seconds, joules, bytes, FLOP."""

    latency_s: Array
    compute_s: Array
    memory_s: Array
    overhead_s: Array
    communication_s: Array
    power_s: Array
    once_s: Array  # of the latency, what runs once however many micro-batches there are
    clock: Array
    energy: Mapping[str, Array]
    flops: Array
    flops_executed: Array
    dram_bytes: Array
    onchip_bytes: Array
    energy_kept: Array  # share of the dynamic joules that the power limit allows
    memory: Mapping[str, Array]
    kind_s: Mapping[str, Array]  # device seconds at nominal clock of gemm, attention and stream rows
    # of these, what measured neighbours explain, and the seconds of its spread; nothing without any
    own_s: Mapping[str, Array] = field(default_factory=dict)
    own_sigma_s: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RowValues:
    """Per row at one point, each [rows]; times at the solved clock, for one run of the row.

    Energy holds the row's share of static power, the time between kernels dealt evenly, so that rows sum to
    the whole.
    """

    seconds: Array
    compute_s: Array
    memory_s: Array
    energy_j: Array
    flops: Array
    executed: Array
    dram_bytes: Array
    onchip_bytes: Array
    exchange_s: Array
    choice: tuple[str, ...]


class Evaluator:
    """Prices one table on one machine; build once, call `totals` for all points or `row_values` for one."""

    def __init__(self, table: OpTable, machine: Machine, sizes: Mapping[str, Array], points: int) -> None:
        self.table, self.machine, self.sizes, self.points = table, machine, sizes, points
        bandwidths = np.ndim(machine.dram_byte_per_s) > 0
        every: Sequence[Group] = build_groups(table, together=bandwidths)
        self.groups = [group for group in every if group.place != HOST]
        self.on_host = [group for group in every if group.place == HOST]
        self._host_calls = sum(float(group.counts.sum()) for group in self.on_host)
        self.exchanges = Exchanges(table)
        self._once = np.array([float(table.once(row.phase)) for row in table.rows]) * table.counts
        self._totals: Totals | None = None

    def totals(self) -> Totals:
        """Every total at every point."""
        if self._totals is None:
            if self.points > 1:
                keep_freed_memory()
            joined: dict[str, Array] = {}
            chunk = max(64, min(8192, CHUNK_ELEMENTS // max(1, len(self.table.rows))))
            for piece in pieces(self.sizes, self.machine, self.points, chunk):
                for name, value in self._piece(piece).items():
                    if name not in joined:
                        joined[name] = np.zeros(self.points)
                    if np.ndim(value) or value != 0:
                        joined[name][piece.index] = value
            energy = {k.removeprefix("energy."): v for k, v in joined.items() if k.startswith("energy.")}
            memory = {k.removeprefix("memory."): v for k, v in joined.items() if k.startswith("memory.")}
            kinds = {shape: joined[name] for shape, name in KINDS.items()}
            own = {k.removeprefix("own."): v for k, v in joined.items() if k.startswith("own.")}
            spread = {
                k.removeprefix("own_sigma."): v for k, v in joined.items() if k.startswith("own_sigma.")
            }
            plain = {k: v for k, v in joined.items() if "." not in k}
            self._totals = Totals(
                energy=energy, memory=memory, kind_s=kinds, own_s=own, own_sigma_s=spread, **plain
            )
        return self._totals

    def _piece(self, piece: Piece) -> dict[str, Array]:
        machine, values = piece.machine, Environment(piece.sizes)
        overlap = machine.structure.coefficients["overlap"]
        sums: dict[str, Array] = dict.fromkeys((*SUMMED, *KINDS.values()), np.zeros(1))
        priced: list[Priced] = []
        once = np.zeros(1)
        working = dict.fromkeys(self.exchanges.hiding, np.zeros(1))
        for group in self.groups:
            one = group.price(values, machine)
            priced.append(one)
            choice = one.choice
            share = compute_part(choice.compute, choice.memory, choice.seconds, overlap)
            executed = one.candidates.executed_by(choice.index)
            amounts = (choice.seconds, share, executed, one.dram_bytes, one.onchip_bytes, one.core_j)
            for name, amount in zip(SUMMED, (*amounts, one.flops), strict=True):
                added = weighted_sum(group.counts, amount)
                sums[name] = sums[name] + added
                if name == "device":
                    sums[KINDS[group.shape]] = sums[KINDS[group.shape]] + added
            if one.own is not None:
                known = choice.seconds * one.own.explained
                for name, amount in (("own", known), ("own_sigma", known * one.own.sigma)):
                    added = weighted_sum(group.counts, amount)
                    sums[f"{name}.{group.shape}"] = sums.get(f"{name}.{group.shape}", 0.0) + added
            if self._once.any():
                once = once + weighted_sum(self._once[group.rows], choice.seconds)
            for name, runs in self.exchanges.hiding.items():
                working[name] = working[name] + weighted_sum(runs[group.rows], choice.seconds)
        exchanged = self.exchanges.price(values, machine)
        sums["waited"] = self.exchanges.waited(exchanged, working)
        sums["once"] = once + self.exchanges.waited(exchanged, working, once=True)
        sums["sent"] = weighted_sum(self.exchanges.counts, exchanged.byte)
        sums["away"] = sums["waited"]  # what the device stands still for
        if self.on_host:
            sums |= self._hosted(values, machine)
            sums["away"] = sums["waited"] + sums["host"]
        nominal = np.array(
            np.broadcast_to(self.elapsed(sums["device"] + sums["away"], machine), (piece.width,))
        )
        clock, latency = np.ones(nominal.shape), nominal
        slow = throttle(self, priced, machine, sums, nominal)
        if slow is not None:
            clock[slow.points] = slow.clock
            waited = np.broadcast_to(sums["away"], nominal.shape)[slow.points]
            seconds = self.elapsed(self.device_seconds(slow.choices) + waited, machine.at(slow.points))
            latency = nominal.copy()
            latency[slow.points] = np.maximum(seconds, nominal[slow.points])
            sums["executed"] = self._executed_again(priced, slow, sums["executed"], piece.width)
        return self._assemble(machine, values, sums, nominal, latency, clock)

    def _hosted(self, values: Environment, machine: Machine) -> dict[str, Array]:
        """What rows on the host take and spend: kernels with their calls, at its own clock and limit.

        Its static power counts while it works.
        """
        host = machine.place(HOST)
        sums = dict.fromkeys(("working", *HOSTED), np.zeros(1))
        for group in self.on_host:
            one = group.price(values, host)
            choice = one.choice
            share = compute_part(
                choice.compute, choice.memory, choice.seconds, host.structure.coefficients["overlap"]
            )
            spent = np.asarray(sum(_dynamic(one, host, 1.0).values()))
            executed = one.candidates.executed_by(choice.index)
            amounts = (choice.seconds, share, executed, spent, one.flops)
            for name, amount in zip(("working", *HOSTED), amounts, strict=True):
                sums[name] = sums[name] + weighted_sum(group.counts, amount)
        seconds = sums["working"] + self._host_calls * self._call_s(host)
        return {**sums, "host": seconds, "host_j": sums["host_j"] + host.static_w * seconds}

    def _call_s(self, host: Machine) -> Any:
        """Seconds to reach an operator on a host that does nothing else meanwhile."""
        c = host.structure.coefficients
        return c["kernel_ramp_s"] + host.stack.dispatch_s * c.get("host_slowdown", 1.0)

    def device_seconds(self, choices: Sequence[Choice]) -> Array:
        """Seconds of all kernels with these candidates chosen, [points]."""
        total = np.zeros(1)
        for group, choice in zip(self.groups, choices, strict=True):
            total = total + weighted_sum(group.counts, choice.seconds)
        return total

    def _executed_again(
        self, priced: Sequence[Priced], slow: Throttled, executed: Array, width: int
    ) -> Array:
        """FLOP executed, where slower points may have chosen other candidates."""
        again = np.zeros(1)
        for group, one, choice in zip(self.groups, priced, slow.choices, strict=True):
            amount = one.candidates.some(slow.points).executed_by(choice.index)
            again = again + weighted_sum(group.counts, amount)
        found = np.array(np.broadcast_to(executed, (width,)))
        found[slow.points] = again
        return found

    def elapsed(self, device_s: Array, machine: Machine) -> Array:
        """The longer of kernels with their gaps and the host dispatching them; plus the first dispatch.

        A CPU is its own host: it dispatches, and then it computes. The start of an exchange is in its own
        price, its dispatch is not.
        """
        stack, c = machine.stack, machine.structure.coefficients
        calls = self.table.kernels - self._host_calls
        kernels = calls - float(self.exchanges.counts.sum())
        on_device = device_s + kernels * (stack.launch_s + c["kernel_ramp_s"])
        if "host_slowdown" in c:
            return np.asarray(on_device + calls * stack.dispatch_s * c["host_slowdown"])
        return np.asarray(np.maximum(on_device, calls * stack.dispatch_s) + stack.dispatch_s)

    def _assemble(
        self,
        machine: Machine,
        values: Environment,
        sums: Mapping[str, Array],
        nominal: Array,
        latency: Array,
        clock: Array,
    ) -> dict[str, Array]:
        scale = voltage_energy(clock, machine)
        parts = dynamic_j(
            machine, core_j=sums["core_j"], onchip_byte=sums["onchip"], dram_byte=sums["dram"],
            scale=scale,
        )  # fmt: skip
        kept = kept_share(machine, parts, latency, core_j=sums["core_j"], scale=scale)
        result = {
            "latency_s": latency,
            "compute_s": sums["compute"],
            "memory_s": sums["device"] - sums["compute"],
            "overhead_s": nominal - sums["device"] - sums["waited"],
            "communication_s": sums["waited"],
            "power_s": latency - nominal,
            "once_s": sums["once"],
            "clock": clock,
            "energy.compute": parts["compute"] * kept,
            "energy.onchip": parts["onchip"] * kept,
            "energy.dram": parts["dram"] * kept,
            "energy.link": sums["sent"] * machine.structure.coefficients["link_j_per_byte"],
            "energy.static": machine.static_w * latency,
            "energy_kept": kept,
            "flops": sums["flop"],
            "flops_executed": sums["executed"],
            "dram_bytes": sums["dram"],
            "onchip_bytes": sums["onchip"],
            **{name: sums[name] for name in KINDS.values()},
            **{name: value for name, value in sums.items() if name.startswith("own")},
        }
        if self.on_host:
            result |= {
                "compute_s": sums["compute"] + sums["host_compute"],
                "memory_s": result["memory_s"] + sums["working"] - sums["host_compute"],
                "overhead_s": result["overhead_s"] - sums["working"],
                "energy.host": sums["host_j"],
                "flops": sums["flop"] + sums["host_flop"],
                "flops_executed": sums["executed"] + sums["host_executed"],
            }
        elements = [values(expr) for expr in self.table.sizes]
        for role, form in self.table.resident.items():
            result[f"memory.{role}"] = _linear(form, elements)
        live = [_linear(form, elements) for form in self.table.live.coefficients]
        held = np.maximum.reduce(live) if len(live) > 1 else live[0] if live else np.zeros(1)
        gradients = self._gradients(elements, live)
        result["memory.activations"] = held - gradients
        result["memory.gradients"] = gradients
        return result

    def _gradients(self, elements: list[Any], live: list[Array]) -> Array:
        """Bytes of gradients where memory is fullest."""
        forms = self.table.live_gradients.coefficients
        if not forms.any():
            return np.zeros(1)
        parts = [_linear(form, elements) for form in forms]
        *held, _ = np.broadcast_arrays(*live, *parts, np.zeros(1))
        fullest = np.argmax(np.stack(held[: len(live)]), axis=0)
        found = np.take_along_axis(np.stack(held[len(live) :]), fullest[None], axis=0)[0]
        return np.asarray(found)

    def _seconds_waited(self, seconds: Array) -> Array:
        """Seconds of each exchange, scaled so that together they are what is waited for."""
        spent = float(self.exchanges.counts @ seconds) if seconds.size else 0.0
        return seconds * (float(self.totals().communication_s[0]) / spent if spent else 0.0)

    def row_values(self) -> RowValues:
        """Values of every row at the single point of this evaluator."""
        if self.points != 1:
            raise ValueError("row values exist for a single point")
        values, machine = Environment(self.sizes), self.machine
        totals = self.totals()
        scale = voltage_energy(totals.clock, machine)
        count = len(self.table.rows)
        out = {one.name: np.zeros(count) for one in dataclasses.fields(RowValues) if one.name != "choice"}
        labels = [""] * count
        for group in (*self.groups, *self.on_host):
            here, away = machine.place(group.place), group.place == HOST
            one, index = group.price(values, here), group.rows
            slower = totals.clock != 1.0 and not away
            choice = one.candidates.cheapest(NOTHING, totals.clock) if slower else one.choice
            overlap = here.structure.coefficients["overlap"]
            compute = compute_part(choice.compute, choice.memory, choice.seconds, overlap)
            spent = sum(_dynamic(one, here, 1.0 if away else scale).values())
            standing = here.static_w * (choice.seconds + self._call_s(here)) if away else 0.0
            found = {
                "seconds": choice.seconds,
                "compute_s": compute,
                "memory_s": choice.seconds - compute,
                "energy_j": spent * (1.0 if away else totals.energy_kept) + standing,
                "flops": one.flops,
                "executed": one.candidates.executed_by(choice.index),
                # traffic is that of the device's own memory, as in the totals
                "dram_bytes": 0.0 if away else one.dram_bytes,
                "onchip_bytes": 0.0 if away else one.onchip_bytes,
            }
            for name, amount in found.items():
                out[name][index] = np.broadcast_to(amount, (len(index), 1))[:, 0]
            for at, (position, candidate) in enumerate(zip(index, choice.index[:, 0], strict=True)):
                parts = (one.names[candidate], one.tiling.text(at) if one.tiling else "")
                labels[position] = ", ".join(part for part in parts if part)
        exchanged, mine = self.exchanges.price(values, machine), self.exchanges.rows
        out["seconds"][mine] = out["exchange_s"][mine] = self._seconds_waited(exchanged.seconds[:, 0])
        out["energy_j"][mine] = exchanged.byte[:, 0] * machine.structure.coefficients["link_j_per_byte"]
        between = (totals.latency_s - self.table.counts @ out["seconds"]) / max(1, self.table.kernels)
        out["energy_j"] += machine.static_w * (out["seconds"] + between)
        return RowValues(**out, choice=tuple(labels))


@cache
def keep_freed_memory() -> None:
    """Free one large block, after which glibc keeps blocks up to its size instead of returning
    each of them.

    The arrays of a piece are made and freed over and over. Fresh pages from the system for each were a third
    of the time. Other allocators do not mind.
    """
    np.empty(KEPT_BYTE, dtype=np.uint8)


def weighted_sum(counts: Array, amounts: Array) -> Array:
    """Sum over rows of counts [R] x amounts [R or 1, P]; einsum, as BLAS threads fight over small arrays."""
    if amounts.shape[0] == 1:
        return np.asarray(np.sum(counts) * amounts[0])
    return np.asarray(np.einsum("r,rp->p", counts, amounts))


def _dynamic(one: Priced, machine: Machine, scale: Any) -> dict[str, Array]:
    """Joules of the work of some rows, each [rows, points]."""
    return dynamic_j(
        machine, core_j=one.core_j, onchip_byte=one.onchip_bytes, dram_byte=one.dram_bytes, scale=scale
    )


def voltage_energy(clock: Array, machine: Machine) -> Array:
    """Core energy per operation relative to nominal: voltage squared, which stops falling below the knee."""
    knee = machine.structure.coefficients["clock_knee"]
    return np.asarray(np.maximum(clock, knee) ** 2)


def _linear(form: Array, elements: list[Any]) -> Array:
    """Bytes of one linear form; stays a single value where no size varies."""
    found: Any = 0.0
    for index in np.flatnonzero(form):
        found = found + form[index] * elements[index]
    return np.asarray(found)
