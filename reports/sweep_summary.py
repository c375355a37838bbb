"""The answer of a sweep for a terminal: what was priced, the points nothing beats, what matters most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from devices import format_quantity
from hwsim.sweeps.result import Row, SweepResult
from hwsim.sweeps.summary import Summary
from reports.numbers import UNKNOWN, byte_count, percent, quantity, seconds, significant
from reports.table import plain_table

LINES = 12


def sweep_summary(result: SweepResult, summary: Summary) -> RenderableType:
    """A line of counts, the front, the best of each case, elasticities."""
    parts: list[RenderableType] = [Text(_counts(result, summary))]
    goals = [one.name for one in result.objectives]
    if summary.front:
        what = "points that no other beats in" if len(goals) > 1 else "best in"
        parts.append(Text(f"\n{what} {', '.join(_short(goal) for goal in goals)}"))
        parts.append(_rows(summary.front, result, summary))
    if len(summary.best) > 1:
        parts.append(Text(f"\nbest {_short(goals[0])} of each"))
        parts.append(_rows(summary.best, result, summary))
    if summary.sensitivity:
        parts.append(Text("\n% of change per % of an axis (least squares over all points)"))
        parts.append(_elasticities(summary, goals))
    if result.folder is not None:
        parts.append(Text(f"\n{result.folder}: {len(result.columns)} columns in Parquet files"))
    return Group(*parts)


def _counts(result: SweepResult, summary: Summary) -> str:
    text = f"{summary.points:,} points".replace(",", " ")
    if result.where:
        conditions = " and ".join(one.text for one in result.where)
        text += f", {percent(summary.feasible / max(1, summary.points))} with {conditions}"
    return text


def _rows(rows: Sequence[Row], result: SweepResult, summary: Summary) -> RenderableType:
    """Lines with what varies, the columns that objectives are made of, and what limits."""
    goals = [column for one in result.objectives for column in one.formula.columns]
    names = list(dict.fromkeys([*summary.varying, *goals]))
    units = dict(zip(result.table.axes, result.table.dimensions, strict=True))
    text = [name for name in names if isinstance(rows[0][name], str)]
    table = plain_table(*(name if name in text else f">{_short(name)}" for name in names), "bound", gap=1)
    for row in _some(rows):
        cells = [
            shown(name, row[name])
            if units.get(name, "number") == "number"
            else format_quantity(row[name], units[name])
            for name in names
        ]
        table.add_row(*cells, str(row.get("bound", UNKNOWN)))
    return table if len(rows) <= LINES else Group(table, Text(f"{LINES} of {len(rows)}, evenly chosen"))


def _some(rows: Sequence[Row]) -> Iterator[Row]:
    """Both ends, and evenly between them."""
    if len(rows) <= LINES:
        yield from rows
        return
    for line in range(LINES):
        yield rows[round(line * (len(rows) - 1) / (LINES - 1))]


def _elasticities(summary: Summary, goals: Sequence[str]) -> RenderableType:
    axes = list(dict.fromkeys(one.axis for one in summary.sensitivity))
    goals = [goal for goal in goals if any(one.objective == goal for one in summary.sensitivity)]
    value = {(one.axis, one.objective): one for one in summary.sensitivity}
    table = plain_table("axis", *(f">{_short(goal)}" for goal in goals), gap=2)
    for axis in axes:
        cells = [value.get((axis, goal)) for goal in goals]
        table.add_row(axis, *(UNKNOWN if one is None else f"{one.elasticity:+.2f}" for one in cells))
    explained = [
        next((one.explained for one in summary.sensitivity if one.objective == g), None) for g in goals
    ]
    table.add_row("explained", *(percent(share) for share in explained))
    return table


def _short(name: str) -> str:
    """The last words of a path; columns without their unit."""
    for unit in ("_s", "_j", "_w", "_bytes", "_usd"):
        name = name.removesuffix(unit) if name != "tokens_per_s" and name != "samples_per_s" else name
    return ".".join(name.split(".")[-2:])


def shown(name: str, value: Any) -> str:
    """A cell with the unit that its column's name ends in."""
    if value is None or isinstance(value, str):
        return value or UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("per_s"):
        return quantity(value, "/s")
    if name.endswith("_s"):
        return seconds(value)
    if name.endswith("_bytes"):
        return byte_count(value)
    for ending, unit in (("_j", "J"), ("_w", "W")):
        if name.endswith(ending):
            return quantity(value, unit, small=True)
    return (
        quantity(value, "")
        if abs(value) >= 1e6
        else f"{value:g}"
        if value == round(value)
        else significant(value)
    )
