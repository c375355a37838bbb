"""What an estimate is: numbers and arrays named as in the JSON contract, operator rows when asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from graphs.workload import Training

if TYPE_CHECKING:
    from hwsim.remedies import Remedy

SCHEMA = "hwsim.estimate/1"
JOULE_PER_KWH = 3.6e6
Value = Any  # float, or float64 array of the request's broadcast shape


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
    communication_s: float = 0.0
    energy_j: float
    flops: float
    flops_executed: float
    dram_bytes: float
    onchip_bytes: float
    bound: str
    choice: str  # tile, split or dataflow
    phase: str = "forward"  # or another part of a training step
    place: str = "device"  # or the host behind it


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
    phase: str = "forward"
    live_bytes: float = 0.0  # activations and gradients held meanwhile
    gradient_bytes: float = 0.0  # gradients in them


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Latency, energy and memory of a workload on a device; numbers have the request's broadcast shape."""

    model: str
    device: str
    devices: int = 1  # all that work together
    phase: str
    training: Training | None = None
    sizes: Mapping[str, Value]
    dtype: str
    stack: str
    parallel: Mapping[str, Any]  # what differs from one batch on one device
    latency_s: Value
    log_spread: Value  # half-width of the 80 % interval of ln(latency)
    breakdown_s: Mapping[str, Value]  # compute memory overhead communication power
    energy_by_j: Mapping[str, Value]  # compute onchip dram link static
    bytes_by_level: Mapping[str, Value]
    main_bytes: Value  # of DRAM, or of the SRAM of a machine without any
    memory_bytes: Mapping[
        str, Value
    ]  # weights activations kv_cache gradients optimizer reserve total capacity
    flops: Value
    flops_executed: Value
    params: int
    clock_scale: Value
    samples: Value  # sequences or images of the request
    tokens: Value | None  # new tokens of the phase
    peak_flop_per_s: Value  # dense datasheet peak of the workload's dtype
    bandwidth_byte_per_s: Value  # datasheet DRAM bandwidth
    usd_per_hour: Value | None  # of all devices
    gram_per_kwh: Value | None = None  # of the electricity where the device stands
    warnings: tuple[str, ...]
    provenance: Mapping[str, Any]
    machine: Any = field(repr=False, default=None)  # the devices.Device priced on
    rows: Callable[[], Sequence[OpRow]] = field(repr=False, default=tuple)
    events: Callable[[], Sequence[TimelineEvent]] = field(repr=False, default=tuple)
    remedies: Callable[[Estimate], tuple[Remedy, ...]] = field(repr=False, default=lambda _: ())

    @property
    def latency_low_s(self) -> Value:
        """Low end of the 80 % interval, never below memory traffic over the datasheet bandwidth."""
        return np.maximum(
            self.latency_s * np.exp(-self.log_spread),
            self.main_bytes / (self.bandwidth_byte_per_s * self.devices),
        )

    @property
    def latency_high_s(self) -> Value:
        """High end of the 80 % interval."""
        return self.latency_s * np.exp(self.log_spread)

    @property
    def energy_static_j(self) -> Value:
        return self.energy_by_j["static"]

    @property
    def energy_dynamic_j(self) -> Value:
        return sum(value for name, value in self.energy_by_j.items() if name != "static")

    @property
    def energy_j(self) -> Value:
        """Dynamic and static energy."""
        return self.energy_dynamic_j + self.energy_static_j

    @property
    def average_power_w(self) -> Value:
        return self.energy_j / self.latency_s

    @property
    def fits(self) -> Any:
        """Whether everything fits the device's memory."""
        fits = np.less_equal(self.memory_bytes["total"], self.memory_bytes["capacity"])
        return fits if self.shape else bool(fits)

    @property
    def shortfall_bytes(self) -> Value:
        """What is missing for everything to fit; nothing where it does."""
        return np.maximum(0.0, self.memory_bytes["total"] - self.memory_bytes["capacity"])

    @cached_property
    def changes_that_fit(self) -> tuple[Remedy, ...]:
        """The smallest changes that would fit, those that change least first; only for a single point."""
        return self.remedies(self)

    @property
    def macs(self) -> Value:
        """Multiply-accumulates, two FLOP each."""
        return self.flops / 2

    @property
    def dram_bytes(self) -> Value:
        """DRAM traffic after on-chip residency; none where all data lie in SRAM."""
        return self.bytes_by_level["dram"]

    @property
    def arithmetic_intensity(self) -> Value:
        """FLOP per byte of main memory; infinite when nothing leaves the chip."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.divide(self.flops, self.main_bytes)

    @property
    def mfu(self) -> Value:
        """Algorithmic FLOP over what the dense peak could do in the time."""
        return self.flops / (self.latency_s * self.peak_flop_per_s * self.devices)

    @property
    def hfu(self) -> Value:
        """As `mfu`, with the FLOP the kernels really execute."""
        return self.flops_executed / (self.latency_s * self.peak_flop_per_s * self.devices)

    @property
    def mbu(self) -> Value:
        """Bytes of main memory over what the datasheet bandwidth could move in the time."""
        return self.main_bytes / (self.latency_s * self.bandwidth_byte_per_s * self.devices)

    @property
    def samples_per_s(self) -> Value:
        return self.samples / self.latency_s

    @property
    def tokens_per_s(self) -> Value | None:
        """New tokens per second; None where the model has no tokens."""
        return None if self.tokens is None else self.tokens / self.latency_s

    @property
    def cost_usd(self) -> Value | None:
        """Rent of all devices for the latency; None without a price."""
        return None if self.usd_per_hour is None else self.latency_s * self.usd_per_hour / 3600

    @property
    def carbon_g(self) -> Value | None:
        """Grams of CO2 that the device's electricity emits; None where the grid is not known."""
        return None if self.gram_per_kwh is None else self.energy_j / JOULE_PER_KWH * self.gram_per_kwh

    @property
    def peak_memory_bytes(self) -> Value:
        """Weights, KV cache, peak activations and the runtime's reserve."""
        return self.memory_bytes["total"]

    @cached_property
    def bound(self) -> Any:
        """What takes the largest part of the time: compute, memory, overhead, communication or power."""
        names = np.array(list(self.breakdown_s))
        largest = np.argmax(np.stack(np.broadcast_arrays(*self.breakdown_s.values())), axis=0)
        return names[largest] if self.shape else str(names[largest])

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
        """Operator time by `op` (name and dims), `kind`, `module` (template) or `phase`, longest first."""
        from hwsim.grouping import group_rows

        return group_rows(self.ops, what)

    def to_dict(self, *, ops: bool = True) -> dict[str, Any]:
        """The document of the JSON contract (`hwsim.estimate/1`); absent quantities are None."""
        from hwsim.document import estimate_document

        return estimate_document(self, SCHEMA, ops=ops and not self.shape)

    def to_json(self, *, ops: bool = True) -> str:
        return json.dumps(self.to_dict(ops=ops), allow_nan=False)

    def _repr_html_(self) -> str:
        from hwsim.notebook import estimate_html

        return estimate_html(self)
