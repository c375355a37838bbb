"""Area and peak power of array machines that need not exist: constants of `area.toml`, arrays as what-ifs."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from devices.balance import peak_power_w
from devices.device import Device, MemoryLevel, Quantity

_FILE = Path(__file__).with_name("area.toml")
_NODE_NM = 45.0
_SMALL_BYTE = 4096.0  # below it a memory is made like registers
_UM2_PER_MM2 = 1e6


def area_mm2(device: Device) -> Quantity | None:
    """Square millimetres of a device with a multiplier array; None for others, and without a known node.

    Cells of the array and lanes of the vector unit, on-chip memories, and for a chip what surrounds them.
    Memory that stands in `dram` is not on the die, or, where a machine has only SRAM, in another level too.
    """
    if device.compute.array is None or device.process_nm is None:
        return None
    scaling = _table()["scaling"]
    uncore = scaling["uncore"] if device.form == "chip" else 0.0
    return (_logic_mm2(device) + _memory_mm2(device)) / (1.0 - uncore)


def peak_w(device: Device) -> Quantity | None:
    """Watts at the most power-hungry matrix rate and full DRAM bandwidth, static power included; None where
    nothing multiplies.
    """
    rates = device.compute.matrix_flop_per_s or device.compute.vector_flop_per_s
    watts = [peak_power_w(device, dtype) for dtype in rates]
    return np.maximum.reduce(np.broadcast_arrays(*watts)) if watts else None


def _logic_mm2(device: Device) -> Quantity:
    """Matrix cells and vector lanes; one circuit serves all dtypes of a unit, the largest counts."""
    table, compute = _table(), device.compute
    shrink: Quantity = (np.asarray(device.process_nm) / _NODE_NM) ** table["scaling"]["exponent"]
    total: Quantity = 0.0
    for rates in (compute.matrix_flop_per_s, compute.vector_flop_per_s):
        areas = [
            rate / (2.0 * compute.clock_hz) * table["logic_45nm"][dtype] for dtype, rate in rates.items()
        ]
        if areas:
            total = total + np.maximum.reduce(np.broadcast_arrays(*areas))
    cell: float = table["scaling"]["cell"]
    return total * cell * shrink / _UM2_PER_MM2


def _memory_mm2(device: Device) -> Quantity:
    table, memory = _table(), device.memory
    efficiency: float = table["scaling"]["array_efficiency"]
    per_bit = bitcell_um2(device.process_nm) / efficiency / _UM2_PER_MM2
    byte: Quantity = 0.0
    for level in (memory.register, memory.l1, memory.l2, memory.l3):
        if level is not None:
            byte = byte + _byte(level, memory.units) * _looseness(level)
    return 8.0 * byte * per_bit


def _byte(level: MemoryLevel, units: Quantity) -> Quantity:
    """Bytes of a level in the whole device."""
    return level.capacity_byte * units if level.per_unit else level.capacity_byte


def _looseness(level: MemoryLevel) -> Quantity:
    """How much larger a bit is than in a large memory."""
    loose: float = _table()["scaling"]["register"]
    return np.asarray(np.where(np.asarray(level.capacity_byte) < _SMALL_BYTE, loose, 1.0))


def bitcell_um2(node_nm: Any) -> Quantity:
    """Square micrometres of a memory cell, between published nodes along a power law."""
    cells = {float(node): float(size) for node, size in _table()["bitcell"].items()}
    nodes = np.array(sorted(cells))
    sizes = np.array([cells[node] for node in nodes.tolist()])
    return np.asarray(
        np.exp(np.interp(np.log(np.asarray(node_nm, dtype=np.float64)), np.log(nodes), np.log(sizes)))
    )


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))
