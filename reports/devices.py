"""Devices and clusters in a terminal: lists with one line each, and a card that draws the machine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from devices import Cluster, Device, format_quantity
from devices.cluster import Tier
from devices.device import Host, Link, MemoryLevel, Quantity
from reports.numbers import UNKNOWN, byte_count, quantity, significant
from reports.table import plain_table

LEVELS = ("register", "l1", "l2", "l3", "dram", "host")
# The axis on which ridge points are drawn, in FLOP per byte, and its columns.
_RIDGE_LOW, _RIDGE_HIGH, _RIDGE_COLUMNS = 0.1, 1e4, 26


def devices_table(devices: Iterable[Device]) -> RenderableType:
    """One line per device: peaks, memory and power limit."""
    columns = ("device", "kind", ">fp32", ">16-bit", ">int8", ">memory", ">DRAM B/s", ">limit")
    table = plain_table(*columns, gap=1)
    for one in devices:
        dram = one.memory.dram
        table.add_row(
            one.id,
            _SHORT_KIND.get(one.kind, one.kind),
            *(_rate(own_peak(one, dtypes)) for dtypes in (("fp32",), ("bf16", "fp16"), ("int8",))),
            UNKNOWN if dram is None else byte_count(single(dram.capacity_byte)),
            UNKNOWN if dram is None else quantity(single(dram.bandwidth_byte_per_s), ""),
            quantity(single(one.power.limit_w), "W", small=True),
        )
    return Group(table, Text("fp32, 16-bit (bf16, else fp16) and int8: dense peak, operations per second"))


_SHORT_KIND = {"accelerator": "accel."}


def clusters_table(clusters: Iterable[Cluster]) -> RenderableType:
    """One line per cluster: how many of which device, and the links from the innermost tier outwards."""
    table = plain_table("cluster", "device", ">count", gap=1)
    table.add_column("links, per direction and device", overflow="fold")
    for one in clusters:
        links = [f"{tier.link} {quantity(tier.bandwidth_byte_per_s, 'B/s')}" for tier in one.tiers]
        table.add_row(one.id, one.device.id, str(one.count), Text(", ".join(dict.fromkeys(links))))
    return Group(Text(), table)


def machine_card(machine: Device | Cluster) -> RenderableType:
    """The card of a device or of a cluster."""
    return cluster_card(machine) if isinstance(machine, Cluster) else device_card(machine)


def device_card(device: Device) -> RenderableType:
    """Peaks with their ridge points, the memory hierarchy and links drawn, power, price, and every source."""
    facts = [f"{device.kind}", f"{device.vendor} {device.generation}"]
    facts += [str(device.year)] if device.year else []
    facts += [f"{device.process_nm:g} nm"] if device.process_nm else []
    facts += [f"{device.die_area_mm2:g} mm^2"] if device.die_area_mm2 else []
    parts: list[RenderableType] = [Text(f"{device.id}: {device.name} ({', '.join(facts)})")]
    parts += [Text(_compute_line(device)), Text(_power_line(device))]
    parts += [Text(_host_line(device.host))] if device.host else []
    parts += [Text(), _peaks(device), Text()]
    parts += [Text(line) for line in drawing(device)]
    parts += [Text(), _energies(device), Text()]
    parts += [Text(line) for line in _prose(device)]
    return Group(*parts)


def cluster_card(cluster: Cluster) -> RenderableType:
    """Tiers of links from one device outwards, what the host adds, and every source."""
    head = f"{cluster.id}: {cluster.name} ({cluster.count} x {cluster.device.id})"
    tiers = plain_table("tier", ">devices", "link", ">bandwidth", ">latency", "topology", gap=1)
    for tier in cluster.tiers:
        tiers.add_row(
            tier.name,
            str(tier.devices),
            tier.link,
            quantity(tier.bandwidth_byte_per_s, "B/s"),
            quantity(tier.latency_s, "s", small=True),
            shape_text(tier),
        )
    sums = f"together: {', '.join(_sums(cluster))}"
    parts: list[RenderableType] = [Text(head), Text(sums), Text(), tiers, Text()]
    parts += [Text(line) for line in _nested(cluster)]
    parts += [Text(), *(Text(line) for line in _cluster_prose(cluster))]
    return Group(*parts)


def single(value: Quantity | None) -> float | None:
    """A single machine's number; of an array of design points, None."""
    return None if value is None or np.ndim(value) else float(value)


def own_peak(device: Device, dtypes: Sequence[str]) -> Quantity | None:
    """The peak of the first of `dtypes` that the device has itself."""
    rates = {**device.compute.vector_flop_per_s, **device.compute.matrix_flop_per_s}
    return next((rates[dtype] for dtype in dtypes if dtype in rates), None)


