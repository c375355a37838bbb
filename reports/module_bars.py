"""Where the time goes: one bar per module (layers of a stack together), divided by what limits it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from hwsim.grouping import longest
from hwsim.result import Estimate, GroupRow
from reports.figure import INK, SOFT, linear_axis, plain_axes, stacked_bars, title
from reports.numbers import percent, seconds
from reports.palette import PARTS

_BARS = 9


def draw_modules(ax: Axes, estimate: Estimate) -> list[Any]:
    """The bars; handles for a legend. For a single point."""
    rows = longest(estimate.by("module"), _BARS)
    parts = {name: [getattr(row, f"{name}_s") for row in rows] for name in ("compute", "memory", "overhead")}
    handles = stacked_bars(ax, [short(row.label) for row in rows], PARTS, parts)
    _shares(ax, rows)
    plain_axes(ax, grid="x")
    linear_axis(ax, "x", seconds)
    ax.locator_params(axis="x", nbins=5)
    ax.tick_params(axis="y", length=0)
    title(ax, "Time by module")
    return handles


def short(label: str, length: int = 28) -> str:
    """As many last parts of a module path as fit, which tell more than the first."""
    parts = (label or "(model)").split(".")
    while len(parts) > 1 and len(".".join(parts)) > length:
        parts = parts[1:]
    return ".".join(parts)


def _shares(ax: Axes, rows: Sequence[GroupRow]) -> None:
    """The share behind each bar; at its end, or on it where it would leave the panel."""
    right = ax.get_xlim()[1]
    ax.set_xlim(0, 1.13 * right)
    for at, row in enumerate(rows):
        look: dict[str, Any] = {"fontsize": 7, "va": "center", "color": INK if row.share > 0.02 else SOFT}
        ax.annotate(
            percent(row.share), (row.latency_s, at), xytext=(3, 0), textcoords="offset points", **look
        )
