"""Devices and clusters as plain records, for `--json`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from devices import Cluster, Device
from hwsim.document import plain
from reports.records import devices_record


def catalogue_record(devices: Iterable[Device], clusters: Iterable[Cluster]) -> dict[str, Any]:
    """Devices with every value in SI units, and the clusters that name them."""
    return {**devices_record(devices), "clusters": [cluster_record(one) for one in clusters]}


def machine_record(machine: Device | Cluster) -> dict[str, Any]:
    """A device or a cluster in the form of the whole catalogue."""
    if isinstance(machine, Cluster):
        return {"schema": "hwsim.devices/1", "devices": [], "clusters": [cluster_record(machine)]}
    return devices_record([machine])


def cluster_record(cluster: Cluster) -> dict[str, Any]:
    """One cluster; its device by id."""
    record: dict[str, Any] = plain(asdict(cluster))
    return {**record, "device": cluster.device.id}
