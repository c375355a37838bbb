"""What is known of models, devices and traces: lists with one line each, and a card for one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from devices import Device, format_quantity
from devices.device import MemoryLevel, Quantity
from graphs.catalog import VariantEntry
from graphs.ir import OperatorGraph, SizeSymbol
from reports.numbers import UNKNOWN, byte_count, quantity, significant
from reports.table import plain_table

_LEVELS = ("register", "l1", "l2", "l3", "dram", "host")


def models_table(entries: Iterable[VariantEntry]) -> RenderableType:
    """Name, family, dtype and phases of each model."""
    table = plain_table("model", "family", "dtype", "phases")
    for entry in entries:
        table.add_row(Text(entry.name), entry.family, str(entry.config["dtype"]), ", ".join(entry.phases))
    return table


def model_card(entry: VariantEntry) -> RenderableType:
    """What the model is, where it was published, its configuration and the sizes that are open."""
    config = plain_table("configuration", "")
    for key, value in entry.config.items():
        config.add_row(Text(key), Text(str(value)))
    head = f"{entry.name}: {entry.family}; phases {', '.join(entry.phases)}"
    sizes = [Text(f"{name}: {_size(symbol)}") for name, symbol in entry.symbols.items()]
    return Group(Text(head), Padding(Text(_flowing(entry.docstring)), (1, 0)), config, Text(), *sizes)


def _size(symbol: Mapping[str, Any]) -> str:
    most = "" if symbol["max"] is None else f" to {symbol['max']}"
    return f"{symbol['meaning']}; {symbol['min']}{most or ' or more'}, default {_default(symbol['default'])}"


def _flowing(docstring: str) -> str:
    """Paragraphs without the line breaks of their source."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in docstring.split("\n\n"))


def devices_table(devices: Iterable[Device]) -> RenderableType:
    """One line per device: peaks, memory and power limit."""
    columns = ("device", "kind", ">fp32", ">16-bit", ">int8", ">memory", ">DRAM B/s", ">limit")
    table = plain_table(*columns, gap=1)
    for one in devices:
        dram = one.memory.dram
        table.add_row(
            one.id,
            one.kind,
            *(_rate(_own_peak(one, dtypes)) for dtypes in (("fp32",), ("bf16", "fp16"), ("int8",))),
            UNKNOWN if dram is None else byte_count(_single(dram.capacity_byte)),
            UNKNOWN if dram is None else quantity(_single(dram.bandwidth_byte_per_s), ""),
            quantity(_single(one.power.limit_w), "W", small=True),
        )
    return Group(table, Text("fp32, 16-bit (bf16, else fp16) and int8: dense peak, operations per second"))


def device_card(device: Device) -> RenderableType:
    """Peaks with their ridge points, memory levels, links, power, price, and the source of each group."""
    process = "" if device.process_nm is None else f", {device.process_nm:g} nm"
    year = "" if device.year is None else f", {device.year}"
    head = f"{device.id}: {device.name} ({device.kind}, {device.vendor} {device.generation}{year}{process})"
    parts: list[RenderableType] = [Text(head), Text(_compute_line(device)), Text(_power_line(device))]
    parts += [Text(), _peaks(device), Text(), _levels(device), Text()]
    if device.links:
        parts += [_links(device), Text()]
    parts += [Text(line) for line in _prose(device)]
    return Group(*parts)


def trace_table(graph: OperatorGraph) -> RenderableType:
    """Sizes and how they were obtained, guards, operators by kind, and what no rule knows."""
    kinds = Counter(node.operator.kind for node in graph.nodes)
    head = (
        f"{graph.model}: {graph.phase}, {graph.dtype}, {len(graph.nodes)} operators "
        f"({len(graph.operators)} distinct), {quantity(graph.parameters, '')} parameters"
    )
    sizes = plain_table("size", "how", ">default", ">range")
    sizes.add_column("meaning", overflow="fold")
    for symbol in graph.symbols:
        sizes.add_row(symbol.name, symbol.how, symbol.default.text, _range(symbol), Text(symbol.meaning))
    counts = plain_table("kind", ">operators")
    for kind, count in kinds.most_common():
        counts.add_row(kind, str(count))
    guards = f"holds where {' and '.join(guard.text for guard in graph.guards)}" if graph.guards else ""
    unknown = [f"no rule for {name} in {module}: {n}" for (name, module), n in graph.unknown_ops().items()]
    notes = [Text(line) for line in (guards, *unknown) if line]
    return Group(Text(head), Text(), sizes, Text(), *notes, Text(), counts)


