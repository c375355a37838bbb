"""Estimates as tables that fit a terminal of 80 columns and need no colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, JustifyMethod, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from hwsim.requests import Request
from hwsim.result import Estimate, GroupRow
from reports.numbers import UNKNOWN, byte_count, percent, quantity, scale_of, seconds, significant

_BOUND = {
    "compute": "arithmetic",
    "memory": "memory traffic",
    "overhead": "dispatch and launch",
    "communication": "links to other devices or the host",
    "power": "the power limit",
    "bubble": "waiting for other stages",
}
MEMORY = {
    "weights": "weights",
    "kv_cache": "KV cache",
    "activations": "activations",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "reserve": "runtime reserve",
}
_ENERGY = {
    "compute": "arithmetic",
    "onchip": "on chip",
    "dram": "DRAM",
    "link": "links",
    "static": "static",
    "host": "host",
}


def estimate_summary(estimate: Estimate) -> RenderableType:
    """One panel with everything but the operators; for a single point."""
    lines = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    lines.add_column(no_wrap=True)
    lines.add_column(overflow="fold")
    for label, text in _lines(estimate):
        # plain Text, so that a bracket in a name is not read as markup
        lines.add_row(Text(label), Text(text))
    return Panel(lines, title=Text(f" {estimate.model} on {estimate.device} "), title_align="left")


def estimates_table(estimates: Sequence[Estimate]) -> RenderableType:
    """One line per estimate, in the order given."""
    in_tokens = all(e.tokens_per_s is not None for e in estimates)
    rate = ">tokens/s" if in_tokens else ">samples/s"
    columns = ("device", ">latency", rate, ">energy", ">power", ">memory", "fits", "bound", ">MFU")
    table = plain_table(*columns, gap=1)
    for e in estimates:
        table.add_row(
            Text(e.device),
            seconds(number(e.latency_s)),
            plain_rate(e.tokens_per_s if in_tokens else e.samples_per_s),
            quantity(number(e.energy_j), "J", small=True),
            quantity(number(e.average_power_w), "W", small=True),
            byte_count(number(e.peak_memory_bytes)),
            fits_word(e),
            str(e.bound),
            percent(number(e.mfu)),
        )
    return Group(*(Text(title) for title in _titles(estimates)), table)


def _titles(estimates: Sequence[Estimate]) -> list[str]:
    """What was asked, and where it had to be changed (a dtype, say), on which devices."""
    asked: dict[str, list[str]] = {}
    for e in estimates:
        asked.setdefault(f"{e.model}: {workload(e)}", []).append(e.device)
    first, *others = asked.items()
    return [first[0], *(f"{title} (on {', '.join(ids)})" for title, ids in others)]


def group_table(rows: Sequence[GroupRow], title: str = "") -> RenderableType:
    """Operators summed, in the order given."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold", ratio=1)
    for name in (">runs", ">time", ">share", "bound", ">energy", ">FLOP", ">DRAM"):
        add_column(table, name)
    for row in rows:
        table.add_row(
            Text(row.label or "(model)"),
            str(row.count),
            seconds(row.latency_s),
            percent(row.share),
            row.bound,
            quantity(row.energy_j, "J", small=True),
            quantity(row.flops, ""),
            byte_count(row.dram_bytes),
        )
    return Group(Text(title), table) if title else table


