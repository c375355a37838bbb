"""The machine that several devices of a table stand in: tables name the device and how many of it."""

from __future__ import annotations

from collections.abc import Mapping

from devices import DeviceError
from devices.cluster import machine

# device -> the node such devices are usually measured in; others use the fastest link of their profile
NODES: Mapping[str, str] = {
    "a100-80gb-sxm": "dgx-a100", "a100-80gb-pcie": "4x-a100-pairwise", "h100-sxm": "dgx-h100",
    "h200-sxm": "dgx-h200", "b200": "dgx-b200", "b300": "dgx-b300", "gb200": "gb200-nvl72",
    "gb300": "gb300-nvl72", "rtx-pro-6000": "8x-rtx-pro-6000", "mi300x": "8x-mi300x",
    "rtx-4090": "4x-rtx-4090", "v100-sxm2-16gb": "dgx-1",
}  # fmt: skip
MOST_RANKS = 2**20  # more than any machine built; larger values are slips of a table


def node_of(device: str, ranks: int) -> str:
    """The id of a cluster of such devices, or the name itself where there is one device or no such node."""
    if ranks <= 1:
        return device
    try:
        return NODES.get(machine(device).id, device)
    except DeviceError:
        return device


def ranks_of(text: str) -> int | None:
    """A number of devices as tables write it (`4`, `4.0`); None for what cannot be one."""
    try:
        count = float(text)
    except ValueError:
        return None
    return int(count) if 1 <= count <= MOST_RANKS and count.is_integer() else None


def no_ranks(text: str) -> str:
    """The note for rows of a number of devices that cannot be."""
    return f"{text!r} is no number of devices"
