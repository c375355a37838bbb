"""What machine there is: profiles of devices as data files, their schema, and the values engines read.

A device is one TOML file in this folder: datasheet facts, units as text, a source beside every group.
`device` validates it once and returns a `Device` of SI numbers, `Device.replace` changes it for a what-if (an
array gives many machines at once), and `detect` describes the machine at hand. `named` reads the names that
measurement tables use. A `Cluster` is many devices and the links between them, a `Stack` the software between
a graph and the silicon. The room knows no models and no cost formulae; measured coefficients never become
part of a profile.
"""

from __future__ import annotations

from devices.catalog import device, devices
from devices.cluster import Cluster, cluster, clusters, machine
from devices.detect import detect
from devices.device import Device
from devices.errors import DeviceError
from devices.naming import Named, named
from devices.quantity import format_quantity, parse_quantity
from devices.stack import Stack, stack, stacks

__all__ = [
    "Cluster",
    "Device",
    "DeviceError",
    "Named",
    "Stack",
    "cluster",
    "clusters",
    "detect",
    "device",
    "devices",
    "format_quantity",
    "machine",
    "named",
    "parse_quantity",
    "stack",
    "stacks",
]
