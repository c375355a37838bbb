"""The figure of a machine: its hierarchy with capacities and roads, the roof of each dtype and its ridge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon

from devices import Cluster, Device
from devices.device import MemoryLevel
from hwsim.errors import HwsimError
from reports.devices import LEVELS, capacity_text, count, fastest_rate, reach, ridges, shape_text, single
from reports.figure import INK, PALE, SOFT, log_axis, new_figure, plain_axes, save, title
from reports.numbers import quantity, scale_of

# Okabe and Ito's colours, thinned to paper: units, memory on the chip, memory beside it, links and hosts.
_UNITS, _ONCHIP, _DRAM, _BEYOND, _ROAD = "#BCDCEF", "#C4E8DC", "#F9E0B5", "#E6E6E6", "#8A8A8A"
_ROOFS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#222222")
_WIDEST, _NARROWEST = 0.96, 0.60
# Letters of the usual size that fit across the whole panel.
_LETTERS = 56


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One thing of the hierarchy and the road up from it; `size` decides its width, None is the widest.

    `apart` has no road, nor a line where one of unknown width would be.
    """

    name: str
    text: str
    colour: str
    size: float | None
    road: float | None = None
    road_text: str = ""
    apart: bool = False


Rows = list[list[Box]]


def draw_machine(machine: Device | Cluster, path: str | Path) -> None:
    """Write the figure of a device or a cluster to a .png, .svg or .pdf file."""
    save(machine_figure(machine), path)


def machine_figure(machine: Device | Cluster) -> Figure:
    """The figure, for a notebook or to draw further on."""
    figure = new_figure(8.6, 4.9)
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.12))
    if isinstance(machine, Cluster):
        heading = f"{machine.id}: {machine.name}, {machine.count} x {machine.device.id}"
        title(left, "devices and the links that join them")
        _draw_hierarchy(left, _cluster_rows(machine))
        _draw_reach(right, machine)
    else:
        year = f", {machine.year}" if machine.year else ""
        process = f", {machine.process_nm:g} nm" if machine.process_nm else ""
        heading = f"{machine.id}: {machine.name}{year}{process}, {_watts(machine)}"
        title(left, "where an operand comes from")
        _draw_hierarchy(left, _device_rows(machine))
        _draw_roofs(right, machine)
    figure.suptitle(heading, fontsize=10, color=INK)
    return figure


def _watts(device: Device) -> str:
    return quantity(single(device.power.limit_w), "W", small=True)


def _device_rows(device: Device) -> Rows:
    clock = quantity(single(device.compute.clock_hz), "Hz")
    units = f"{count(device.compute.units)} at {clock}, {fastest_rate(device)}"
    rows = [[Box(name="units", text=units, colour=_UNITS, size=None)]]
    for name in LEVELS:
        level: MemoryLevel | None = getattr(device.memory, name)
        if level is None:
            continue
        road = single(level.bandwidth_byte_per_s)
        whole = single(level.capacity_byte)
        many = single(device.memory.units) or 1.0
        energy = quantity(single(level.energy_j_per_byte), "J/B", small=True)
        box = Box(
            name=name,
            text=f"{capacity_text(name, level)}{', ' + level.label if level.label else ''}",
            colour={"dram": _DRAM, "host": _BEYOND}.get(name, _ONCHIP),
            size=None if whole is None else whole * (many if level.per_unit else 1.0),
            road=road,
            road_text=", ".join(t for t in (quantity(road, "B/s"), energy) if t != "-"),
        )
        rows.append([box])
    links = []
    for name, link in device.links.items():
        road = single(link.bandwidth_byte_per_s)
        rate = quantity(road, "B/s")
        links.append(Box(name=name, text=reach(link), colour=_BEYOND, size=None, road=road, road_text=rate))
    return [*rows, links] if links else rows


