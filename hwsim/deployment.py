"""What runs a request: one device of a kind, the links between many, and how a layout sits on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from devices import Device
from devices.cluster import Cluster
from devices.cluster import machine as find_machine
from devices.errors import near
from graphs.parallel import AXES, HOST, NVME, ONE, Parallel
from hwsim.errors import HwsimError
from hwsim.network import HOP_S, Fabric, Level, Path, fabric_of

SINGLE_DEVICES = 8  # as many of a lone profile are taken to stand in one host


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A device, the name it was asked for by, and what joins as many as a layout has ranks."""

    name: str
    device: Device
    parallel: Parallel
    fabric: Fabric
    sharers: int = 1  # devices of one host
    most: int = 1  # devices that can be had
    warnings: tuple[str, ...] = ()

    @property
    def paths(self) -> Mapping[str, Path]:
        """Links of every axis with more than one rank, and to what lies outside of the devices."""
        outside = set(self.parallel.offloaded.values())
        return {
            axis: self.fabric.path(self.parallel.ranks(axis), self.parallel.stride(axis))
            for axis in AXES
            if self.parallel.ranks(axis) > 1
        } | {place: (outside_link(self.device, place, self.sharers),) for place in sorted(outside)}


def deploy(machine: Any, parallel: Parallel, changes: Mapping[str, Any]) -> Deployment:
    """A device or cluster, by id or as it is, under `device.` settings, with a layout on it."""
    found = machine if isinstance(machine, Device | Cluster) else find_machine(machine)
    one = found.device if isinstance(found, Cluster) else found
    changed = one.replace(**changes)
    warnings = []
    if isinstance(found, Cluster):
        fabric = fabric_of(_with_links(found, changed), parallel.devices)
        if parallel.devices == 1:
            warnings.append(
                f"1 of the {found.count} devices of {found.id} is used; give --tp, --pp, --dp or --ep"
            )
    else:
        fabric = fabric_of(changed, parallel.devices)
    if fabric.warning:
        warnings.append(fabric.warning)
    return Deployment(
        name=found.id, device=changed, parallel=parallel, fabric=fabric, sharers=_sharers(found, parallel),
        most=found.count if isinstance(found, Cluster) else max(SINGLE_DEVICES, parallel.devices),
        warnings=tuple(warnings),
    )  # fmt: skip


def _sharers(machine: Device | Cluster, parallel: Parallel) -> int:
    """Devices at work in one host; all of them where nothing says how many a host holds."""
    held = machine.host.devices if isinstance(machine, Cluster) and machine.host else parallel.devices
    return min(held, parallel.devices)


def outside_link(device: Device, place: str, sharers: int = 1) -> Level:
    """The way from a device to the memory or the drive of its host.

    Every device has its own link; the drive is shared by those of the host, and behind the link.
    """
    name, host = device.host_link, device.memory.host
    if host is not None and host.bandwidth_byte_per_s is not None:
        name, rate, latency = "host", host.bandwidth_byte_per_s, None
    elif name is not None:
        rate, latency = device.links[name].bandwidth_byte_per_s, device.links[name].latency_s
    else:
        raise HwsimError(
            f"device '{device.id}' has no link to a host, so nothing can be off-loaded; "
            "its profile would need a link of topology 'host' or a memory.host"
        )
    if place == NVME:
        drive = device.memory.nvme
        if drive is None or drive.bandwidth_byte_per_s is None:
            raise HwsimError(
                f"device '{device.id}' names no drive; off-load to the {HOST}, "
                "or give its profile a memory.nvme"
            )
        name, rate = NVME, np.minimum(rate, drive.bandwidth_byte_per_s / sharers)
    return Level(
        ways=2, bandwidth_byte_per_s=rate, latency_s=HOP_S if latency is None else latency,
        topology="host", link=name,
    )  # fmt: skip


def _with_links(cluster: Cluster, changed: Device) -> Cluster:
    """A cluster whose tiers follow changes of its device's links."""
    tiers = []
    for tier in cluster.tiers:
        before, after = cluster.device.links.get(tier.link), changed.links.get(tier.link)
        if before is not None and after is not None:
            if tier.bandwidth_byte_per_s == before.bandwidth_byte_per_s:
                tier = replace(tier, bandwidth_byte_per_s=after.bandwidth_byte_per_s)  # type: ignore[arg-type]
            if after.latency_s is not before.latency_s and after.latency_s is not None:
                tier = replace(tier, latency_s=after.latency_s)  # type: ignore[arg-type]
        tiers.append(tier)
    return replace(cluster, device=changed, tiers=tuple(tiers))


def layout_of(
    parallel: Parallel | Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
) -> Parallel:
    """A layout as given or from its parts, with `parallel.` settings on top; numbers may be text.

    Sequence ranks that are not the tensor ranks form a ring unless the layout says otherwise.
    """
    if isinstance(parallel, Parallel) and not settings:
        return parallel
    given = parallel.record() if isinstance(parallel, Parallel) else dict(parallel or {})
    parts = {name: _part(name, value) for name, value in {**given, **(settings or {})}.items()}
    if "sequence" not in parts and parts.get("sp", 1) not in (1, parts.get("tp", 1)):
        parts["sequence"] = "ring"
    return Parallel(**parts)


def _part(name: str, value: Any) -> Any:
    """One part of a layout as the type it has."""
    known = {one: type(getattr(ONE, one)) for one in Parallel.__dataclass_fields__}
    if name not in known:
        raise HwsimError(f"a layout has no {name!r}; it has {', '.join(known)}{near(name, known)}")
    if known[name] is str:
        return str(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise HwsimError(f"{name}={value!r} of a layout is no number") from None
    return int(number) if known[name] is int and number.is_integer() else number
