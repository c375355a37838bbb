"""Paths such as `memory.dram.bandwidth`: which there are, where they lead, a device with some changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from devices.derived import derived_bandwidth
from devices.device import DTYPES, Device, Quantity
from devices.energy import op_exponent, sram_exponent
from devices.errors import DeviceError, near
from devices.quantity import parse_quantity

_PROSE = {"sources", "conflicts", "notes", "aliases", "label", "source", "date"}
_SIDES = ("rows", "columns", "count")
_LEVELS = ("register", "l1", "l2", "l3", "dram", "host", "nvme")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """Where a path leads (attribute names and mapping keys), its dimension, and whether zero is a value."""

    steps: tuple[str, ...]
    dimension: str
    may_be_zero: bool = False


def paths(device: Device) -> dict[str, Leaf]:
    """The paths of a device; an unpublished number has its path too, a missing level or dtype has not."""
    found = dict(_compute_paths(device))
    for level in _LEVELS:
        if getattr(device.memory, level) is not None:
            found.update(_level_paths(level))
    for name in device.links:
        found[f"links.{name}.bandwidth"] = Leaf(
            steps=("links", name, "bandwidth_byte_per_s"), dimension="byte_per_s"
        )
        found[f"links.{name}.latency"] = Leaf(
            steps=("links", name, "latency_s"), dimension="second", may_be_zero=True
        )
        found[f"links.{name}.max_devices"] = Leaf(steps=("links", name, "max_devices"), dimension="number")
    found.update(_energy_paths(device))
    found.update(_host_paths(device))
    if device.process_nm is not None:
        found["process"] = Leaf(steps=("process_nm",), dimension="nm")
    return found


def _compute_paths(device: Device) -> Iterator[tuple[str, Leaf]]:
    plain = {
        "units": ("units", "number"),
        "clock": ("clock_hz", "hertz"),
        "boost_clock": ("boost_clock_hz", "hertz"),
        "special": ("special_op_per_s", "op_per_s"),
        "lanes_per_unit": ("lanes_per_unit", "number"),
    }
    for key, (attribute, dimension) in plain.items():
        yield f"compute.{key}", Leaf(steps=("compute", attribute), dimension=dimension)
    for group in ("matrix", "vector"):
        attribute = f"{group}_flop_per_s"
        for dtype in getattr(device.compute, attribute):
            leaf = Leaf(steps=("compute", attribute, dtype), dimension="flop_per_s")
            yield f"compute.{group}.{dtype}", leaf
    if device.compute.array is not None:
        for key in ("rows", "columns", "count", "macs_per_pe_per_cycle"):
            yield f"compute.array.{key}", Leaf(steps=("compute", "array", key), dimension="number")


def _level_paths(level: str) -> Iterator[tuple[str, Leaf]]:
    at = ("memory", level)
    yield f"memory.{level}.capacity", Leaf(steps=(*at, "capacity_byte"), dimension="byte")
    yield f"memory.{level}.addressable", Leaf(steps=(*at, "addressable_byte"), dimension="byte")
    yield f"memory.{level}.bandwidth", Leaf(steps=(*at, "bandwidth_byte_per_s"), dimension="byte_per_s")
    yield (
        f"memory.{level}.energy",
        Leaf(steps=(*at, "energy_j_per_byte"), dimension="joule_per_byte", may_be_zero=True),
    )


def _host_paths(device: Device) -> Iterator[tuple[str, Leaf]]:
    if device.host is None:
        return
    if device.host.shares_memory:
        yield (
            "host.traffic",
            Leaf(steps=("host", "traffic_byte_per_s"), dimension="byte_per_s", may_be_zero=True),
        )
        return
    yield "host.bandwidth", Leaf(steps=("host", "bandwidth_byte_per_s"), dimension="byte_per_s")
    yield "host.latency", Leaf(steps=("host", "latency_s"), dimension="second", may_be_zero=True)


def _energy_paths(device: Device) -> Iterator[tuple[str, Leaf]]:
    yield "power.limit", Leaf(steps=("power", "limit_w"), dimension="watt")
    yield "power.sustained", Leaf(steps=("power", "sustained_w"), dimension="watt")
    yield "power.idle", Leaf(steps=("power", "idle_w"), dimension="watt", may_be_zero=True)
    yield "energy.static", Leaf(steps=("energy", "static_w"), dimension="watt", may_be_zero=True)
    yield (
        "energy.special",
        Leaf(steps=("energy", "special_j_per_op"), dimension="joule_per_op", may_be_zero=True),
    )
    for group in ("matrix", "vector"):
        attribute = f"{group}_j_per_flop"
        for dtype in getattr(device.energy, attribute):
            leaf = Leaf(steps=("energy", attribute, dtype), dimension="joule_per_op", may_be_zero=True)
            yield f"energy.{group}.{dtype}", leaf
    yield "price.per_hour", Leaf(steps=("price", "usd_per_hour"), dimension="usd_per_hour", may_be_zero=True)
    yield (
        "carbon.intensity",
        Leaf(steps=("carbon", "gram_per_kwh"), dimension="gram_per_kwh", may_be_zero=True),
    )


def replaced(device: Device, changes: Mapping[str, object]) -> Device:
    """The device with the changes and what follows from them (see `Device.replace`)."""
    known = _with_new_dtypes(paths(device), changes)
    values = {path: _value(path, known, change) for path, change in changes.items()}
    values = {**_consequences(device, known, values), **values}
    result: Any = device
    for path, value in values.items():
        result = _put(result, known[path].steps, value)
    if "compute.units" in values:
        result = _put(result, ("memory", "units"), values["compute.units"])
    return result  # type: ignore[no-any-return]


def _with_new_dtypes(known: dict[str, Leaf], changes: Mapping[str, object]) -> dict[str, Leaf]:
    """A device may be given a rate for a dtype it lacks."""
    new = {}
    for path in changes:
        group, _, dtype = path.rpartition(".")
        if dtype in DTYPES and group in ("compute.matrix", "compute.vector"):
            steps = ("compute", f"{group.removeprefix('compute.')}_flop_per_s", dtype)
            new[path] = Leaf(steps=steps, dimension="flop_per_s")
    return {**known, **new}


def _value(path: str, known: Mapping[str, Leaf], change: object) -> Quantity:
    if path not in known:
        raise DeviceError(f"no path '{path}' in this device{near(path, known)}")
    leaf = known[path]
    if isinstance(change, str):
        try:
            value: Quantity = parse_quantity(change, leaf.dimension)
        except DeviceError as error:
            raise DeviceError(f"{path}: {error}") from None
    else:
        value = _number(path, change)
    low = np.min(value)
    if not np.all(np.isfinite(value)) or low < 0 or (low == 0 and not leaf.may_be_zero):
        rule = "finite and zero or more" if leaf.may_be_zero else "finite and above zero"
        raise DeviceError(f"{path} = {change}: every value must be {rule}")
    return value


def _number(path: str, change: object) -> Quantity:
    try:
        array = np.asarray(change, dtype=np.float64)
    except (TypeError, ValueError):
        raise DeviceError(f"{path} = {change!r} is no number, text with a unit, or array") from None
    if array.size == 0:
        raise DeviceError(f"{path} is an empty array; give at least one design point")
    return float(array) if array.ndim == 0 else array


def _consequences(
    device: Device, known: Mapping[str, Leaf], values: Mapping[str, Quantity]
) -> dict[str, Quantity]:
    scales: dict[str, Quantity] = {}
    for cause, value in values.items():
        followers = [(path, 1.0) for path in _followers(device, cause, known)]
        if cause == "process":
            followers += _shrinking(known)
        for path, exponent in followers:
            ratio = value / _get(device, known[cause].steps)
            scales[path] = scales.get(path, 1.0) * ratio**exponent
    for path, ratio in _array_ports(device, values).items():
        scales[path] = scales.get(path, 1.0) * ratio
    found = {}
    for path, scale in scales.items():
        old = _get(device, known[path].steps)
        if old is not None:
            found[path] = old * scale
    return found


def _followers(device: Device, cause: str, known: Mapping[str, Leaf]) -> list[str]:
    """The paths proportional to a cause: peaks to units, clock, array; on-chip bandwidths to units or clock.

    L2 and beyond are shared and keep their bandwidth when units are added. The units of a spatial engine are
    its PEs.
    """
    starts: list[str] = []
    if cause in ("compute.units", "compute.clock"):
        starts = ["compute.matrix.", "compute.vector.", "compute.special"]
        starts += ["memory.register.bandwidth", "memory.l1.bandwidth"]
    if cause == "compute.units":
        starts.append("compute.array.count")
    elif cause == "compute.clock":
        starts += ["compute.boost_clock", "memory.l2.bandwidth", "memory.l3.bandwidth"]
    elif cause.startswith("compute.array."):
        starts = ["compute.matrix."]
        if device.engine == "spatial" and not cause.endswith("per_cycle"):
            starts.append("compute.units")
    return [path for path in known if path.startswith(tuple(starts))] if starts else []


def _array_ports(device: Device, values: Mapping[str, Quantity]) -> dict[str, Quantity]:
    """How bandwidths that were derived from the array follow its sides and count."""
    array = device.compute.array
    if array is None or not any(f"compute.array.{key}" in values for key in _SIDES):
        return {}
    rows, columns, count = (values.get(f"compute.array.{key}", getattr(array, key)) for key in _SIDES)
    changed = replace(device.compute, array=replace(array, rows=rows, columns=columns, count=count))
    found = {}
    for level in ("l1", "l2"):
        path = f"memory.{level}.bandwidth"
        old = derived_bandwidth(device.engine, level, device.compute)
        new = derived_bandwidth(device.engine, level, changed)
        if device.sources.get(path, "").startswith("derived") and old is not None and new is not None:
            found[path] = new / old
    return found


def _shrinking(known: Mapping[str, Leaf]) -> Iterator[tuple[str, float]]:
    """Energies on chip and how they follow the node; DRAM, static power and clock stay as they are."""
    for path in known:
        if path.startswith(("energy.matrix.", "energy.vector.", "energy.special")):
            yield path, op_exponent()
        elif path.endswith(".energy") and path.split(".")[1] in ("register", "l1", "l2", "l3"):
            yield path, sram_exponent()


def _get(value: Any, steps: tuple[str, ...]) -> Any:
    for step in steps:
        value = value.get(step) if isinstance(value, Mapping) else getattr(value, step)
    return value


def _put(value: Any, steps: tuple[str, ...], new: Quantity) -> Any:
    step, rest = steps[0], steps[1:]
    inner = new if not rest else _put(_get(value, (step,)), rest, new)
    if isinstance(value, Mapping):
        return {**value, step: inner}
    return replace(value, **{step: inner})


def fingerprint(device: Device) -> str:
    """SHA-256 over all values in a fixed order, without prose, so that a better note keeps caches valid."""
    digest = hashlib.sha256()
    for path, value in _leaves(device, ""):
        digest.update(f"{path}=".encode())
        digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return digest.hexdigest()[:16]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if is_dataclass(value):
        for item in fields(value):
            if item.name not in _PROSE:
                yield from _leaves(getattr(value, item.name), f"{path}.{item.name}")
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield from _leaves(value[key], f"{path}.{key}")
    else:
        yield path, value