def ridges(device: Device) -> dict[str, float | None]:
    """FLOP per byte of DRAM traffic from which on a dtype's peak is the limit, matrix peaks first."""
    dram = device.memory.dram
    bandwidth = None if dram is None else single(dram.bandwidth_byte_per_s)
    matrix, vector = device.compute.matrix_flop_per_s, device.compute.vector_flop_per_s
    found: dict[str, float | None] = {}
    for dtype in dict.fromkeys((*matrix, *vector)):
        peak = single(matrix.get(dtype, vector.get(dtype)))
        found[dtype] = None if peak is None or bandwidth is None else peak / bandwidth
    return found


def drawing(device: Device) -> Iterator[str]:
    """The way of an operand from the links to the units, one line per level and one per road between them."""
    levels = [(name, level) for name in LEVELS if (level := getattr(device.memory, name)) is not None]
    inside = [(name, level) for name, level in levels if name != "host"]
    roads = [single(level.bandwidth_byte_per_s) for _, level in levels]
    roads += [single(link.bandwidth_byte_per_s) for link in device.links.values()]
    slowest = min((road for road in roads if road), default=1.0)
    fastest = fastest_rate(device)
    yield f"  {count(device.compute.units)} units{f', {fastest}' if fastest else ''}"
    for name, level in inside:
        road = single(level.bandwidth_byte_per_s)
        # an unnamed road is as wide as the units need
        yield f"   │ {quantity(road, 'B/s'):>9}  {_bar(road, slowest)}".rstrip() if road else "   │"
        yield f"  {name:8} {capacity_text(name, level)}{_is(level)}"
    if device.memory.host is not None:
        road = single(device.memory.host.bandwidth_byte_per_s)
        yield f"   │ {quantity(road, 'B/s'):>9}  {_bar(road, slowest)}".rstrip()
        yield f"  {'host':8} {capacity_text('host', device.memory.host)}{_is(device.memory.host)}"
    for name, link in device.links.items():
        road = single(link.bandwidth_byte_per_s)
        yield f"   ╪ {quantity(road, 'B/s'):>9}  {_bar(road, slowest)} {name} ({reach(link)})"
    yield "  a block more: twice the bandwidth; links per direction"


def count(value: Quantity) -> str:
    """A number of things, or that there are many design points."""
    one = single(value)
    return "many" if one is None else f"{one:g}"


def _bar(road: float | None, slowest: float) -> str:
    return "" if not road else "█" * (1 + round(math.log2(road / slowest)))


def _is(level: MemoryLevel) -> str:
    energy = quantity(single(level.energy_j_per_byte), "J/B", small=True)
    told = [level.label] if level.label else []
    told += [energy] if energy != UNKNOWN else []
    return f", {', '.join(told)}" if told else ""


def fastest_rate(device: Device) -> str:
    """The dense peak that people quote: of 16-bit floats, else int8, else what there is."""
    rates = {**device.compute.vector_flop_per_s, **device.compute.matrix_flop_per_s}
    for dtype in ("bf16", "fp16", "int8", "fp32", *rates):
        if dtype in rates:
            return f"{_rate(rates[dtype])}{unit_of(dtype)}/s of {dtype}"
    return ""


def unit_of(dtype: str) -> str:
    """Operations on integers are OP, on floats FLOP."""
    return "OP" if dtype.startswith("int") else "FLOP"


def reach(link: Link) -> str:
    """Label, topology, how many devices, and the time of a hop."""
    others = f" of {count(link.max_devices)}" if link.max_devices is not None else ""
    latency = quantity(single(link.latency_s), "s", small=True)
    after = f", {latency} a hop" if latency != UNKNOWN else ""
    return f"{link.label + ', ' if link.label else ''}{link.topology}{others}{after}"


def _rate(value: Quantity | None) -> str:
    return quantity(single(value), "")


def _compute_line(device: Device) -> str:
    compute = device.compute
    clock = quantity(single(compute.clock_hz), "Hz")
    line = f"{device.engine} engine, {count(compute.units)} units at {clock}"
    if compute.special_op_per_s is not None:
        line += f", {quantity(single(compute.special_op_per_s), 'OP/s')} of exp and the like"
    if compute.array is None:
        return line
    array = compute.array
    sides = f"{count(array.rows)} x {count(array.columns)}"
    return f"{line}, {count(array.count)} array(s) of {sides}, {array.dataflow} dataflow"


def _power_line(device: Device) -> str:
    power, price, carbon = device.power, device.price, device.carbon
    line = f"power limit {quantity(single(power.limit_w), 'W', small=True)}"
    if power.sustained_w is not None:
        line += f", sustained {quantity(single(power.sustained_w), 'W', small=True)}"
    if power.idle_w is not None:
        line += f", idle {quantity(single(power.idle_w), 'W', small=True)}"
    if price.usd_per_hour is not None:
        line += f"; $ {significant(float(np.min(price.usd_per_hour)))} per hour ({price.date})"
    if carbon.gram_per_kwh is not None:
        line += f"; {significant(float(np.min(carbon.gram_per_kwh)))} g CO2 per kWh ({carbon.date})"
    return line


