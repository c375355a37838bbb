"""Collectives over the links of a cluster: start-up, hops and bytes on the wire (alpha-beta), per protocol.

A group of ranks sees tiers of links, the innermost first (`Level`). Within one tier ranks exchange over a
ring (all links at once); `low_latency` and `bulk` protocols trade hops for bandwidth as collective libraries
do, and the cheaper one is taken. Over several tiers a sum runs ring by ring from the inside out and back, or
as one flat ring, or as a tree, whichever is cheapest. Serving engines add a one-shot and a two-shot exchange
(`direct`). All sizes may be arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from devices import Device
from devices.cluster import Cluster, Tier
from devices.device import Link
from devices.errors import near
from hwsim.engines.demand import Array
from hwsim.errors import HwsimError

ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER = "all_reduce", "all_gather", "reduce_scatter"
ALL_TO_ALL, BROADCAST, SEND = "all_to_all", "broadcast", "send"
COLLECTIVES = (ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, ALL_TO_ALL, BROADCAST, SEND)
HOP_S = 1e-6  # of a link whose profile gives no latency; from memory, unverified
# Links whose transfers pass the host's root complex or its network adapter.
HOSTED = ("host",)
# One medium for all: who sends keeps the others waiting.
SHARED = ("shared",)
PROTOCOLS = ("low_latency", "bulk")


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The ways a group splits at one tier, and the link there: bandwidth per direction and device."""

    ways: int
    bandwidth_byte_per_s: Any
    latency_s: Any
    topology: str
    link: str = ""


