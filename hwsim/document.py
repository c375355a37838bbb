"""Results as the documents of the JSON contract: plain lists and numbers, None for what is absent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hwsim.comparison import Comparison, Curve
    from hwsim.requests import Request
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
            "training": None if e.training is None else asdict(e.training),
        },
        "latency_s": plain({"value": e.latency_s, "low": e.latency_low_s, "high": e.latency_high_s}),
        "breakdown_s": _keyed(e.breakdown_s, BREAKDOWN),
        "energy_j": plain({"value": e.energy_j, "dynamic": e.energy_dynamic_j, "static": e.energy_static_j})
        | {"by": _keyed(e.energy_by_j, ENERGY)},
        "average_power_w": plain(e.average_power_w),
        "bytes_by_level": plain(e.bytes_by_level),
        "memory_bytes": _keyed(e.memory_bytes, MEMORY)
        | {"fits": plain(e.fits), "shortfall": plain(e.shortfall_bytes)},
        "changes_that_fit": [asdict(one) for one in e.changes_that_fit],
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


def request_document(request: Request, schema: str) -> dict[str, Any]:
    """The document of a whole request."""
    r, decode = request, request.decode
    steps = None if decode is None else decode.latency_s
    return {
        "schema": schema,
        "model": r.model,
        "device": r.device,
        "workload": {
            "prompt": plain(r.prompt),
            "generate": plain(r.generate),
            "sizes": plain({name: value for name, value in r.prefill.sizes.items() if name != "seq"}),
            "dtype": r.dtype,
            "stack": r.stack,
            "parallel": plain(r.prefill.parallel),
        },
        "latency_s": plain({"value": r.latency_s, "low": r.latency_low_s, "high": r.latency_high_s}),
        "ttft_s": plain({"value": r.ttft_s, "low": r.ttft_low_s, "high": r.ttft_high_s}),
        "tpot_s": plain({"value": r.tpot_s, "low": r.tpot_low_s, "high": r.tpot_high_s})
        | {"first": _end(steps, 0), "last": _end(steps, -1)},
        "breakdown_s": _keyed(r.breakdown_s, BREAKDOWN),
        "bound": {"prefill": plain(r.prefill.bound), "decode": plain(r.decode_bound)},
        "energy_j": plain(
            {
                "value": r.energy_j,
                "prefill": r.energy_prefill_j,
                "decode": r.energy_decode_j,
                "per_token": r.energy_per_token_j,
            }
        ),
        "average_power_w": plain(r.average_power_w),
        "memory_bytes": _keyed(r.memory_bytes, MEMORY) | {"fits": plain(r.fits)},
        "flops": plain(r.flops),
        "dram_bytes": plain(r.dram_bytes),
        "params": r.prefill.params,
        "throughput": plain(
            {
                "generated_tokens_per_s": r.tokens_per_s,
                "total_tokens_per_s": r.total_tokens_per_s,
                "decode_tokens_per_s": r.decode_tokens_per_s,
            }
        ),
        "cost_usd": plain(r.cost_usd),
        "usd_per_million_tokens": plain(r.usd_per_million_tokens),
        "warnings": list(r.warnings),
        "provenance": _keyed(r.provenance, PROVENANCE),
    }


def comparison_document(comparison: Comparison, schema: str) -> dict[str, Any]:
    """The document of a comparison; lists are aligned with the values compared over."""
    c = comparison
    axis = None if c.axis is None else {"name": c.axis.name, "values": plain(c.axis.values)}
    return {
        "schema": schema,
        "phase": c.phase,
        "metric": c.metric.name,
        "over": axis,
        "against": c.against,
        "curves": [_curve(c, curve) for curve in c.curves],
        "crossovers": [
            {field.name: plain(getattr(one, field.name)) for field in fields(one)} for one in c.crossovers
        ],
        "notes": list(c.notes),
        "warnings": list(c.warnings),
    }


def _curve(comparison: Comparison, curve: Curve) -> dict[str, Any]:
    first = curve.estimates[0]
    lists = {
        "latency_s": curve.latency_s,
        "energy_j": curve.energy_j,
        "peak_memory_bytes": curve.peak_memory_bytes,
        "tokens_per_s": curve.tokens_per_s,
        "fits": curve.fits,
    }
    aligned = {
        name: None if values is None else plain(comparison.aligned(curve, values))
        for name, values in lists.items()
    }
    return {
        "model": curve.model,
        "device": curve.device,
        "dtype": first.dtype,
        "stack": first.stack,
        **aligned,
        "excluded": curve.excluded or None,
        "tier": first.provenance.get("tier"),
    }


def _end(steps: Any, index: int) -> Any:
    """The first or the last decode step."""
    return None if steps is None else plain(steps[index])


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
