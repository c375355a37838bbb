"""Models on devices of their own that work at once, and one that joins what they made (ED-ViT's split).

Every member is an estimate like any other; what the joining model reads comes over one link into its device,
after the slowest member. Members have their inputs already: a picture that one device would have to hand to
the others is not sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from devices import Device
from devices import device as find_device
from devices.errors import near
from graphs.expressions import Environment
from graphs.ir import INPUT, OperatorGraph
from graphs.workload import dtype_bits
from hwsim.binding import bind
from hwsim.engines.demand import Array
from hwsim.errors import HwsimError
from hwsim.estimating import estimate
from hwsim.fitted import coefficients_for
from hwsim.network import HOP_S, SEND, Level, collective_s
from hwsim.result import Estimate, Value
from hwsim.tracing import trace

SCHEMA = "hwsim.team/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """`count` devices that do the same."""

    model: Any
    device: str | Device
    count: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or self.count < 1:
            raise HwsimError(f"{self.count} devices of a member are not possible; give at least 1")

    @classmethod
    def read(cls, text: str) -> Member:
        """The member that `MODEL@DEVICE` or `MODEL@DEVICE*N` names."""
        model, at, rest = text.rpartition("@")
        device, times, count = rest.partition("*")
        if not at or not model or not device or (times and not count.isdecimal()):
            raise HwsimError(f"{text!r} is no member; write MODEL@DEVICE, or MODEL@DEVICE*N for N devices")
        return cls(model=model, device=device, count=int(count or 1))


@dataclass(frozen=True, kw_only=True)
class Team:
    """Time is that of the slowest member, the transfer and the join; energy that of all until the end."""

    members: tuple[tuple[Estimate, int], ...]
    join: Estimate | None
    link: str
    transfer_s: Value
    transfer_byte: Value
    transfer_j: Value

    @property
    def devices(self) -> int:
        """The join runs on one of the members' devices, or on one like them."""
        return sum(count for _, count in self.members)

    @property
    def members_s(self) -> Value:
        """The slowest member."""
        return np.maximum.reduce(np.broadcast_arrays(*(one.latency_s for one, _ in self.members)))

    @property
    def latency_s(self) -> Value:
        return self.members_s + self.transfer_s + (0.0 if self.join is None else self.join.latency_s)

    @property
    def energy_j(self) -> Value:
        """Work of all, and the static power of every device until the last is done."""
        static = sum(n * one.energy_static_j / one.latency_s for one, n in self.members) * self.latency_s
        work = sum(n * one.energy_dynamic_j for one, n in self.members)
        joined = 0.0 if self.join is None else self.join.energy_dynamic_j
        return static + work + joined + self.transfer_j

    @property
    def fits(self) -> bool:
        """Whether every member fits its device."""
        return all(bool(np.all(one.fits)) for one, _ in self._all)

    @property
    def _all(self) -> tuple[tuple[Estimate, int], ...]:
        return self.members if self.join is None else (*self.members, (self.join, 1))

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(warning for one, _ in self._all for warning in one.warnings))

    def to_dict(self) -> dict[str, Any]:
        """The document `hwsim.team/1`."""
        from hwsim.document import plain

        return {
            "schema": SCHEMA,
            "devices": self.devices,
            "link": self.link or None,
            "latency_s": plain(self.latency_s),
            "breakdown_s": plain(
                {
                    "members": self.members_s,
                    "transfer": self.transfer_s,
                    "join": 0.0 if self.join is None else self.join.latency_s,
                }
            ),
            "energy_j": plain(self.energy_j),
            "transfer_bytes": plain(self.transfer_byte),
            "fits": self.fits,
            "members": [{"count": n, **one.to_dict(ops=False)} for one, n in self.members],
            "join": None if self.join is None else self.join.to_dict(ops=False),
            "warnings": list(self.warnings),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)


def team(
    members: Sequence[Member],
    *,
    join: Member | None = None,
    link: str | None = None,
    dtype: str | None = None,
    stack: str = "compiled",
    overrides: Mapping[str, Any] | None = None,
    **sizes: Any,
) -> Team:
    """Members side by side, then `join` on what they made, sent over `link` (a link class of the devices).

    `sizes`, `dtype`, `stack` and `overrides` are those of `estimate`, for all of them.
    """
    if not members:
        raise HwsimError("a team without members does nothing; name at least one")

    def priced(one: Member) -> Estimate:
        graph = trace(one.model)
        known = {symbol.name for symbol in graph.symbols}
        mine = {name: value for name, value in sizes.items() if value is not None and name in known}
        found: Estimate = estimate(
            one.model, one.device, dtype=dtype, stack=stack, overrides=overrides, **mine
        )
        return found

    found = tuple((priced(one), one.count) for one in members)
    if join is None:
        return Team(members=found, join=None, link="", transfer_s=0.0, transfer_byte=0.0, transfer_j=0.0)
    machines = [_device(one.device) for one in (*members, join)]
    name, level = _level(machines, link)
    last = priced(join)
    byte = input_byte(trace(join.model), last.sizes)
    coefficients = coefficients_for(machines[-1])
    return Team(
        members=found,
        join=last,
        link=name,
        transfer_s=transfer_s(byte, level, coefficients.values),
        transfer_byte=byte,
        transfer_j=byte * coefficients["link_j_per_byte"],
    )


def transfer_s(byte: Array | float, level: Level, coefficients: Mapping[str, Any]) -> Array:
    """Seconds of what all members send into one device over its link."""
    return collective_s(SEND, byte, (level,), coefficients)


def link_level(device: Device, link: str) -> Level:
    """The link of a device that others of its class join."""
    if link not in device.links:
        known = ", ".join(device.links) or "none"
        raise HwsimError(
            f"device '{device.id}' has no link '{link}'{near(link, device.links)} (links: {known})"
        )
    one = device.links[link]
    return Level(
        ways=2,
        bandwidth_byte_per_s=one.bandwidth_byte_per_s,
        latency_s=HOP_S if one.latency_s is None else one.latency_s,
        topology=one.topology,
        link=link,
    )


def input_byte(graph: OperatorGraph, sizes: Mapping[str, Any]) -> Array:
    """Bytes of a model's inputs."""
    environment = Environment(bind(graph, sizes))
    inputs = [one for one in graph.storages if one.role == INPUT]
    return np.asarray(sum(environment(one.elements) * dtype_bits(one.dtype) / 8 for one in inputs))


def _device(one: str | Device) -> Device:
    return one if isinstance(one, Device) else find_device(one)


def _level(machines: Sequence[Device], link: str | None) -> tuple[str, Level]:
    """The class that joins all: the one asked for, or the fastest that all have; as slow as the slowest."""
    shared = [
        name
        for name in machines[-1].links
        if all(name in one.links and one.links[name].topology != "host" for one in machines)
    ]
    if link is None and not shared:
        ids = ", ".join(dict.fromkeys(one.id for one in machines))
        raise HwsimError(f"no link class joins {ids}; add [links.ethernet] to their profiles")
    levels = {
        name: [link_level(one, name) for one in machines] for name in (shared if link is None else [link])
    }
    slowest = {
        name: min(found, key=lambda one: float(np.max(one.bandwidth_byte_per_s)))
        for name, found in levels.items()
    }
    name = max(slowest, key=lambda one: float(np.max(slowest[one].bandwidth_byte_per_s)))
    return name, slowest[name]
