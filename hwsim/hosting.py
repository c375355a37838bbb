"""The host CPU behind a device that runs some operators only: its machine, and the border between the two.

A profile's `[host]` says what the device runs (`graphs.passes.placing` deals the rest to the host) and
whether the two share one DRAM. Then nothing is sent, the host draws what bandwidth that DRAM has, and its own
traffic is lost to the device.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from devices import Device, Stack
from devices import device as find_device
from devices.device import Host
from graphs.ir import HOST
from graphs.passes.placing import AXIS, Border
from hwsim.errors import HwsimError
from hwsim.fitted import coefficients_for
from hwsim.machine import MATRIX, VECTOR, Machine, build_machine
from hwsim.network import HOP_S, Level, Path
from hwsim.optable import OpTable


def border_of(device: Device) -> Border | None:
    """What of a graph stays on the device; None where all of it does."""
    if device.host is None:
        return None
    host = device.host
    return Border(accelerated=frozenset(host.accelerated), dtype=host.dtype, sends=not host.shares_memory)


def border_path(device: Device) -> Mapping[str, Path]:
    """The link that values cross by, as an axis of two; none in shared memory."""
    host = device.host
    if host is None or host.shares_memory:
        return {}
    level = Level(
        ways=2,
        bandwidth_byte_per_s=host.bandwidth_byte_per_s,
        latency_s=HOP_S if host.latency_s is None else host.latency_s,
        topology="host",
        link="host",
    )
    return {AXIS: (level,)}


def with_host(machine: Machine, stack: Stack, dtypes: Mapping[str, set[str]] | None) -> Machine:
    """The machine with its host beside it, for the dtypes of what runs there; as it is where nothing does."""
    host = machine.device.host
    if host is None:
        return machine
    if host.shares_memory and host.traffic_byte_per_s is not None:
        machine = _less_traffic(machine, host)
    if dtypes is None:
        return machine
    behind = find_device(host.device)
    if behind.host is not None:
        raise HwsimError(
            f"'{machine.device.id}' has '{behind.id}' for a host, which has a host itself; name a machine "
            "that runs every operator"
        )
    other = build_machine(behind, stack, coefficients_for(behind), dtypes)
    if host.shares_memory:
        rate = np.minimum(other.dram_byte_per_s, machine.dram_byte_per_s)
        other = dataclasses.replace(other, dram_byte_per_s=rate, dram_j_per_byte=machine.dram_j_per_byte)
    return dataclasses.replace(machine, host=other)


def _less_traffic(machine: Machine, host: Host) -> Machine:
    dram = machine.device.memory.dram
    assert dram is not None  # a device with a host has memory of some kind
    left = 1.0 - host.traffic_byte_per_s / dram.bandwidth_byte_per_s  # type: ignore[operator]
    if np.any(left <= 0):
        raise HwsimError(
            f"host.traffic of '{machine.device.id}' takes all of its memory bandwidth; lower it or raise "
            "memory.dram.bandwidth"
        )
    return dataclasses.replace(machine, dram_byte_per_s=machine.dram_byte_per_s * left)


def told(device: Device, tables: Sequence[OpTable]) -> Iterator[str]:
    """A warning that names what runs on the host."""
    if device.host is None:
        return
    kernels, sent = 0, 0
    kinds: dict[str, None] = {}
    for table in tables:
        for row, count in zip(table.rows, table.counts.tolist(), strict=True):
            if row.work.shape == "collective" and row.operator.attribute("axis") == AXIS:
                sent += int(count)
            elif row.place == HOST and row.operator.kind != "convert":
                kernels += int(count)
                members = row.operator.members or (row.operator,)
                kinds.update(dict.fromkeys(one.name.rpartition(".")[2].strip("_") for one in members))
    if kernels:
        across = "in shared memory" if device.host.shares_memory else f"values cross {sent} times"
        yield (
            f"{device.id} does not run {', '.join(sorted(kinds))}: {kernels} kernels run on its host "
            f"{device.host.device}, {across}"
        )


def dtypes_on(place: str, tables: Sequence[OpTable]) -> dict[str, set[str]] | None:
    """Dtypes of matrix and vector work in a place; None where nothing runs there."""
    rows = [row for table in tables for row in table.rows if row.place == place]
    if not rows:
        return None
    products = {row.dtype for row in rows if row.work.shape not in ("stream", "collective")}
    return {MATRIX: products or {"fp32"}, VECTOR: {row.dtype for row in rows}}
