"""What an estimate is: numbers and arrays with the names of the JSON contract, operator rows computed when asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCHEMA = "hwsim.estimate/1"
Value = float | NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpRow:
    """All executions of one operator signature: totals over its `count` runs at one point."""

    kind: str
    name: str
    dims: str
    dtype: str
    count: int
    modules: tuple[tuple[str, int], ...]  # (module template, runs there)
    latency_s: float
    compute_s: float
    memory_s: float
    overhead_s: float
    energy_j: float
    flops: float
    flops_executed: float
    dram_bytes: float
    onchip_bytes: float
    bound: str
    choice: str  # tile, split or dataflow


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """Operators of one kind or one module template summed."""

    label: str
    count: int
    latency_s: float
    share: float
    compute_s: float
    memory_s: float
    overhead_s: float
    energy_j: float
    flops: float
    dram_bytes: float
    bound: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEvent:
    """One op execution on the timeline of a single point."""

    start_s: float
    duration_s: float
    name: str
    kind: str
    module: str
    bound: str


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Latency, energy and memory of a workload on a device; every numeric field has the request's broadcast shape."""

    model: str
    device: str
    phase: str
    sizes: Mapping[str, Value]
    dtype: str
    stack: str
    parallel: Mapping[str, int]
    latency_s: Value
    latency_low_s: Value
    latency_high_s: Value
    breakdown_s: Mapping[str, Value]
    energy_j: Value
    energy_low_j: Value | None = None
    energy_dynamic_j: Value
    energy_static_j: Value
    energy_by_j: Mapping[str, Value]
    average_power_w: Value
    bytes_by_level: Mapping[str, Value]
    memory_bytes: Mapping[str, Value]  # weights activations kv_cache gradients optimizer reserve total capacity
    fits: bool | NDArray[np.bool_] | None
    flops: Value
    flops_executed: Value
    macs: Value
    params: int
    dram_bytes: Value
    arithmetic_intensity: Value
    mfu: Value
    hfu: Value
    mbu: Value
    bound: str | NDArray[np.str_]
    clock_scale: Value
    samples_per_s: Value
    tokens_per_s: Value | None
    cost_usd: Value | None
    carbon_g: Value | None
    warnings: tuple[str, ...]
    provenance: Mapping[str, Any]
    machine: Any = field(repr=False, default=None)  # the devices.Device priced on
    rows: Callable[[], Sequence[OpRow]] = field(repr=False, default=tuple)
    events: Callable[[], Sequence[TimelineEvent]] = field(repr=False, default=tuple)

    @property
    def peak_memory_bytes(self) -> Value:
        """Weights, KV cache, peak activations and the runtime's reserve."""
        return self.memory_bytes["total"]

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(self.latency_s)

    @cached_property
    def ops(self) -> tuple[OpRow, ...]:
        """Operator rows, longest first; only for a single point."""
        return tuple(sorted(self.rows(), key=lambda row: -row.latency_s))

    @cached_property
    def timeline(self) -> tuple[TimelineEvent, ...]:
        """Every op execution in order; durations sum to the latency. Only for a single point."""
        return tuple(self.events())

    def by(self, what: str) -> tuple[GroupRow, ...]:
        """Operator time grouped by `op` (name and dims), `kind` or `module` (template), longest first."""
        from hwsim.grouping import group_rows

        return group_rows(self.ops, what)

    def to_dict(self, *, ops: bool = True) -> dict[str, Any]:
        """The document of the JSON contract (`hwsim.estimate/1`); absent quantities are None."""
        from hwsim.document import estimate_document

        return estimate_document(self, SCHEMA, ops=ops and not self.shape)

    def to_json(self, *, ops: bool = True) -> str:
        return json.dumps(self.to_dict(ops=ops), allow_nan=False)
