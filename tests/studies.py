"""Tables of sweeps made from formulae, so that what is read from them can be worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.studies.gathering import Rows, study_of
from hwsim.studies.study import Study

Columns = dict[str, NDArray[Any]]
BATCH = (1.0, 2.0, 4.0, 8.0)
BANDWIDTH = (1e11, 2e11, 4e11, 8e11, 16e11)
# device -> seconds per sample of arithmetic, watts
DEVICES = {"small": (4e-3, 50.0), "large": (1e-3, 400.0)}
BYTES = 8e8


def grid(**changes: Any) -> Columns:
    """Two devices x four batches x five bandwidths; latency = batch x arithmetic + bytes / bandwidth."""
    points = list(product(DEVICES, BATCH, BANDWIDTH))
    device = np.array([name for name, _, _ in points], dtype=object)
    return table(device, np.array([b for _, b, _ in points]), np.array([w for _, _, w in points]), **changes)


def samples(count: int, seed: int = 0) -> Columns:
    """As `grid`, at points that are drawn."""
    rng = np.random.default_rng(seed)
    device = np.array(list(DEVICES), dtype=object)[rng.integers(0, 2, count)]
    batch, bandwidth = rng.uniform(1, 8, count), np.exp(rng.uniform(np.log(1e11), np.log(16e11), count))
    return table(device, batch, bandwidth)


def table(device: NDArray[Any], batch: NDArray[Any], bandwidth: NDArray[Any], **changes: Any) -> Columns:
    """The columns of the contract at some points."""
    arithmetic = np.array([DEVICES[name][0] for name in device]) * batch
    watts = np.array([DEVICES[name][1] for name in device])
    memory = BYTES / bandwidth
    latency = arithmetic + memory
    energy = watts * latency
    return {
        "device": device,
        "batch": batch,
        "device.memory.dram.bandwidth": bandwidth,
        "latency_s": latency,
        "latency_low_s": 0.8 * latency,
        "latency_high_s": 1.5 * latency,
        "energy_j": energy,
        "average_power_w": watts,
        "peak_memory_bytes": 1e9 * batch,
        "capacity_bytes": np.full_like(batch, 6e9),
        "fits": batch <= 6,
        "flops": 1e12 * batch,
        "dram_bytes": np.full_like(batch, BYTES),
        "mfu": 0.5 * arithmetic / latency,
        "mbu": memory / latency,
        "tokens_per_s": np.full_like(batch, np.nan),
        "samples_per_s": batch / latency,
        "cost_usd": latency,
        "compute_s": arithmetic,
        "memory_s": memory,
        "overhead_s": np.zeros_like(batch),
        "power_s": np.zeros_like(batch),
        "energy_compute_j": 0.5 * energy,
        "energy_onchip_j": 0.1 * energy,
        "energy_dram_j": 0.2 * energy,
        "energy_static_j": 0.2 * energy,
        "bound": np.where(arithmetic > memory, "compute", "memory").astype(object),
        "clock_scale": np.ones_like(batch),
        **changes,
    }


def study(columns: Columns, *, batches: int = 1, spec: Mapping[str, Any] | None = None) -> Study:
    """The study of a table that is read in so many batches."""
    rows = np.array_split(np.arange(len(columns["latency_s"])), batches)
    table = Rows(
        columns=tuple(columns),
        read=lambda names: ({name: columns[name][at] for name in names} for at in rows),
    )
    return study_of(table, name="by hand", spec=spec)