def plain_table(*columns: str, gap: int = 2) -> Table:
    """A table with a ruled head, columns at least `gap` apart; see `add_column` for their names."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0))
    for name in columns:
        add_column(table, name)
    return table


def add_column(table: Table, name: str) -> None:
    """A column that is never broken; a name that begins with `>` is right-aligned."""
    justify: JustifyMethod = "right" if name.startswith(">") else "left"
    table.add_column(name.removeprefix(">"), justify=justify, no_wrap=True)


def workload(estimate: Estimate) -> str:
    """Phase, sizes, dtype and stack in words: `decode, batch 1, context 4096, bf16, compiled`."""
    in_order = sorted(estimate.sizes.items(), key=lambda item: item[0] != "batch")
    sizes = [f"{name} {_size(value)}" for name, value in in_order]
    ways = [f"{name} {ways}" for name, ways in estimate.parallel.items() if ways != 1]
    step = () if estimate.training is None else estimate.training.words
    return ", ".join([estimate.phase, *sizes, estimate.dtype, estimate.stack, *step, *ways])


def number(value: Any) -> float | None:
    """The float of a single point; None stays None."""
    return None if value is None else float(value)


def _lines(e: Estimate) -> list[tuple[str, str]]:
    lines = [
        ("workload", workload(e)),
        ("latency", _latency(e)),
        ("", parts_line(e.breakdown_s, _BOUND_SHORT, "s")),
        ("bound", _bound(e)),
        ("energy", quantity(number(e.energy_j), "J", small=True)),
        ("", parts_line(e.energy_by_j, _ENERGY, "J")),
        ("power", _power(e)),
        ("throughput", _throughput(e)),
        ("memory", memory_line(e)),
        ("", parts_line(e.memory_bytes, MEMORY, "B")),
        ("would fit", _would_fit(e)),
        ("work", _work(e)),
        ("utilisation", _utilisation(e)),
        ("cost", _cost(e)),
        ("tier", tier_line(e)),
    ]
    return [(label, text) for label, text in lines if text]


_BOUND_SHORT = {name: name for name in _BOUND}


def _latency(e: Estimate) -> str:
    value, low, high = (number(x) for x in (e.latency_s, e.latency_low_s, e.latency_high_s))
    return f"{seconds(value)} (interval {seconds(low)} to {seconds(high)})"


def parts_line(values: Mapping[str, Any], names: Mapping[str, str], unit: str) -> str:
    """The parts that are not zero, all with the prefix of the largest."""
    parts = {label: number(values.get(key)) for key, label in names.items()}
    shown = {label: value for label, value in parts.items() if value}
    if not shown:
        return ""
    factor, prefix = scale_of(max(shown.values()), small=unit != "B")
    listed = ", ".join(f"{label} {_decimals(value / factor)}" for label, value in shown.items())
    return f"{listed} {prefix}{unit}"


def _decimals(value: float) -> str:
    """Parts of a sum: no more decimals than the largest part has, and never rounded to zero."""
    return significant(value) if value >= 0.1 else f"{value:.1g}" if value >= 0.001 else "<0.001"


def _bound(e: Estimate) -> str:
    share = number(e.breakdown_s.get(str(e.bound)))
    total = number(e.latency_s)
    part = f", {percent(share / total)} of the time" if share is not None and total else ""
    return f"{e.bound}: {_BOUND.get(str(e.bound), '')}{part}"


def _power(e: Estimate) -> str:
    limit = None if e.machine is None else number(e.machine.power.cap_w)
    of = "" if limit is None else f" of {quantity(limit * e.devices, 'W', small=True)}"
    clock = number(e.clock_scale)
    throttled = f", clock held at {percent(clock)}" if clock is not None and clock < 0.9995 else ""
    host = number(e.energy_by_j.get("host", 0.0) / e.latency_s) or 0.0
    own = (number(e.average_power_w) or 0.0) - host
    beside = f"; {quantity(host, 'W', small=True)} of its host" if host else ""
    return f"{quantity(own, 'W', small=True)} on average{of}{throttled}{beside}"


def _throughput(e: Estimate) -> str:
    samples = f"{plain_rate(e.samples_per_s)} samples/s"
    return samples if e.tokens_per_s is None else f"{plain_rate(e.tokens_per_s)} tokens/s, {samples}"


def plain_rate(value: Any) -> str:
    """A rate without its unit, which stands beside it or in the head of a column."""
    return quantity(number(value), "")


def memory_line(e: Estimate | Request) -> str:
    """Peak and capacity, and whether it fits."""
    total = byte_count(number(e.peak_memory_bytes))
    capacity = number(e.memory_bytes.get("capacity"))
    missing = ""
    if fits_word(e) == "NO" and capacity is not None:
        missing = f", {byte_count((number(e.peak_memory_bytes) or 0.0) - capacity)} too much"
    verdict = {"yes": "fits", "NO": "DOES NOT FIT", UNKNOWN: "capacity unknown"}[fits_word(e)] + missing
    outside = number(e.memory_bytes.get("offloaded"))
    beside = f"; {byte_count(outside)} outside of the device" if outside else ""
    return f"{total} of {byte_count(capacity)}: {verdict}{beside}"


def _would_fit(e: Estimate) -> str:
    """The smallest changes of each kind, with what they come to."""
    return "; ".join(
        f"{one.change} ({byte_count(one.memory_bytes)}, {seconds(one.latency_s)})"
        for one in e.changes_that_fit
    ) or ("" if e.fits else "nothing that was tried")


def _work(e: Estimate) -> str:
    flops = f"{quantity(number(e.flops), 'FLOP')} = {quantity(number(e.macs), 'MAC')}"
    traffic = f"{byte_count(number(e.dram_bytes))} DRAM traffic"
    return (
        f"{flops}, {quantity(number(e.flops_executed), 'FLOP')} executed; {traffic}, "
        f"{quantity(number(e.arithmetic_intensity), 'FLOP/B')}; {quantity(e.params, '')} parameters"
    )


def _utilisation(e: Estimate) -> str:
    return ", ".join(
        f"{name} {percent(number(value))}" for name, value in (("MFU", e.mfu), ("HFU", e.hfu), ("MBU", e.mbu))
    )


def _cost(e: Estimate) -> str:
    parts = []
    if e.cost_usd is not None:
        parts.append(f"$ {significant(float(e.cost_usd))} per run")
    if e.carbon_g is not None:
        parts.append(f"{significant(float(e.carbon_g))} g CO2 per run")
    return ", ".join(parts)


def tier_line(e: Estimate | Request) -> str:
    """What the numbers rest on and how wide the interval is for it."""
    tier = str(e.provenance.get("tier", UNKNOWN))
    named = {"datasheet": "datasheet only, uncalibrated"}.get(tier, tier)
    value, low, high = (number(x) for x in (e.latency_s, e.latency_low_s, e.latency_high_s))
    if not value or low is None or high is None:
        return named
    return f"{named} (latency -{percent(1 - low / value)} / +{percent(high / value - 1)})"


def fits_word(e: Estimate | Request) -> str:
    """`yes`, `NO`, or a dash where the capacity is unknown."""
    if e.memory_bytes.get("capacity") is None:
        return UNKNOWN
    return "yes" if e.fits else "NO"


def _size(value: Any) -> str:
    size = float(value)
    return str(int(size)) if size.is_integer() else significant(size)