def _cluster_rows(cluster: Cluster) -> Rows:
    device, dram = cluster.device, cluster.device.memory.dram
    memory = None if dram is None else single(dram.capacity_byte)
    held = "" if memory is None else f", {quantity(memory, 'B')}"
    rows = [[Box(name=device.id, text=f"{fastest_rate(device)}{held}", colour=_UNITS, size=None)]]
    for tier in cluster.tiers:
        rate = quantity(tier.bandwidth_byte_per_s, "B/s")
        latency = quantity(tier.latency_s, "s", small=True)
        box = Box(
            name=tier.name,
            text=f"{tier.devices} devices, {tier.link}, {shape_text(tier)}",
            colour=_ONCHIP if tier is cluster.tiers[0] else _DRAM,
            size=float(tier.devices),
            road=tier.bandwidth_byte_per_s,
            road_text=f"{rate} each way" + (f", {latency} a hop" if latency != "-" else ""),
        )
        rows.append([box])
    host = cluster.host
    if host is not None:
        told = [quantity(host.memory_byte, "B")] if host.memory_byte else []
        told += [f"{quantity(host.power_w, 'W')} of its own"] if host.power_w else []
        text = f"one for {host.devices} device{'s' if host.devices > 1 else ''}"
        text = ", ".join([text, *told])
        rows.append([Box(name="host", text=text, colour=_BEYOND, size=None, apart=True)])
    return rows


def _draw_hierarchy(ax: Axes, rows: Rows) -> None:
    """Boxes from the units down; widths and roads grow with the logarithm of capacity and bandwidth."""
    ax.axis("off")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    boxes = [box for row in rows for box in row]
    roads = [box.road for box in boxes if box.road]
    sizes = [box.size for box in boxes if box.size]
    pitch = 1.0 / len(rows)
    tall = min(0.52 * pitch, 0.12)
    for place, row in enumerate(rows):
        middle = 1.0 - (place + 0.5) * pitch
        room = _WIDEST / len(row)
        for column, box in enumerate(row):
            centre = 0.5 + (column - (len(row) - 1) / 2) * (room + 0.02)
            wide = _between(box.size, sizes, _NARROWEST, _WIDEST) if box.size else room
            if place > 0 and not box.apart:
                _draw_road(ax, box, roads, centre, (middle + tall / 2, middle + pitch - tall / 2))
            _draw_box(ax, box, centre, middle, (min(wide, room), tall))


def _draw_box(ax: Axes, box: Box, centre: float, middle: float, size: tuple[float, float]) -> None:
    wide, tall = size
    corner = (centre - wide / 2, middle - tall / 2)
    style = "round,pad=0,rounding_size=0.015"
    ax.add_patch(
        FancyBboxPatch(
            corner, wide, tall, boxstyle=style, facecolor=box.colour, edgecolor=PALE, linewidth=0.6
        )
    )
    bold = box.name.replace("-", "{-}")
    letters = len(box.name) + len(box.text) + 2
    narrow = letters > _LETTERS * wide
    text = f"$\\bf{{{bold}}}${chr(10) if narrow else '  '}{box.text}"
    ax.text(centre, middle, text, ha="center", va="center", fontsize=6.4 if narrow else 7.5, color=INK)


def _draw_road(ax: Axes, box: Box, roads: Sequence[float], centre: float, ends: tuple[float, float]) -> None:
    below, above = ends
    if not box.road:
        ax.plot([centre, centre], ends, color=PALE, linewidth=0.8, linestyle=(0, (2, 2)))
        return
    half = _between(box.road, roads, 0.006, 0.10)
    left, right = centre - half, centre + half
    corners = [(left, below), (right, below), (right, above), (left, above)]
    ax.add_patch(Polygon(corners, closed=True, facecolor=_ROAD, edgecolor="none", alpha=0.55))
    ax.text(right + 0.02, (below + above) / 2, box.road_text, va="center", fontsize=7, color=SOFT)


