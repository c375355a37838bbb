"""What must hold of every estimate, whatever the model and the machine, at one point or at many."""

from __future__ import annotations

from typing import Any

import numpy as np

from devices import Device
from devices.paths import paths
from hwsim.result import Estimate

ROUNDING = 1e-11  # sums of some thousand terms in another order
# Fields that say how much a machine can do: more of any is never slower.
CAPABILITIES = ("compute.matrix.", "compute.vector.", "compute.special", "compute.clock", "power.limit")
LEVELS = ("l1", "l2", "l3", "dram")
NUMBERS = (
    "latency_s", "latency_low_s", "latency_high_s", "energy_j", "energy_dynamic_j", "energy_static_j",
    "average_power_w", "peak_memory_bytes", "flops", "flops_executed", "dram_bytes", "clock_scale", "mfu",
    "hfu", "mbu", "samples_per_s",
)  # fmt: skip
PARTS = ("breakdown_s", "energy_by_j", "bytes_by_level", "memory_bytes")


def capabilities(device: Device) -> dict[str, float]:
    """Paths of `device` of which more is never slower, with their values."""
    wanted = CAPABILITIES + tuple(f"memory.{n}.{what}" for n in LEVELS for what in ("bandwidth", "capacity"))
    known = {path: value_at(device, path) for path in device.paths() if path.startswith(wanted)}
    return {path: float(value) for path, value in known.items() if value is not None}


def value_at(device: Device, path: str) -> Any:
    """What stands at a path of a device; None where nothing is published."""
    found: Any = device
    for step in paths(device)[path].steps:
        found = found.get(step) if isinstance(found, dict) else getattr(found, step)
    return found


def never_more(less: Any, more: Any) -> bool:
    """Whether every number of `less` is at most its partner in `more`, but for rounding."""
    return bool(np.all(np.asarray(less) <= np.asarray(more) * (1 + ROUNDING)))


def numbers(estimate: Estimate) -> dict[str, Any]:
    """Every numeric field, by name."""
    found = {name: getattr(estimate, name) for name in NUMBERS}
    for part in PARTS:
        found |= {f"{part}.{name}": value for name, value in getattr(estimate, part).items()}
    return found


def assert_lawful(estimate: Estimate) -> None:
    """Finite and never negative, parts sum to the whole, nothing below its floor, power within the limit."""
    for name, value in numbers(estimate).items():
        assert np.all(np.isfinite(value)), name
        assert np.all(np.asarray(value) >= 0), name
        assert np.shape(value) == estimate.shape, name
    close = {"rtol": ROUNDING, "atol": 0.0}
    np.testing.assert_allclose(sum(estimate.breakdown_s.values()), estimate.latency_s, **close)
    np.testing.assert_allclose(sum(estimate.energy_by_j.values()), estimate.energy_j, **close)
    memory = {k: v for k, v in estimate.memory_bytes.items() if k not in ("total", "capacity")}
    np.testing.assert_allclose(sum(memory.values()), estimate.memory_bytes["total"], **close)
    assert never_more(estimate.latency_low_s, estimate.latency_s)
    assert never_more(estimate.latency_s, estimate.latency_high_s)
    assert never_more(estimate.flops_executed / fastest_peak(estimate), estimate.latency_s)
    assert never_more(estimate.dram_bytes / estimate.bandwidth_byte_per_s, estimate.latency_s)
    assert never_more(estimate.mbu, 1.0)
    within = own_power_w(estimate) <= estimate.machine.power.limit_w * (1 + 1e-9)
    assert np.all(within | (np.asarray(estimate.clock_scale) <= clock_floor(estimate) + 1e-12))


def own_power_w(estimate: Estimate) -> Any:
    """Average power of the device, without a host behind it."""
    return (estimate.energy_j - estimate.energy_by_j.get("host", 0.0)) / np.asarray(estimate.latency_s)


def assert_rows_sum(estimate: Estimate) -> None:
    """Operator rows, groups of them and the timeline each sum to the estimate of a single point."""
    totals = {
        "latency_s": estimate.latency_s, "energy_j": estimate.energy_j, "flops": estimate.flops,
        "flops_executed": estimate.flops_executed, "dram_bytes": estimate.dram_bytes,
        "onchip_bytes": estimate.bytes_by_level["onchip"],
    }  # fmt: skip
    for name, total in totals.items():
        parts = [getattr(row, name) for row in estimate.ops]
        assert min(parts) >= 0, name
        np.testing.assert_allclose(sum(parts), total, rtol=1e-9, err_msg=name)
    for row in estimate.ops:
        whole = row.compute_s + row.memory_s + row.overhead_s + row.communication_s
        np.testing.assert_allclose(whole, row.latency_s, rtol=1e-9)
    for what in ("op", "kind", "module"):
        groups = estimate.by(what)
        np.testing.assert_allclose(sum(group.latency_s for group in groups), estimate.latency_s, rtol=1e-9)
        np.testing.assert_allclose(sum(group.share for group in groups), 1.0, rtol=1e-9)
    durations = [event.duration_s for event in estimate.timeline]
    np.testing.assert_allclose(sum(durations), estimate.latency_s, rtol=1e-9)
    ends = np.cumsum(durations)
    np.testing.assert_allclose([event.start_s for event in estimate.timeline][1:], ends[:-1], rtol=1e-9)


def fastest_peak(estimate: Estimate) -> Any:
    """The highest dense rate of the device: what no dtype of the workload can exceed."""
    compute = estimate.machine.compute
    rates = (*compute.matrix_flop_per_s.values(), *compute.vector_flop_per_s.values())
    return max(float(np.max(rate)) for rate in rates)


def clock_floor(estimate: Estimate) -> float:
    """The lowest relative clock of the device's engine."""
    from hwsim.fitted import coefficients_for

    return float(coefficients_for(estimate.machine)["clock_floor"])
