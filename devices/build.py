"""From a validated profile to the value engines see: units are SI already, gaps are filled by named rules.

Every filled gap is marked `derived` in `Device.sources`.
"""

from __future__ import annotations

from collections.abc import Mapping

from devices import energy, hosts
from devices.derived import derived_bandwidth
from devices.device import (
    Array,
    Carbon,
    Compute,
    Device,
    Energy,
    Host,
    Link,
    Memory,
    MemoryLevel,
    Power,
    Price,
    Quantity,
)
from devices.energy import Technology
from devices.errors import DeviceError
from devices.profile import DeviceProfile, Dtype, LevelProfile

_PER_UNIT = ("register", "l1")


def build(id: str, profile: DeviceProfile) -> Device:
    """The device of a profile."""
    technology = Technology(engine=profile.engine, process_nm=profile.process)
    compute = _compute(profile)
    sources = _sources(profile)
    return Device(
        id=id,
        name=profile.name,
        kind=profile.kind,
        vendor=profile.vendor,
        generation=profile.generation,
        year=profile.year,
        process_nm=profile.process,
        engine=profile.engine,
        compute=compute,
        memory=_memory(profile, compute, technology, sources),
        links={
            name: Link(
                bandwidth_byte_per_s=link.bandwidth,
                latency_s=link.latency,
                topology=link.topology,
                max_devices=link.max_devices,
                label=link.label,
            )
            for name, link in profile.links.items()
        },
        power=Power(
            limit_w=profile.power.limit, sustained_w=profile.power.sustained, idle_w=profile.power.idle
        ),
        host=_host(id, profile),
        energy=_energy(profile, technology),
        price=_price(profile),
        carbon=_carbon(profile),
        architecture=profile.architecture,
        die_area_mm2=profile.die_area,
        form=profile.form,
        date=profile.date,
        aliases=profile.aliases,
        sources=sources,
        conflicts=profile.conflicts,
        notes=profile.notes,
    )


def _compute(profile: DeviceProfile) -> Compute:
    compute, array = profile.compute, profile.compute.array
    return Compute(
        units=float(compute.units),
        clock_hz=compute.clock,
        boost_clock_hz=compute.boost_clock,
        matrix_flop_per_s=_by_dtype(compute.matrix),
        vector_flop_per_s=_by_dtype(compute.vector),
        special_op_per_s=compute.special,
        lanes_per_unit=None if compute.lanes_per_unit is None else float(compute.lanes_per_unit),
        array=None
        if array is None
        else Array(
            rows=float(array.rows),
            columns=float(array.columns),
            count=float(array.count),
            dataflow=array.dataflow,
            macs_per_pe_per_cycle=float(array.macs_per_pe_per_cycle),
        ),
    )


def _by_dtype(numbers: Mapping[Dtype, float]) -> dict[str, Quantity]:
    return {str(dtype): number for dtype, number in numbers.items()}


def _memory(
    profile: DeviceProfile, compute: Compute, technology: Technology, sources: dict[str, str]
) -> Memory:
    levels = {}
    for name, level in _levels(profile).items():
        bandwidth: Quantity | None = level.bandwidth
        if bandwidth is None:
            bandwidth = derived_bandwidth(profile.engine, name, compute)
            if bandwidth is not None:
                sources[f"memory.{name}.bandwidth"] = "derived: bytes per clock and unit (devices/derived.py)"
        levels[name] = MemoryLevel(
            capacity_byte=level.capacity,
            per_unit=name in _PER_UNIT,
            bandwidth_byte_per_s=bandwidth,
            energy_j_per_byte=_level_energy(name, level, technology),
            addressable_byte=level.addressable,
            label=level.label or level.type,
            type=level.type,
        )
    if "nvme" not in levels and any(link.topology == "host" for link in profile.links.values()):
        levels["nvme"] = hosts.nvme()
        sources["memory.nvme"] = hosts.nvme_source()
    return Memory(units=compute.units, **levels)


def _levels(profile: DeviceProfile) -> Mapping[str, LevelProfile]:
    memory = profile.memory
    levels = {
        "register": memory.register_,
        "l1": memory.l1,
        "l2": memory.l2,
        "l3": memory.l3,
        "dram": memory.dram,
        "host": memory.host,
        "nvme": memory.nvme,
    }
    return {name: level for name, level in levels.items() if level is not None}


def _level_energy(name: str, level: LevelProfile, technology: Technology) -> float | None:
    if level.energy is not None:
        return level.energy
    if name == "dram":
        return energy.dram_energy(technology, level.type)
    return None if name in ("host", "nvme") else energy.sram_energy(technology, name)


def _host(id: str, profile: DeviceProfile) -> Host | None:
    host = profile.host
    if host is None:
        return None
    shared = host.memory == "shared"
    if not shared and host.bandwidth is None:
        raise DeviceError(f"{id}: host.memory is its own; say how fast values cross in host.bandwidth")
    if not shared and host.traffic is not None:
        raise DeviceError(f"{id}: host.traffic is of shared memory; host.memory is its own")
    if shared and (host.bandwidth is not None or host.latency is not None):
        raise DeviceError(f"{id}: nothing is sent in shared memory; leave host.bandwidth and latency out")
    return Host(
        device=host.device,
        accelerated=host.accelerated,
        dtype=host.dtype,
        shares_memory=shared,
        bandwidth_byte_per_s=host.bandwidth,
        latency_s=host.latency,
        traffic_byte_per_s=host.traffic,
    )


def _energy(profile: DeviceProfile, technology: Technology) -> Energy:
    own = profile.energy
    special = own.special if own else None
    static = own.static if own else None
    if static is None:
        static = profile.power.idle
    if static is None:
        static = energy.static_power(technology, profile.power.limit)
    return Energy(
        matrix_j_per_flop={**energy.op_energy(technology, "matrix"), **_by_dtype(own.matrix if own else {})},
        vector_j_per_flop={**energy.op_energy(technology, "vector"), **_by_dtype(own.vector if own else {})},
        special_j_per_op=energy.special_energy(technology) if special is None else special,
        static_w=static,
    )


def _price(profile: DeviceProfile) -> Price:
    price = profile.price
    if price is None:
        return Price()
    return Price(usd_per_hour=price.per_hour, date=price.date, source=price.source)


def _carbon(profile: DeviceProfile) -> Carbon:
    carbon = profile.carbon
    if carbon is None:
        return Carbon()
    return Carbon(gram_per_kwh=carbon.intensity, date=carbon.date, source=carbon.source)


def _sources(profile: DeviceProfile) -> dict[str, str]:
    found = {"identity": profile.source, "compute": profile.compute.source, "power": profile.power.source}
    if profile.compute.array is not None:
        found["compute.array"] = profile.compute.array.source
    found.update({f"memory.{name}": level.source for name, level in _levels(profile).items()})
    found.update({f"links.{name}": link.source for name, link in profile.links.items()})
    found["energy"] = profile.energy.source if profile.energy else energy.table_source()
    if profile.host is not None:
        found["host"] = profile.host.source
    if profile.price is not None:
        found["price"] = profile.price.source
    if profile.carbon is not None:
        found["carbon"] = profile.carbon.source
    return found
