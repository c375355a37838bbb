"""The schema of a cluster file and the cluster it describes: strict, text with units, a source per tier."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from devices.catalog import device
from devices.cluster import Cluster, Host, Tier
from devices.device import Device, Topology
from devices.errors import DeviceError
from devices.profile import BytePerS, Bytes, Count, Group, Second, Source, Watt, first_problem, load_toml


class TierProfile(Group):
    """`[[tiers]]`: bandwidth, latency, topology are those of the device's link of that class unless given."""

    name: str
    link: str
    devices: Count
    bandwidth: BytePerS | None = None
    latency: Second | None = None
    topology: Topology | None = None
    shape: tuple[Count, ...] = Field(default=(), strict=False)
    source: Source


class HostProfile(Group):
    """`[host]`: what one host adds to the devices it holds."""

    devices: Count
    memory: Bytes | None = None
    power: Watt | None = None
    source: Source


class ClusterProfile(Group):
    """One cluster file."""

    name: str
    device: str
    count: Count
    date: str = ""
    aliases: tuple[str, ...] = Field(default=(), strict=False)
    conflicts: tuple[str, ...] = Field(default=(), strict=False)
    notes: str = ""
    source: Source
    tiers: tuple[TierProfile, ...] = Field(strict=False, min_length=1)
    host: HostProfile | None = None


def read_cluster(path: Path) -> Cluster:
    """The cluster of a file; tiers that do not nest or do not join all devices are refused."""
    try:
        profile = ClusterProfile.model_validate(_tuples(load_toml(path)))
    except ValidationError as error:
        raise DeviceError(f"{path.name}: {first_problem(error, ClusterProfile)}") from None
    one = device(profile.device)
    tiers = tuple(_tier(tier, one, path.name) for tier in profile.tiers)
    _check(tiers, profile.count, path.name)
    host = profile.host
    return Cluster(
        id=path.stem,
        name=profile.name,
        device=one,
        count=profile.count,
        tiers=tiers,
        host=None
        if host is None
        else Host(devices=host.devices, memory_byte=host.memory, power_w=host.power, source=host.source),
        date=profile.date,
        aliases=profile.aliases,
        source=profile.source,
        conflicts=profile.conflicts,
        notes=profile.notes,
    )


def _tuples(table: dict[str, Any]) -> dict[str, Any]:
    """TOML has lists where the schema, being frozen, has tuples."""
    return {**table, "tiers": tuple(table["tiers"])} if isinstance(table.get("tiers"), list) else table


def _tier(tier: TierProfile, one: Device, file_name: str) -> Tier:
    own = one.links.get(tier.link)
    bandwidth, latency, topology = tier.bandwidth, tier.latency, tier.topology
    if own is not None:
        bandwidth = float(own.bandwidth_byte_per_s) if bandwidth is None else bandwidth
        latency = float(own.latency_s) if latency is None and own.latency_s is not None else latency
        topology = own.topology if topology is None else topology
    if bandwidth is None or topology is None:
        rule = f"'{one.id}' has no such link; give bandwidth and topology"
        raise DeviceError(f"{file_name}: tier '{tier.name}': link '{tier.link}': {rule}")
    return Tier(
        name=tier.name,
        link=tier.link,
        devices=tier.devices,
        bandwidth_byte_per_s=bandwidth,
        latency_s=latency,
        topology=topology,
        shape=tier.shape,
        source=tier.source,
    )


def _check(tiers: tuple[Tier, ...], count: int, file_name: str) -> None:
    if tiers[-1].devices != count:
        rule = f"the last tier joins {tiers[-1].devices} of {count} devices; it must join all"
        raise DeviceError(f"{file_name}: {rule}")
    for inner, outer in pairwise(tiers):
        if outer.devices <= inner.devices or outer.devices % inner.devices:
            rule = f"groups of {outer.devices} are not made of whole groups of {inner.devices}"
            raise DeviceError(f"{file_name}: tier '{outer.name}': {rule}")
    for tier in tiers:
        if tier.shape and math.prod(tier.shape) != tier.devices:
            sides = " x ".join(map(str, tier.shape))
            raise DeviceError(f"{file_name}: tier '{tier.name}': {sides} is not {tier.devices} devices")
