"""What one unit of a GPU architecture does per clock: `architectures.toml`, read once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from devices.errors import DeviceError, near
from devices.quantity import parse_quantity

_FILE = Path(__file__).with_name("architectures.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """FLOP per unit and clock by dtype, the memories of a unit, memory transfers per clock of its driver."""

    name: str
    vendor: str
    generation: str
    process_nm: float
    lanes: int
    special: float | None
    register_byte: float
    l1_byte: float
    addressable_byte: float
    matrix: Mapping[str, float]
    vector: Mapping[str, float]
    transfers: float
    source: str


def architecture(name: str) -> Architecture:
    """The architecture of a name such as `sm_80` or `gfx942`."""
    table = _read(name)
    return Architecture(
        name=name,
        vendor=table["vendor"],
        generation=table["generation"],
        process_nm=parse_quantity(table["process"], "nm"),
        lanes=table["lanes"],
        special=table.get("special"),
        register_byte=parse_quantity(table["register"], "byte"),
        l1_byte=parse_quantity(table["l1"], "byte"),
        addressable_byte=parse_quantity(table["addressable"], "byte"),
        matrix=table.get("matrix", {}),
        vector=table["vector"],
        transfers=table["transfers"],
        source=table["source"],
    )


def architectures() -> tuple[str, ...]:
    """Every name there is."""
    return tuple(_file())


def _read(name: str) -> dict[str, Any]:
    tables = _file()
    if name not in tables:
        raise DeviceError(f"no architecture '{name}' in {_FILE.name}{near(name, tables)}")
    table = dict(tables[name])
    parent = table.pop("extends", None)
    return table if parent is None else {**_read(parent), **table}


@cache
def _file() -> Mapping[str, Any]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))
