"""What a driver tells of a GPU, as a device: the profile of that name, or one built from its architecture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from devices.architecture import Architecture, architecture, architectures
from devices.device import Device
from devices.errors import DeviceError

# A limit within this of the profile's is the same limit.
_SAME = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """One GPU as its driver describes it; None is what the driver does not tell."""

    name: str
    told_by: str
    architecture: str = ""
    units: int | None = None
    lanes: int | None = None  # all units together, where a driver counts cores
    clock_hz: float | None = None
    memory_byte: float | None = None
    memory_clock_hz: float | None = None
    bus_bit: int | None = None
    l2_byte: float | None = None
    limit_w: float | None = None
    host_link_byte_per_s: float | None = None


def device_of(told: Reported) -> Device:
    """The device of a report; refused when neither a profile nor an architecture of ours knows it."""
    from devices.catalog import find

    profile = find(told.name)
    return _built(told) if profile is None else _as_told(profile, told)


def _as_told(profile: Device, told: Reported) -> Device:
    """The profile with what differs in this very card: units switched off, memory fitted, power capped."""
    changes: dict[str, object] = {}
    units = _units(told, profile.architecture)
    if units is not None and units != profile.compute.units:
        changes["compute.units"] = units
    if told.memory_byte is not None:
        changes["memory.dram.capacity"] = told.memory_byte
    if told.limit_w is not None and abs(told.limit_w / float(profile.power.limit_w) - 1) > _SAME:
        changes["power.limit"] = told.limit_w
    groups = {"compute.units": "compute", "memory.dram.capacity": "memory.dram", "power.limit": "power"}
    sources = {
        groups[path]: f"{profile.sources[groups[path]]}; {path.rpartition('.')[2]} as {told.told_by} reports"
        for path in changes
    }
    return replace(profile.replace(**changes), sources={**profile.sources, **sources})


def _units(told: Reported, name: str) -> int | None:
    if told.units is not None or told.lanes is None or name not in architectures():
        return told.units
    return round(told.lanes / architecture(name).lanes)


def _built(told: Reported) -> Device:
    from devices.build import build
    from devices.profile import check_profile

    if told.architecture not in architectures():
        known = f"architecture '{told.architecture or 'not told'}' is not in architectures.toml"
        raise DeviceError(f"GPU '{told.name}': no profile of that name, and {known}")
    unit = architecture(told.architecture)
    units = _units(told, told.architecture)
    needed = {
        "units": units,
        "clock": told.clock_hz,
        "memory": told.memory_byte,
        "memory clock": told.memory_clock_hz,
        "bus": told.bus_bit,
        "power limit": told.limit_w,
    }
    missing = [name for name, value in needed.items() if not value]
    if missing:
        rule = f"and {told.told_by} does not tell its {', '.join(missing)}"
        raise DeviceError(f"GPU '{told.name}': no profile of that name, {rule}; write one in TOML")
    assert units is not None
    made = build("gpu", check_profile(_table(told, unit, units), told.name))
    return replace(made, id=_id(told.name), year=None, notes=_NOTES)


_NOTES = (
    "Built from what the driver reports and from the rates of its architecture; no profile has this name."
)


def _id(name: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


def _table(told: Reported, unit: Architecture, units: int) -> dict[str, Any]:
    """A profile as a file would hold it, so that gaps are filled by the same rules."""
    clock, memory_clock, bus = told.clock_hz or 0.0, told.memory_clock_hz or 0.0, told.bus_bit or 0
    by, rates = told.told_by, f"units x rate of {unit.name} (architectures.toml) x clock"
    bandwidth = memory_clock * unit.transfers * bus / 8
    memory: dict[str, Any] = {
        "register": {"capacity": f"{unit.register_byte} B", "source": unit.source},
        "l1": {"capacity": f"{unit.l1_byte} B", "addressable": f"{unit.addressable_byte} B"},
        "dram": {
            "capacity": f"{told.memory_byte} B",
            "bandwidth": f"{bandwidth} B/s",
            # wide buses are stacks of HBM; the energy per byte is all that hangs on it
            "type": "HBM2e" if bus >= 1024 else "GDDR6",
            "source": f"{by}; bandwidth = bus x memory clock x {unit.transfers:g}; memory type assumed",
        },
    }
    memory["l1"]["source"] = unit.source
    if told.l2_byte:
        memory["l2"] = {"capacity": f"{told.l2_byte} B", "label": "L2", "source": by}
    links = {}
    if told.host_link_byte_per_s:
        links["pcie"] = {"bandwidth": f"{told.host_link_byte_per_s} B/s", "topology": "host", "source": by}
    compute: dict[str, Any] = {
        "units": units,
        "clock": f"{clock} Hz",
        "boost_clock": f"{clock} Hz",
        "lanes_per_unit": unit.lanes,
        "matrix": {dtype: f"{units * rate * clock} FLOP/s" for dtype, rate in unit.matrix.items()},
        "vector": {dtype: f"{units * rate * clock} FLOP/s" for dtype, rate in unit.vector.items()},
        "source": f"{by} (units, highest clock); peaks = {rates}",
    }
    if unit.special:
        compute["special"] = f"{units * unit.special * clock} OP/s"
    return {
        "name": told.name,
        "kind": "gpu",
        "vendor": unit.vendor,
        "generation": unit.generation,
        "architecture": unit.name,
        "year": 1,
        "process": f"{unit.process_nm} nm",
        "engine": "simt",
        "source": by,
        "compute": compute,
        "memory": memory,
        "links": links,
        "power": {"limit": f"{told.limit_w} W", "source": by},
    }
