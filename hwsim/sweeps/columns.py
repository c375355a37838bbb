"""The columns of a sweep's table: what they are called, and where in an estimate they are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from devices import Device
from devices.area import area_mm2, peak_w
from devices.errors import near
from hwsim.errors import HwsimError
from hwsim.result import Estimate
from hwsim.sweeps.batch import Words, slim

BOUND = "bound"

# Numbers of a table, in its order. Absent in an estimate is absent in the table.
NUMBERS: Mapping[str, Callable[[Estimate], Any]] = {
    "latency_s": lambda e: e.latency_s,
    "latency_low_s": lambda e: e.latency_low_s,
    "latency_high_s": lambda e: e.latency_high_s,
    "energy_j": lambda e: e.energy_j,
    "average_power_w": lambda e: e.average_power_w,
    "peak_memory_bytes": lambda e: e.peak_memory_bytes,
    "capacity_bytes": lambda e: e.memory_bytes["capacity"],
    "fits": lambda e: e.fits,
    "flops": lambda e: e.flops,
    "dram_bytes": lambda e: e.dram_bytes,
    "mfu": lambda e: e.mfu,
    "mbu": lambda e: e.mbu,
    "tokens_per_s": lambda e: e.tokens_per_s,
    "samples_per_s": lambda e: e.samples_per_s,
    "cost_usd": lambda e: e.cost_usd,
    "compute_s": lambda e: e.breakdown_s["compute"],
    "memory_s": lambda e: e.breakdown_s["memory"],
    "overhead_s": lambda e: e.breakdown_s["overhead"],
    "power_s": lambda e: e.breakdown_s["power"],
    "energy_compute_j": lambda e: e.energy_by_j["compute"],
    "energy_onchip_j": lambda e: e.energy_by_j["onchip"],
    "energy_dram_j": lambda e: e.energy_by_j["dram"],
    "energy_static_j": lambda e: e.energy_static_j,
    "clock_scale": lambda e: e.clock_scale,
}
# Those that are written only when a spec names them.
MORE_NUMBERS: Mapping[str, Callable[[Estimate], Any]] = {
    "hfu": lambda e: e.hfu,
    "flops_executed": lambda e: e.flops_executed,
    "onchip_bytes": lambda e: e.bytes_by_level["onchip"],
    "arithmetic_intensity": lambda e: e.arithmetic_intensity,
    "energy_host_j": lambda e: e.energy_by_j.get("host"),
    "communication_s": lambda e: e.breakdown_s["communication"],
    "bubble_s": lambda e: e.breakdown_s.get("bubble", np.broadcast_to(0.0, e.shape)),
    "devices": lambda e: np.broadcast_to(float(e.devices), e.shape),
    "shortfall_bytes": lambda e: e.shortfall_bytes,
    "offloaded_bytes": lambda e: e.memory_bytes.get("offloaded", np.broadcast_to(0.0, e.shape)),
    "weights_bytes": lambda e: e.memory_bytes["weights"],
    "activations_bytes": lambda e: e.memory_bytes["activations"],
    "kv_cache_bytes": lambda e: e.memory_bytes["kv_cache"],
    "carbon_g": lambda e: e.carbon_g,
    "area_mm2": lambda e: _of_machine(e, area_mm2),
    "tdp_w": lambda e: _of_machine(e, peak_w),
}
ALL = {**NUMBERS, **MORE_NUMBERS}
ALIASES = {
    "latency": "latency_s",
    "energy": "energy_j",
    "power": "average_power_w",
    "memory": "peak_memory_bytes",
    "capacity": "capacity_bytes",
    "throughput": "tokens_per_s",
    "cost": "cost_usd",
    "carbon": "carbon_g",
    "area": "area_mm2",
    "tdp": "tdp_w",
}


def _of_machine(estimate: Estimate, rule: Callable[[Device], Any]) -> Any:
    """What follows from the device alone, at every point; None where the rule knows nothing of it."""
    value = rule(estimate.machine)
    return None if value is None else np.broadcast_to(value, estimate.shape)


def chosen(wanted: tuple[str, ...] | None, needed: set[str]) -> tuple[str, ...]:
    """The result columns of a table: those wanted (the usual ones if none are named) and those it needs
    besides.
    """
    if wanted is None:
        names = {*NUMBERS, BOUND}
    else:
        names = {ALIASES.get(name, name) for name in wanted}
        for name in wanted:
            if ALIASES.get(name, name) not in ALL and name != BOUND:
                known = (*ALL, BOUND, *ALIASES)
                raise HwsimError(
                    f"no column '{name}'{near(name, known)}; columns are {', '.join(ALL)}, {BOUND}"
                )
    names |= needed
    return tuple(name for name in (*ALL, BOUND) if name in names)


def numbers_of(estimate: Estimate, names: tuple[str, ...]) -> dict[str, Any]:
    """The numeric columns of an estimate."""
    return {name: slim(ALL[name](estimate)) for name in names if name != BOUND}


def bound_of(estimate: Estimate) -> Words:
    """What takes the largest part of the time, at every point."""
    names = tuple(estimate.breakdown_s)
    parts = [np.atleast_1d(part) for part in estimate.breakdown_s.values()]
    largest = parts[0]
    codes = np.zeros(np.broadcast_shapes(*(part.shape for part in parts)), dtype=np.int8)
    for code, part in enumerate(parts[1:], start=1):
        np.copyto(codes, code, where=part > largest)
        largest = np.maximum(part, largest)
    return Words(names=names, codes=codes)
