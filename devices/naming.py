"""What a data set means by a device's name: an alias, or what `names.toml` says of that data set."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from devices.catalog import device
from devices.device import Device
from devices.errors import DeviceError, near

_FILE = Path(__file__).with_name("names.toml")
_KEYS = {"name", "where", "device", "count", "set", "reason"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The device a name stands for, how many of it, and why; `reason` is empty where the name is an alias."""

    device: Device
    count: int = 1
    reason: str = ""


def named(name: str, data_set: str = "", row: Mapping[str, str] | None = None) -> Named:
    """The device of a name in a data set; `row` holds the columns that may decide which one is meant.

    A name that neither the table nor an alias explains is refused as an unknown device.
    """
    for entry in _entries(data_set, name):
        if all((row or {}).get(column) == value for column, value in entry.get("where", {}).items()):
            found = device(entry["device"]).replace(**entry.get("set", {}))
            return Named(device=found, count=entry.get("count", 1), reason=entry["reason"])
    try:
        return Named(device=device(name))
    except DeviceError as error:
        rest = str(error).removeprefix(f"no device '{name}'")
        raise DeviceError(f"unknown device '{name}'{rest}") from None


def data_sets() -> tuple[str, ...]:
    """The data sets that have names of their own."""
    return tuple(_file())


def entries() -> list[tuple[str, Mapping[str, Any]]]:
    """Every line of the table with its data set, in the order of the file."""
    return [(data_set, entry) for data_set, lines in _file().items() for entry in lines]


def _entries(data_set: str, name: str) -> list[Mapping[str, Any]]:
    tables = _file()
    if data_set and data_set not in tables:
        raise DeviceError(f"no data set '{data_set}' in {_FILE.name}{near(data_set, tables)}")
    return [entry for entry in tables.get(data_set, []) if entry["name"].lower() == name.lower()]


@cache
def _file() -> Mapping[str, list[Mapping[str, Any]]]:
    tables = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    for data_set, entries in tables.items():
        for entry in entries:
            unknown = sorted(set(entry) - _KEYS)
            if unknown:
                raise DeviceError(f"{_FILE.name}: {data_set}: unknown key '{unknown[0]}'")
    return tables