def _host_line(host: Host) -> str:
    """What runs here, and where all else does."""
    if host.shares_memory:
        taken = host.traffic_byte_per_s
        way = "in shared memory" + (f", {quantity(single(taken), 'B/s')} of it its own" if taken else "")
    else:
        way = f"over {quantity(single(host.bandwidth_byte_per_s), 'B/s')}"
    return f"runs {', '.join(host.accelerated)}; all else on {host.device} in {host.dtype}, {way}"


def _peaks(device: Device) -> Table:
    """Dense peaks, and where the ridge of each lies on one axis for all devices."""
    table = plain_table("dtype", ">matrix", ">vector", ">ridge", "0.1 to 10k FLOP per byte", gap=1)
    matrix, vector = device.compute.matrix_flop_per_s, device.compute.vector_flop_per_s
    for dtype, ridge in ridges(device).items():
        unit = unit_of(dtype)
        rates = (quantity(single(rates.get(dtype)), f"{unit}/s") for rates in (matrix, vector))
        table.add_row(dtype, *rates, quantity(ridge, f"{unit}/B"), _mark(ridge))
    return table


def _mark(ridge: float | None) -> str:
    if ridge is None:
        return ""
    along = math.log(ridge / _RIDGE_LOW) / math.log(_RIDGE_HIGH / _RIDGE_LOW)
    place = min(max(round(along * (_RIDGE_COLUMNS - 1)), 0), _RIDGE_COLUMNS - 1)
    return "─" * place + "▲" + "─" * (_RIDGE_COLUMNS - 1 - place)


def _energies(device: Device) -> Text:
    energy = device.energy
    pairs = {**energy.vector_j_per_flop, **energy.matrix_j_per_flop}
    own = dict.fromkeys((*device.compute.matrix_flop_per_s, *device.compute.vector_flop_per_s))
    told = [
        f"{dtype} {quantity(single(pairs[dtype]), f'J/{unit_of(dtype)}', small=True)}"
        for dtype in own
        if dtype in pairs
    ]
    static = quantity(single(energy.static_w), "W", small=True)
    return Text(f"energy: {', '.join(told)}; static {static}")


def capacity_text(name: str, level: MemoryLevel) -> str:
    """In powers of two on the chip, in powers of ten beside it; `each` where every unit has one."""
    value = single(level.capacity_byte)
    if value is None or name in ("dram", "host"):
        return byte_count(value)
    each = " each" if level.per_unit else ""
    return format_quantity(value, "byte", binary=True) + each


def _prose(device: Device) -> Iterator[str]:
    if device.aliases:
        yield f"also called: {', '.join(device.aliases)}"
    if device.notes:
        yield f"note: {device.notes}"
    for conflict in device.conflicts:
        yield f"sources differ: {conflict}"
    for group, source in device.sources.items():
        yield f"source of {group}: {source}"
    if device.date:
        yield f"looked up: {device.date}"


def shape_text(tier: Tier) -> str:
    """Topology, and the sides of a torus."""
    sides = " x ".join(map(str, tier.shape))
    return f"{tier.topology} {sides}".strip()


def _sums(cluster: Cluster) -> Iterator[str]:
    device, dram = cluster.device, cluster.device.memory.dram
    peak = single(own_peak(device, ("bf16", "fp16", "fp32")))
    if peak is not None:
        yield f"{quantity(cluster.count * peak, 'FLOP/s')} dense"
    if dram is not None:
        yield f"{byte_count(cluster.count * (single(dram.capacity_byte) or 0.0))} of memory"
    host = cluster.host
    hosts = 0.0 if host is None else cluster.count / host.devices * (host.power_w or 0.0)
    limit = cluster.count * (single(device.power.limit_w) or 0.0)
    yield f"{quantity(limit, 'W')} of devices" + (f", {quantity(hosts, 'W')} of hosts" if hosts else "")
    if host is not None and host.memory_byte:
        yield f"{byte_count(host.memory_byte)} in each host of {host.devices}"


def _nested(cluster: Cluster) -> Iterator[str]:
    """Groups within groups, the roads between them drawn as in the card of a device."""
    slowest = min(tier.bandwidth_byte_per_s for tier in cluster.tiers)
    yield f"  {cluster.device.id}"
    inner, before = "device", 1
    for tier in cluster.tiers:
        road = tier.bandwidth_byte_per_s
        yield f"   │ {quantity(road, 'B/s'):>9}  {_bar(road, slowest)} {tier.link} ({shape_text(tier)})"
        inside = "" if before == 1 else f", {tier.devices // before} x {inner}"
        yield f"  {tier.name}: {tier.devices} devices{inside}"
        inner, before = tier.name, tier.devices


def _cluster_prose(cluster: Cluster) -> Iterator[str]:
    if cluster.aliases:
        yield f"also called: {', '.join(cluster.aliases)}"
    if cluster.notes:
        yield f"note: {cluster.notes}"
    for conflict in cluster.conflicts:
        yield f"sources differ: {conflict}"
    yield f"source: {cluster.source}"
    for tier in cluster.tiers:
        yield f"source of tiers.{tier.name}: {tier.source}"
    if cluster.host is not None:
        yield f"source of host: {cluster.host.source}"
    yield f"looked up: {cluster.date}"