Path = tuple[Level, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """The tiers that join `count` devices, innermost first; `warning` says what was assumed."""

    tiers: tuple[Tier, ...]
    count: int
    warning: str = ""

    def path(self, ranks: int, stride: int = 1) -> Path:
        """Levels of a group of `ranks` devices that stand `stride` apart."""
        levels: list[Level] = []
        inside = 1
        for tier in self.tiers:
            here = min(ranks, max(1, math.ceil(tier.devices / stride)))
            if here > inside:
                ways = math.ceil(here / inside)
                reachable = _reachable(tier, here * stride)
                if tier.topology in (*HOSTED, *SHARED):  # those inside share the way through the host
                    reachable /= inside
                levels.append(
                    Level(
                        ways=ways,
                        bandwidth_byte_per_s=tier.bandwidth_byte_per_s * reachable,
                        latency_s=HOP_S if tier.latency_s is None else tier.latency_s,
                        topology=tier.topology,
                        link=tier.link,
                    )
                )
                inside = here
        return tuple(levels)


def fabric_of(machine: Device | Cluster, count: int) -> Fabric:
    """What joins `count` devices: the tiers of a cluster, or the fastest link class of a lone profile."""
    if isinstance(machine, Cluster):
        if count > machine.count:
            raise HwsimError(
                f"{count} devices are asked for, '{machine.id}' has {machine.count}; "
                "take fewer ranks or a larger cluster"
            )
        return Fabric(tiers=machine.tiers, count=machine.count)
    if count == 1:
        return Fabric(tiers=(), count=1)
    name, link = _fastest(machine, count)
    tier = Tier(
        name=name,
        link=name,
        devices=count,
        bandwidth_byte_per_s=link.bandwidth_byte_per_s,  # type: ignore[arg-type]  # may be an array
        latency_s=link.latency_s,  # type: ignore[arg-type]
        topology=link.topology,
    )
    said = f"{machine.id} is one device: {count} of them are taken to be joined by {name}; name a cluster"
    return Fabric(tiers=(tier,), count=count, warning=said)


def _fastest(device: Device, count: int) -> tuple[str, Link]:
    fitting = {
        name: link
        for name, link in device.links.items()
        if link.max_devices is None or count <= np.max(link.max_devices)
    }
    if not fitting:
        known = ", ".join(device.links) or "none"
        raise HwsimError(
            f"device '{device.id}' has no link that joins {count} devices (links: {known}); "
            "take fewer or name a cluster, `hwsim devices` lists them"
        )
    return max(fitting.items(), key=lambda item: float(np.max(item[1].bandwidth_byte_per_s)))


def _reachable(tier: Tier, devices: int) -> float:
    """Share of a device's links that lead to the others of a group: all but in a full mesh used in part."""
    if tier.topology in ("full", "cube_mesh") and 1 < devices < tier.devices:
        return (devices - 1) / (tier.devices - 1)
    return 1.0


def ranks_of(path: Path) -> int:
    return math.prod(level.ways for level in path)


def wire_byte(op: str, byte: Array | float, ranks: int) -> Array:
    """Bytes that each rank sends; `byte` is the whole buffer (what a rank holds, for all_to_all and send)."""
    if op not in COLLECTIVES:
        raise HwsimError(f"no collective {op!r}; there are {', '.join(COLLECTIVES)}{near(op, COLLECTIVES)}")
    if ranks <= 1:
        return np.zeros_like(np.asarray(byte, dtype=np.float64))
    share = {ALL_REDUCE: 2 * (ranks - 1) / ranks, BROADCAST: 1.0, SEND: 1.0}.get(op, (ranks - 1) / ranks)
    return np.asarray(share * np.asarray(byte, dtype=np.float64))


def collective_s(
    op: str, byte: Array | float, path: Path, coefficients: Mapping[str, Any], *, direct: bool = False
) -> Array:
    """Seconds of one collective over `path`; nothing for a group of one.

    `direct`: the engine's own all-reduce kernels are there, too, as far as one tier goes.
    """
    byte = np.asarray(byte, dtype=np.float64)
    wire_byte(op, byte, 1)  # checks the name
    if not path:
        return np.zeros_like(byte)
    c = coefficients
    found = [_hierarchical(op, byte, path, c, protocol) for protocol in PROTOCOLS]
    if len(path) > 1 and op in (ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER):
        found += [_flat(op, byte, path, c, protocol) for protocol in PROTOCOLS]
    if len(path) > 1 and op == ALL_REDUCE:
        found.append(_tree(byte, path, c))
    if direct and op == ALL_REDUCE and len(path) == 1 and path[0].topology not in HOSTED:
        found += _direct(byte, path[0], c)
    start = c["collective_start_s"]
    seconds = np.minimum.reduce([np.asarray(one) for one in np.broadcast_arrays(*(f + start for f in found))])
    return np.asarray(np.where(byte > 0, seconds, 0.0))


def _rate(level: Level, c: Mapping[str, Any], protocol: str, op: str = "") -> Any:
    """Bytes per second and direction that a device really gets at this level."""
    if level.topology in HOSTED:
        share = c["host_link_efficiency"] / (1 + c["host_link_contention"] * max(0, level.ways - 2))
    else:
        share = c["link_efficiency"] / (level.ways if level.topology in SHARED else 1)
    if protocol == "low_latency":
        share = share * c["low_latency_share"]
    if op == ALL_TO_ALL:
        share = share * c["all_to_all_share"]
    return level.bandwidth_byte_per_s * share


def _hop(level: Level, c: Mapping[str, Any], protocol: str) -> Any:
    return level.latency_s + c[f"{protocol}_hop_s"]


def _steps(op: str, ways: int) -> int:
    """Hops one after the other in a ring; all-to-all sends to everybody at once."""
    return {ALL_REDUCE: 2 * (ways - 1), ALL_TO_ALL: 1, SEND: 1}.get(op, ways - 1)


def _ring(op: str, byte: Array, level: Level, c: Mapping[str, Any], protocol: str) -> Any:
    """A ring over one level; the rank's own share passes through its memory while links wait for it."""
    own = 0.0 if op in (SEND, BROADCAST) else c["own_part"] * byte / level.ways
    moved = wire_byte(op, byte, level.ways) + own
    return _steps(op, level.ways) * _hop(level, c, protocol) + moved / _rate(level, c, protocol, op)


def _hierarchical(op: str, byte: Array, path: Path, c: Mapping[str, Any], protocol: str) -> Any:
    """Level after level, each with what the levels inside leave to it."""
    if op == SEND:
        return _ring(op, byte, path[-1], c, protocol)
    if op == ALL_TO_ALL:
        ranks = ranks_of(path)
        inside = 1
        times = []
        for level in path:
            sent = byte * inside * (level.ways - 1) / ranks
            own = c["own_part"] * byte / ranks
            times.append(_hop(level, c, protocol) + (sent + own) / _rate(level, c, protocol, op))
            inside *= level.ways
        return np.maximum.reduce([np.asarray(one) for one in np.broadcast_arrays(*times)])
    total: Any = 0.0
    left = byte
    for level in path:
        total = total + _ring(op, left, level, c, protocol)
        left = left if op == BROADCAST else left / level.ways
    return total


def _flat(op: str, byte: Array, path: Path, c: Mapping[str, Any], protocol: str) -> Any:
    """One ring through all ranks: the links that leave a group are shared by everybody inside."""
    ranks, inside, rate = ranks_of(path), 1, np.inf
    hops: Any = 0.0
    for index, level in enumerate(path):
        rate = np.minimum(rate, inside * _rate(level, c, protocol))
        outside = math.prod(one.ways for one in path[index + 1 :])
        crossings = (level.ways - 1) * outside if index + 1 < len(path) else level.ways - 1
        hops = hops + crossings * _hop(level, c, protocol)
        inside *= level.ways
    rounds = 2 if op == ALL_REDUCE else 1
    return rounds * hops + (wire_byte(op, byte, ranks) + c["own_part"] * byte / ranks) / rate


def _tree(byte: Array, path: Path, c: Mapping[str, Any]) -> Any:
    """A double binary tree between the groups of the innermost level, rings inside them."""
    inner, hops, rate = path[0], 0.0, np.inf
    for level in path[1:]:
        hops = hops + math.ceil(math.log2(level.ways)) * _hop(level, c, "low_latency")
        rate = np.minimum(rate, _rate(level, c, "bulk"))
    return _ring(ALL_REDUCE, byte, inner, c, "bulk") + 2 * hops + 2 * byte / inner.ways / rate


def _direct(byte: Array, level: Level, c: Mapping[str, Any]) -> list[Any]:
    """Everybody reads everybody's buffer at once (one shot), or reduces a share and gathers (two shots).

    Both start without a library call, so what that would have cost is taken off.
    """
    rate = level.bandwidth_byte_per_s * c["link_efficiency"]
    saved = c["direct_start_s"] - c["collective_start_s"]
    one = saved + level.latency_s + (level.ways - 1) * byte / (rate * c["one_shot_share"])
    two = saved + 2 * level.latency_s + c["two_shot_sync_s"]
    return [one, two + (wire_byte(ALL_REDUCE, byte, level.ways) + c["own_part"] * byte / level.ways) / rate]