def _between(value: float, values: Sequence[float], low: float, high: float) -> float:
    """`low` for the smallest of the values, `high` for the largest, by their logarithms."""
    span = math.log(max(values) / min(values))
    return high if span == 0 else low + (high - low) * math.log(value / min(values)) / span


def _draw_roofs(ax: Axes, device: Device) -> None:
    """Attainable rate over intensity, one roof per distinct peak, its ridge marked and named."""
    dram = device.memory.dram
    bandwidth = None if dram is None else single(dram.bandwidth_byte_per_s)
    known = {dtype: ridge for dtype, ridge in ridges(device).items() if ridge is not None}
    if bandwidth is None or not known:
        raise HwsimError(f"no roofline for '{device.id}': it needs one machine and a DRAM bandwidth")
    names: dict[float, list[str]] = {}
    for dtype, ridge in sorted(known.items(), key=lambda item: -item[1]):
        near = next((other for other in names if abs(math.log(other / ridge)) < 0.03), ridge)
        names.setdefault(near, []).append(dtype)
    left, right = min(names) / 20, max(names) * 60
    plain_axes(ax, x="FLOP per byte of DRAM traffic", y="operations per second")
    ax.set_xlim(left, right)
    ax.set_ylim(left * bandwidth, max(names) * bandwidth * 3)
    slope = [left, max(names)]
    ax.plot(slope, [x * bandwidth for x in slope], color=INK, linewidth=1.2)
    for colour, (ridge, dtypes) in zip(_ROOFS * 2, names.items(), strict=False):
        peak = ridge * bandwidth
        ax.plot([ridge, right], [peak, peak], color=colour, linewidth=1.4)
        ax.plot([ridge, ridge], [left * bandwidth, peak], color=colour, linewidth=0.7, linestyle=(0, (1, 2)))
        ax.plot([ridge], [peak], marker="o", markersize=4, color=colour)
        rate = quantity(peak, "FLOP/s" if not all(d.startswith("int") for d in dtypes) else "OP/s")
        ax.annotate(
            f"{', '.join(dtypes)}: {rate}, ridge {quantity(ridge, '')}", (right, peak), xytext=(-2, 2),
            textcoords="offset points", ha="right", va="bottom", fontsize=6.8, color=INK,
        )  # fmt: skip
    log_axis(ax, "x", lambda value: f"{value:g}")
    log_axis(ax, "y", _short)
    title(ax, f"roofs over DRAM at {quantity(bandwidth, 'B/s')}")


def _short(value: float) -> str:
    """`30 T`, without the digits that a mark of an axis does not need."""
    factor, prefix = scale_of(value)
    return f"{value / factor:g} {prefix}".rstrip()


def _draw_reach(ax: Axes, cluster: Cluster) -> None:
    """What links each device of a group has, over the size of the group."""
    rates = [tier.bandwidth_byte_per_s for tier in cluster.tiers]
    start = 2.0
    ax.set_xlim(start / 1.3, max(cluster.count * 1.6, 4))
    ax.set_ylim(min(rates) / 4, max(rates) * 4)
    plain_axes(ax, x="devices in a group", y="bytes per second, per direction and device")
    for colour, tier in zip(_ROOFS, cluster.tiers, strict=False):
        rate, end = tier.bandwidth_byte_per_s, float(tier.devices)
        ax.plot([start, end], [rate, rate], color=colour, linewidth=2.5, solid_capstyle="butt")
        ax.plot([end], [rate], marker="o", markersize=5, color=colour)
        ax.annotate(
            f"{tier.name}: {tier.link} {quantity(rate, 'B/s')}", (start, rate), xytext=(0, 5),
            textcoords="offset points", va="bottom", fontsize=7.5, color=INK,
        )  # fmt: skip
        start = end
    sizes = sorted({2.0, *(float(tier.devices) for tier in cluster.tiers)})
    log_axis(ax, "x", lambda value: f"{value:g}", sizes)
    log_axis(ax, "y", _short)
    title(ax, "links that a group of devices has")
