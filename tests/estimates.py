"""Estimates written down by hand, for tests of what is drawn from them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import devices
from hwsim.result import Estimate, OpRow, TimelineEvent

GEMM = OpRow(
    kind="gemm",
    name="linear",
    dims="m=512 n=3072 k=768",
    dtype="bf16",
    count=24,
    modules=(("layers.*.mlp.up", 12), ("layers.*.mlp.down", 12)),
    latency_s=240e-6,
    compute_s=200e-6,
    memory_s=30e-6,
    overhead_s=10e-6,
    energy_j=0.12,
    flops=57.98e9,
    flops_executed=58e9,
    dram_bytes=150e6,
    onchip_bytes=700e6,
    bound="compute",
    choice="tile 128x128",
)
ATTENTION = OpRow(
    kind="attention",
    name="attention",
    dims="q=512 kv=512 heads=12",
    dtype="bf16",
    count=12,
    modules=(("layers.*.attention", 12),),
    latency_s=60e-6,
    compute_s=20e-6,
    memory_s=30e-6,
    overhead_s=10e-6,
    energy_j=0.02,
    flops=9.66e9,
    flops_executed=9.7e9,
    dram_bytes=38e6,
    onchip_bytes=90e6,
    bound="memory",
    choice="flash",
)
NORM = OpRow(
    kind="norm",
    name="layer_norm",
    dims="rows=512 cols=768",
    dtype="bf16",
    count=25,
    modules=(("norm", 1), ("layers.*.attention_norm", 12), ("layers.*.mlp_norm", 12)),
    latency_s=80e-6,
    compute_s=5e-6,
    memory_s=60e-6,
    overhead_s=15e-6,
    energy_j=0.01,
    flops=0.05e9,
    flops_executed=0.05e9,
    dram_bytes=39e6,
    onchip_bytes=40e6,
    bound="memory",
    choice="",
)
GATHER = OpRow(
    kind="gather",
    name="embedding",
    dims="rows=512 run=768",
    dtype="bf16",
    count=1,
    modules=(("embedding", 1),),
    latency_s=20e-6,
    compute_s=0.0,
    memory_s=5e-6,
    overhead_s=15e-6,
    energy_j=0.001,
    flops=0.0,
    flops_executed=0.0,
    dram_bytes=1.6e6,
    onchip_bytes=1.6e6,
    bound="overhead",
    choice="",
)
ROWS = (GEMM, ATTENTION, NORM, GATHER)


def events() -> tuple[TimelineEvent, ...]:
    """One embedding, then two layers of attention and MLP; 400 microseconds in all."""
    timed = (
        (20e-6, "embedding", "gather", "embedding", "overhead"),
        (70e-6, "attention", "attention", "layers.0.attention", "memory"),
        (120e-6, "linear", "gemm", "layers.0.mlp.up", "compute"),
        (70e-6, "attention", "attention", "layers.1.attention", "memory"),
        (120e-6, "linear", "gemm", "layers.1.mlp.up", "compute"),
    )
    found = []
    start = 0.0
    for duration, name, kind, module, bound in timed:
        found.append(
            TimelineEvent(
                start_s=start, duration_s=duration, name=name, kind=kind, module=module, bound=bound
            )
        )
        start += duration
    return tuple(found)


def bert_on(device: str, **changes: Any) -> Estimate:
    """BERT-like forward pass of 400 microseconds; the same numbers whatever the device."""
    estimate = Estimate(
        model="bert-base",
        device=device,
        phase="forward",
        sizes={"batch": 1, "seq": 512},
        dtype="bf16",
        stack="compiled",
        parallel={"tp": 1},
        latency_s=400e-6,
        log_spread=math.log(1.5),
        breakdown_s={
            "compute": 225e-6,
            "memory": 125e-6,
            "overhead": 50e-6,
            "communication": 0.0,
            "power": 0.0,
        },
        energy_by_j={"compute": 0.08, "onchip": 0.02, "dram": 0.02, "link": 0.0, "static": 0.04},
        bytes_by_level={"dram": 228.6e6, "onchip": 0.9e9},
        main_bytes=228.6e6,
        memory_bytes={
            "weights": 219e6,
            "activations": 8e6,
            "kv_cache": 0.0,
            "gradients": 0.0,
            "optimizer": 0.0,
            "reserve": 500e6,
            "total": 727e6,
            "capacity": 84.9e9,
        },
        flops=67.6e9,
        flops_executed=67.75e9,
        params=109_482_240,
        clock_scale=1.0,
        samples=1.0,
        tokens=512.0,
        peak_flop_per_s=989.4e12,
        bandwidth_byte_per_s=3.35e12,
        usd_per_hour=None,
        warnings=(),
        provenance={
            "graph": "0123",
            "device": "4567",
            "calibration": None,
            "version": "0.1.0",
            "tier": "datasheet",
            "coverage": {},
        },
        machine=devices.device(device),
        rows=lambda: ROWS,
        events=events,
    )
    return replace(estimate, **changes)


def too_large_for_its_device() -> dict[str, float]:
    """`memory_bytes` of which 10 MB more are needed than there are."""
    return {"weights": 100e6, "total": 110e6, "capacity": 100e6}
