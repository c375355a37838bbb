"""Ours over published for every claim with a number, one line per system, coloured by verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from hwsim.published.checking import Checked, Claims
from hwsim.published.verdicts import BY_CONSTRUCTION, DIFFERS, DIRECTION, NOT_CHECKABLE, REPRODUCED
from reports.files import write
from reports.palette import ATTENTION, MATRIX, MOVEMENT, OTHER, ROWS

INK, GREY, PALE = "#222222", "#666666", "#E4E4E4"
LOOKS = {
    REPRODUCED: (MATRIX.colour, "o"),
    DIRECTION: (MOVEMENT.colour, "^"),
    DIFFERS: (ATTENTION.colour, "X"),
    BY_CONSTRUCTION: (ROWS.colour, "D"),
    NOT_CHECKABLE: (OTHER.colour, "s"),
}
_TICKS = (0.1, 0.2, 0.5, 0.75, 1.0, 1.25, 2.0, 5.0, 10.0)
_WIDEST = 10.0  # a ratio beyond is drawn at the border, as an arrow
_NEAR, _STEP = (
    0.022,
    0.17,
)  # ratios so close (in powers of ten) are drawn beside each other, in parts of a line


def draw_claims(found: Claims, path: Path) -> None:
    """Write the figure."""
    figure = claims_figure(found)
    write(path, lambda beside: figure.savefig(beside, format=path.suffix[1:]))


def claims_figure(found: Claims) -> Figure:
    """Systems downwards, the ratio to the right on a logarithmic axis."""
    shown = [row for row in found.rows if row.ratio is not None and row.ratio > 0]
    systems = sorted({row.claim.system for row in shown}, reverse=True)
    figure = Figure(figsize=(8.0, 1.5 + 0.24 * len(systems)), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    ax.axvspan(0.75, 1.25, color=PALE, linewidth=0, zorder=0)
    ax.axvline(1.0, color=GREY, linewidth=0.8, zorder=1)
    for line, system in enumerate(systems):
        ax.axhline(line, color=PALE, linewidth=0.6, zorder=0)
        rows = sorted((row for row in shown if row.claim.system == system), key=_place)
        _draw(ax, line, rows)
        judged = [row for row in found.printed if row.claim.system == system]
        met = sum(row.verdict == REPRODUCED for row in judged)
        ax.text(1.01, line, f"{met} of {len(judged)}", transform=ax.get_yaxis_transform(), **_SMALL)
    ax.text(1.01, len(systems) - 0.3, "reproduced", transform=ax.get_yaxis_transform(), **_SMALL)
    _axes(ax, systems)
    counts = found.counts["all"]
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=colour, label=f"{name} ({counts[name]})")
        for name, (colour, marker) in LOOKS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=7.5, frameon=False)
    return figure


_SMALL: dict[str, Any] = {"fontsize": 6.5, "color": GREY, "va": "center", "ha": "left"}


def _draw(ax: Axes, line: int, rows: Sequence[Checked]) -> None:
    """One dot per claim, ratios from left to right; those that would cover each other move up and down."""
    last, beside = -math.inf, 0
    for row in rows:
        at = math.log10(_place(row))
        beside = beside + 1 if at - last < _NEAR else 0
        last = at if beside == 0 else last
        aside = _STEP * ((beside + 1) // 2) * (1 if beside % 2 else -1)
        colour, marker = LOOKS[row.verdict]
        far = row.ratio is not None and not 1 / _WIDEST <= row.ratio <= _WIDEST
        ax.plot(
            [_place(row)],
            [line + max(-0.4, min(0.4, aside))],
            (">" if at > 0 else "<") if far else marker,
            color=colour,
            ms=3.8,
            alpha=0.85,
            mew=0,
            zorder=2,
        )


def _axes(ax: Axes, systems: Sequence[str]) -> None:
    ax.set_xscale("log")
    ax.set_xlim(1 / _WIDEST * 0.9, _WIDEST * 1.1)
    ax.xaxis.set_major_locator(FixedLocator(_TICKS))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_yticks(range(len(systems)), systems)
    ax.set_ylim(-0.8, len(systems) - 0.1)
    ax.set_xlabel("ours over published (band: within 25 %; arrows: beyond a factor of ten)", fontsize=8)
    ax.tick_params(labelsize=7, colors=INK)
    ax.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)


def _place(row: Checked) -> float:
    return min(max(row.ratio or 0.0, 1 / _WIDEST), _WIDEST)