def _default(default: Any) -> str:
    if isinstance(default, dict):
        return ", ".join(f"{phase}: {value}" for phase, value in default.items() if value is not None)
    return str(default)


def _range(symbol: SizeSymbol) -> str:
    return f"{symbol.minimum.text} to {'any' if symbol.maximum is None else symbol.maximum.text}"


def _single(value: Quantity | None) -> float | None:
    """A single machine's number; of an array of design points, None."""
    return None if value is None or np.ndim(value) else float(value)


def _own_peak(device: Device, dtypes: Sequence[str]) -> Quantity | None:
    """The peak of the first of `dtypes` that the device has itself."""
    rates = {**device.compute.vector_flop_per_s, **device.compute.matrix_flop_per_s}
    return next((rates[dtype] for dtype in dtypes if dtype in rates), None)


def _rate(value: Quantity | None) -> str:
    return quantity(_single(value), "")


def _compute_line(device: Device) -> str:
    compute = device.compute
    clock = quantity(_single(compute.clock_hz), "Hz")
    line = f"{device.engine} engine, {_count(compute.units)} units at {clock}"
    if compute.array is None:
        return line
    array = compute.array
    sides = f"{_count(array.rows)} x {_count(array.columns)}"
    return f"{line}, {_count(array.count)} array(s) of {sides}, {array.dataflow} dataflow"


def _count(value: Quantity) -> str:
    one = _single(value)
    return "many" if one is None else f"{one:g}"


def _power_line(device: Device) -> str:
    power, price = device.power, device.price
    line = f"power limit {quantity(_single(power.limit_w), 'W', small=True)}"
    if power.idle_w is not None:
        line += f", idle {quantity(_single(power.idle_w), 'W', small=True)}"
    if price.usd_per_hour is not None:
        line += f"; $ {significant(float(np.min(price.usd_per_hour)))} per hour ({price.date})"
    return line


def _peaks(device: Device) -> Table:
    """Dense peaks, and the FLOP per byte of DRAM traffic from which on a peak is the limit."""
    table = plain_table("dtype", ">matrix", ">vector", ">ridge point")
    matrix, vector = device.compute.matrix_flop_per_s, device.compute.vector_flop_per_s
    dram = device.memory.dram
    bandwidth = None if dram is None else _single(dram.bandwidth_byte_per_s)
    for dtype in dict.fromkeys((*matrix, *vector)):
        peak = _single(matrix.get(dtype, vector.get(dtype)))
        ridge = None if peak is None or bandwidth is None else peak / bandwidth
        unit = "OP" if dtype.startswith("int") else "FLOP"
        rates = (quantity(_single(rates.get(dtype)), f"{unit}/s") for rates in (matrix, vector))
        table.add_row(dtype, *rates, quantity(ridge, f"{unit}/B"))
    return table


def _levels(device: Device) -> Table:
    table = plain_table("memory", ">capacity", ">bandwidth", ">energy")
    table.add_column("is", overflow="fold")
    for name in _LEVELS:
        level: MemoryLevel | None = getattr(device.memory, name)
        if level is None:
            continue
        each = " each" if level.per_unit else ""
        table.add_row(
            name,
            _capacity(name, level) + each,
            quantity(_single(level.bandwidth_byte_per_s), "B/s"),
            quantity(_single(level.energy_j_per_byte), "J/B", small=True),
            Text(level.label),
        )
    return table


def _capacity(name: str, level: MemoryLevel) -> str:
    """On-chip memories come in powers of two."""
    value = _single(level.capacity_byte)
    if value is None or name in ("dram", "host"):
        return byte_count(value)
    return format_quantity(value, "byte", binary=True)


def _links(device: Device) -> Table:
    table = plain_table("link", ">bandwidth", ">latency", "topology", ">devices")
    for name, link in device.links.items():
        table.add_row(
            name,
            quantity(_single(link.bandwidth_byte_per_s), "B/s"),
            quantity(_single(link.latency_s), "s", small=True),
            link.topology,
            UNKNOWN if link.max_devices is None else _count(link.max_devices),
        )
    return table


def _prose(device: Device) -> Iterator[str]:
    if device.aliases:
        yield f"also called: {', '.join(device.aliases)}"
    if device.notes:
        yield f"note: {device.notes}"
    for conflict in device.conflicts:
        yield f"sources differ: {conflict}"
    for group, source in device.sources.items():
        yield f"source of {group}: {source}"
