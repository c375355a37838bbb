"""An estimate as the document of the JSON contract: plain lists and numbers, None for what is absent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hwsim.result import Estimate, OpRow

BREAKDOWN = ("compute", "memory", "overhead", "communication", "power")
ENERGY = ("compute", "onchip", "dram", "link", "static")
MEMORY = (
    *("weights", "activations", "kv_cache", "gradients", "optimizer"),
    *("reserve", "total", "capacity"),
)
PROVENANCE = ("graph", "device", "calibration", "version", "tier", "coverage")


def estimate_document(estimate: Estimate, schema: str, *, ops: bool) -> dict[str, Any]:
    """The document; `ops` is an empty list where rows are not wanted or there are several points."""
    e = estimate
    return {
        "schema": schema,
        "model": e.model,
        "device": e.device,
        "workload": {
            "phase": e.phase,
            "sizes": plain(e.sizes),
            "dtype": e.dtype,
            "stack": e.stack,
            "parallel": plain(e.parallel),
        },
        "latency_s": plain({"value": e.latency_s, "low": e.latency_low_s, "high": e.latency_high_s}),
        "breakdown_s": _keyed(e.breakdown_s, BREAKDOWN),
        "energy_j": plain({"value": e.energy_j, "dynamic": e.energy_dynamic_j, "static": e.energy_static_j})
        | {"by": _keyed(e.energy_by_j, ENERGY)},
        "average_power_w": plain(e.average_power_w),
        "bytes_by_level": plain(e.bytes_by_level),
        "memory_bytes": _keyed(e.memory_bytes, MEMORY) | {"fits": plain(e.fits)},
        "flops": plain(e.flops),
        "flops_executed": plain(e.flops_executed),
        "macs": plain(e.macs),
        "params": e.params,
        "dram_bytes": plain(e.dram_bytes),
        "arithmetic_intensity": plain(e.arithmetic_intensity),
        "mfu": plain(e.mfu),
        "hfu": plain(e.hfu),
        "mbu": plain(e.mbu),
        "bound": plain(e.bound),
        "throughput": plain({"samples_per_s": e.samples_per_s, "tokens_per_s": e.tokens_per_s}),
        "cost_usd": plain(e.cost_usd),
        "carbon_g": plain(e.carbon_g),
        "ops": [_op(row) for row in e.ops] if ops else [],
        "warnings": list(e.warnings),
        "provenance": _keyed(e.provenance, PROVENANCE),
    }


def plain(value: Any) -> Any:
    """What json takes: arrays become nested lists, numbers that are not finite become None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _keyed(values: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """The keys of the contract first, None where absent, then whatever else there is."""
    rest = [key for key in values if key not in keys]
    return {key: plain(values.get(key)) for key in (*keys, *rest)}


def _op(row: OpRow) -> dict[str, Any]:
    values = {field.name: plain(getattr(row, field.name)) for field in fields(row)}
    return values | {"modules": [{"module": name, "runs": runs} for name, runs in row.modules]}
