"""Default energy constants: the cited table `energy.toml`, scaled to a process node and an engine kind."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from devices.device import Engine
from devices.errors import DeviceError, near
from devices.quantity import parse_quantity

_FILE = Path(__file__).with_name("energy.toml")
_SRAM_NODE_NM = 7.0
_OP_NODE_NM = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Technology:
    """What decides a default energy: engine kind and process node."""

    engine: Engine
    process_nm: float


def op_energy(technology: Technology, group: str) -> dict[str, float]:
    """Joules per operation by dtype; `group` is `matrix` or `vector`."""
    table = _table()
    component, board = table["component"], table["board"][technology.engine]
    scale = (technology.process_nm / _OP_NODE_NM) ** component["scaling"]["op_exponent"]
    factor = scale * board[group]
    return {
        dtype: parse_quantity(text, "joule_per_op") * factor for dtype, text in component["op_45nm"].items()
    }


def op_exponent() -> float:
    """Energy of an operation goes with (node / node)^this."""
    exponent: float = _table()["component"]["scaling"]["op_exponent"]
    return exponent


def sram_exponent() -> float:
    """As `op_exponent`, for a byte of on-chip memory."""
    exponent: float = _table()["component"]["scaling"]["sram_exponent"]
    return exponent


def component_energy(dtype: str) -> tuple[float, float]:
    """Joules at 45 nm of a bare circuit: per FLOP of a multiply-add, and per addition alone."""
    component = _table()["component"]
    rows = component["op_45nm"], component["addition_45nm"]
    if dtype not in rows[0]:
        raise DeviceError(f"no energy for dtype '{dtype}'; energy.toml has {', '.join(rows[0])}")
    both = (parse_quantity(row[dtype], "joule_per_op") for row in rows)
    return next(both), next(both)


def addition_share(dtype: str) -> float:
    """Energy of an addition alone over that of one FLOP of a multiply-add, the same at every node."""
    flop, addition = component_energy(dtype)
    return addition / flop


def special_energy(technology: Technology) -> float:
    """Joules per transcendental result."""
    factor: float = _table()["board"][technology.engine]["special"]
    return op_energy(technology, "vector")["fp32"] * factor


def sram_energy(technology: Technology, level: str) -> float | None:
    """Joules per byte of an on-chip level; None where the energy per operation already holds it."""
    table = _table()
    if level in table["board"][technology.engine]["folded"]:
        return None
    component = table["component"]
    scale = (technology.process_nm / _SRAM_NODE_NM) ** component["scaling"]["sram_exponent"]
    return float(parse_quantity(component["sram_7nm"][level], "joule_per_byte") * scale)


def dram_energy(technology: Technology, memory_type: str) -> float:
    """Joules per byte of a memory type such as `HBM3`, at board level."""
    table = _table()
    parts: Mapping[str, str] = table["component"]["dram"]
    if memory_type not in parts:
        rule = "give memory.dram.energy or a type of energy.toml"
        raise DeviceError(f"no energy for memory type '{memory_type}'; {rule}{near(memory_type, parts)}")
    factor: float = table["board"][technology.engine]["dram"]
    return parse_quantity(parts[memory_type], "joule_per_byte") * factor


def static_power(technology: Technology, limit_w: float) -> float:
    """Watts drawn regardless of work, where no idle power is published."""
    share: float = _table()["board"][technology.engine]["static"]
    return share * limit_w


def table_source() -> str:
    """Where the default constants come from, in one line."""
    table = _table()
    return f"energy.toml: {table['component']['source']}; {table['board']['source']}"


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))
