"""Devices side by side: every number of each, and how many times that of the first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from devices import Device, format_quantity
from devices.balance import peak_power_w
from devices.device import DTYPES, Quantity
from reports.devices import LEVELS, own_peak, ridges, single, unit_of
from reports.numbers import UNKNOWN, quantity, significant
from reports.table import plain_table

_BESIDE = 3  # devices that fit a terminal of 80 columns
# Memories sold in powers of ten; those on the chip come in powers of two.
_BESIDE_THE_CHIP = ("memory.dram.capacity_byte", "memory.host.capacity_byte")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One quantity of every device, in the order given; None is what is not published."""

    label: str
    key: str
    unit: str
    values: tuple[float | None, ...]

    @property
    def ratios(self) -> tuple[float | None, ...]:
        """Each value over that of the first device."""
        first = self.values[0]
        return tuple(None if value is None or not first else value / first for value in self.values)


def comparison_table(devices: Sequence[Device]) -> RenderableType:
    """A row per quantity, a column per device, the first beside every pair of the others."""
    rows = list(comparison(devices))
    parts: list[RenderableType] = []
    for block in _blocks(len(devices)):
        table = plain_table("", *(f">{devices[column].id}" for column in block), gap=2)
        for row in rows:
            cells = [_cell(row, column) for column in block]
            if any(cell != UNKNOWN for cell in cells):
                table.add_row(row.label, *cells)
        parts += [table, Text()]
    return Group(*parts[:-1])


def comparison_record(devices: Sequence[Device]) -> dict[str, Any]:
    """Every row in SI units, with the ratios to the first device."""
    rows = [
        {"quantity": row.key, "unit": row.unit, "values": list(row.values), "ratios": list(row.ratios)}
        for row in comparison(devices)
    ]
    return {"schema": "hwsim.comparison-of-devices/1", "devices": [one.id for one in devices], "rows": rows}


def comparison(devices: Sequence[Device]) -> Iterator[Row]:
    """The quantities that any of the devices has."""

    def row(label: str, key: str, unit: str, values: Iterable[Quantity | None]) -> Row:
        return Row(label=label, key=key, unit=unit, values=tuple(map(single, values)))

    yield row("year", "year", "", (float(one.year) if one.year else None for one in devices))
    yield row("process", "process_nm", "nm", (one.process_nm for one in devices))
    yield row("die", "die_area_mm2", "mm^2", (one.die_area_mm2 for one in devices))
    yield row("units", "compute.units", "", (one.compute.units for one in devices))
    yield row("clock", "compute.clock_hz", "Hz", (one.compute.clock_hz for one in devices))
    for dtype in DTYPES:
        peaks = [own_peak(one, (dtype,)) for one in devices]
        if any(peak is not None for peak in peaks):
            yield row(dtype, f"peak.{dtype}", f"{unit_of(dtype)}/s", peaks)
    yield row("exp and the like", "compute.special", "OP/s", (o.compute.special_op_per_s for o in devices))
    for name in LEVELS:
        levels = [getattr(one.memory, name) for one in devices]
        if not any(levels):
            continue
        each = " each" if name in ("register", "l1") else ""
        yield row(
            f"{name}{each}", f"memory.{name}.capacity_byte", "B", (x and x.capacity_byte for x in levels)
        )
        rates = [x and x.bandwidth_byte_per_s for x in levels]
        if any(rate is not None for rate in rates):
            yield row(f"{name} rate", f"memory.{name}.bandwidth_byte_per_s", "B/s", rates)
    yield row("best link", "links.best", "B/s", map(_best_link, devices))
    yield row("ridge, 16-bit", "ridge.16_bit", "FLOP/B", map(_ridge, devices))
    yield row("power limit", "power.limit_w", "W", (one.power.limit_w for one in devices))
    yield row("at peak / limit", "power.at_peak_share", "", map(_share_at_peak, devices))
    yield row("16-bit per watt", "efficiency.16_bit", "FLOP/J", map(_per_watt, devices))
    yield row("$ per hour", "price.usd_per_hour", "$/h", (one.price.usd_per_hour for one in devices))


def _blocks(count: int) -> Iterator[list[int]]:
    others = list(range(1, count))
    step = _BESIDE - 1
    for start in range(0, max(len(others), 1), step):
        yield [0, *others[start : start + step]]


def _cell(row: Row, column: int) -> str:
    value, ratio = row.values[column], row.ratios[column]
    if value is None:
        return UNKNOWN
    if row.key == "year":
        return f"{value:.0f}"
    text = _shown(row, value)
    return text if column == 0 or ratio is None else f"{text} ({significant(ratio)}x)"


def _shown(row: Row, value: float) -> str:
    if row.key.endswith("capacity_byte") and row.key not in _BESIDE_THE_CHIP:
        return format_quantity(value, "byte", binary=True)
    if row.unit not in ("", "$/h", "nm", "mm^2"):
        return quantity(value, row.unit)
    whole = value >= 1 and value == round(value)
    return f"{f'{value:g}' if whole else significant(value)} {row.unit}".strip()


def _best_link(device: Device) -> float | None:
    rates = [single(link.bandwidth_byte_per_s) for link in device.links.values()]
    return max((rate for rate in rates if rate is not None), default=None)


def _sixteen_bit(device: Device) -> str | None:
    rates = {**device.compute.vector_flop_per_s, **device.compute.matrix_flop_per_s}
    return next((dtype for dtype in ("bf16", "fp16") if dtype in rates), None)


def _ridge(device: Device) -> float | None:
    dtype = _sixteen_bit(device)
    return None if dtype is None else ridges(device)[dtype]


def _share_at_peak(device: Device) -> float | None:
    dtype = _sixteen_bit(device)
    power, limit = (
        None if dtype is None else single(peak_power_w(device, dtype)),
        single(device.power.limit_w),
    )
    return None if power is None or limit is None else power / limit


def _per_watt(device: Device) -> float | None:
    peak, limit = single(own_peak(device, ("bf16", "fp16"))), single(device.power.limit_w)
    return None if peak is None or limit is None else peak / limit
