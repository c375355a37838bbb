"""The machine as engines see it: frozen SI values, floats or, after `replace`, arrays of design points.

`None` means "not published"; it is never zero. Peak rates are dense and for the whole device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from devices.errors import DeviceError

Quantity = float | NDArray[np.float64]
Kind = Literal["gpu", "tpu", "edge", "cpu", "accelerator"]
Engine = Literal["simt", "systolic", "cpu", "spatial"]
Dataflow = Literal["ws", "os", "is", "rs", "any"]
# `switch` and `full` reach every device in one hop, `bridge` joins a pair, `host` leads to the CPU, `shared`
# is one medium that a single station uses at a time, as radio is.
Topology = Literal[
    "switch", "full", "cube_mesh", "ring", "torus2d", "torus3d", "bridge", "dragonfly", "host", "shared"
]

# `fp32` is IEEE and `tf32` its own name; `*_acc16` accumulate in 16 bits, all other floats in 32.
DTYPES = (
    *("fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "fp6", "fp4"),
    *("int32", "int16", "int8", "int4", "fp16_acc16", "fp8_acc16"),
)
_FALLBACKS = {"tf32": ("fp32",), "fp64": ("fp32",)}
_FALLBACK = ("bf16", "fp16", "fp32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """A grid of multiply-accumulate cells; `count` such grids in the whole device."""

    rows: Quantity
    columns: Quantity
    count: Quantity
    dataflow: Dataflow
    macs_per_pe_per_cycle: Quantity = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """What computes: units are SMs, CUs, cores or TensorCores, and single PEs for a spatial engine."""

    units: Quantity
    clock_hz: Quantity
    boost_clock_hz: Quantity | None = None
    matrix_flop_per_s: Mapping[str, Quantity] = field(default_factory=dict)
    vector_flop_per_s: Mapping[str, Quantity] = field(default_factory=dict)
    special_op_per_s: Quantity | None = None
    array: Array | None = None
    lanes_per_unit: Quantity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLevel:
    """One level: capacity per unit for register and l1 and of the whole device else, bandwidth of the device.

    `energy_j_per_byte` is None where the energy per operation already holds it. `addressable_byte` is the
    part that software can reserve (shared memory of a GPU); `type` the technology, such as HBM3.
    """

    capacity_byte: Quantity
    per_unit: bool
    bandwidth_byte_per_s: Quantity | None = None
    energy_j_per_byte: Quantity | None = None
    addressable_byte: Quantity | None = None
    label: str = ""
    type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The levels from registers to the host's drive; `units` repeats `compute.units`, in step with it."""

    units: Quantity
    register: MemoryLevel | None = None
    l1: MemoryLevel | None = None
    l2: MemoryLevel | None = None
    l3: MemoryLevel | None = None
    dram: MemoryLevel | None = None
    host: MemoryLevel | None = None
    nvme: MemoryLevel | None = None

    @property
    def resident(self) -> bool:
        """Whether there is no DRAM: `dram` stands for the SRAM that holds all data."""
        return self.dram is not None and self.dram.type == "SRAM"

    @property
    def last_level_cache(self) -> MemoryLevel | None:
        """The on-chip level nearest to DRAM: l3, else l2, else all l1 together."""
        shared = self.l3 or self.l2
        if shared is not None or self.l1 is None:
            return shared
        return replace(self.l1, capacity_byte=self.l1.capacity_byte * self.units, per_unit=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A class of links to other devices; bandwidth per direction and per device, summed over its links."""

    bandwidth_byte_per_s: Quantity
    latency_s: Quantity | None = None
    topology: Topology
    max_devices: Quantity | None = None
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The CPU behind a device that runs some operators only (see `HostProfile`), and the border between them.

    With `shares_memory` both work in the device's DRAM: nothing is sent, and the CPU's own `traffic` is lost.
    """

    device: str
    accelerated: tuple[str, ...]
    dtype: str
    shares_memory: bool
    bandwidth_byte_per_s: Quantity | None = None
    latency_s: Quantity | None = None
    traffic_byte_per_s: Quantity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """The board's limit, what its cooling carries away for long, and what it draws with no work."""

    limit_w: Quantity
    sustained_w: Quantity | None = None
    idle_w: Quantity | None = None

    @property
    def cap_w(self) -> Quantity:
        """What may be drawn however long a run is."""
        return self.limit_w if self.sustained_w is None else np.minimum(self.limit_w, self.sustained_w)


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy per operation at nominal clock (a multiply-add is two); the power drawn regardless of work."""

    matrix_j_per_flop: Mapping[str, Quantity]
    vector_j_per_flop: Mapping[str, Quantity]
    special_j_per_op: Quantity
    static_w: Quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an hour costs, when, and who said so."""

    usd_per_hour: Quantity | None = None
    date: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carbon:
    """What the electricity emits where the machine stands, when, and who said so."""

    gram_per_kwh: Quantity | None = None
    date: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Device:
    """One schedulable device; two are equal when all values are, prose (sources, notes) does not count."""

    id: str
    name: str
    kind: Kind
    vendor: str
    generation: str
    year: int | None
    process_nm: Quantity | None
    engine: Engine
    compute: Compute
    memory: Memory
    links: Mapping[str, Link]
    power: Power
    energy: Energy
    price: Price
    carbon: Carbon = Carbon()
    host: Host | None = None
    architecture: str = ""
    die_area_mm2: float | None = None
    form: Literal["chip", "block"] = "chip"
    date: str = ""
    aliases: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()
    notes: str = ""

    @property
    def host_link(self) -> str | None:
        """The name of the link that leads to the host; None for a device that is its own."""
        return next((name for name, link in self.links.items() if link.topology == "host"), None)

    def peak(self, dtype: str) -> tuple[str, Quantity]:
        """The dtype that runs and its dense peak: the matrix rate, else the vector rate, else the next dtype.

        A missing dtype becomes the first of bf16, fp16, fp32 that the device has (tf32 and fp64 become fp32),
        or the widest dtype of a device that has none of these. The caller compares the names and warns.
        """
        return _peak(self, dtype)

    def vector_peak(self, dtype: str) -> tuple[str, Quantity]:
        """The dtype and rate of ordinary SIMD lanes; a dtype without its own rate computes as fp32."""
        return _vector_peak(self, dtype)

    def replace(self, **changes: object) -> Device:
        """A new device with values at TOML paths changed: `replace(**{"memory.dram.bandwidth": "4 TB/s"})`.

        Values are SI numbers, text with a unit, or arrays (one element per design point). The machine stays
        consistent: `compute.units`, `compute.clock` and the array's sides scale the peaks and on-chip
        bandwidths that follow from them, except those named in the same call.
        """
        from devices.paths import replaced

        return replaced(self, changes)

    def paths(self) -> tuple[str, ...]:
        """Every path that `replace` takes for this device."""
        from devices.paths import paths

        return tuple(paths(self))

    def fingerprint(self) -> str:
        """A hash of all values (arrays too), the same in every process."""
        from devices.paths import fingerprint

        return fingerprint(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.fingerprint() == other.fingerprint()

    def __hash__(self) -> int:
        return hash(self.fingerprint())


def _peak(device: Device, dtype: str) -> tuple[str, Quantity]:
    rates = {**device.compute.vector_flop_per_s, **device.compute.matrix_flop_per_s}
    for name in (dtype, *_FALLBACKS.get(dtype, _FALLBACK), *DTYPES):
        if name in rates:
            return name, rates[name]
    raise DeviceError(f"device '{device.id}' has no peak rate at all; give one in its profile")


def _vector_peak(device: Device, dtype: str) -> tuple[str, Quantity]:
    rates = device.compute.vector_flop_per_s
    for name in (dtype, "fp32", *DTYPES):
        if name in rates:
            return name, rates[name]
    raise DeviceError(f"device '{device.id}' has no vector rate; give compute.vector.fp32 in its profile")
