"""Ours over published for every claim with a number, one line per system, coloured by verdict."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

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
_TICKS = (0.1, 0.2, 0.5, 0.8, 1.0, 1.25, 2.0, 5.0, 10.0)
_WIDEST = 10.0  # a ratio beyond is drawn at the border


def draw_claims(found: Claims, path: Path) -> None:
    """Write the figure."""
    figure = claims_figure(found)
    write(path, lambda beside: figure.savefig(beside, format=path.suffix[1:]))


def claims_figure(found: Claims) -> Figure:
    """Systems downwards, the ratio to the right on a logarithmic axis."""
    rows = [row for row in found.rows if row.ratio is not None and row.ratio > 0]
    systems = sorted({row.claim.system for row in rows}, reverse=True)
    figure = Figure(figsize=(7.6, 1.4 + 0.23 * len(systems)), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    ax.axvspan(0.75, 1.25, color=PALE, linewidth=0, zorder=0)
    ax.axvline(1.0, color=GREY, linewidth=1, zorder=1)
    for row in rows:
        colour, marker = LOOKS[row.verdict]
        ax.plot(
            [_shown(row)],
            [systems.index(row.claim.system)],
            marker,
            color=colour,
            ms=5,
            alpha=0.75,
            mew=0,
            zorder=2,
        )
    ax.set_xscale("log")
    ax.set_xlim(1 / _WIDEST * 0.9, _WIDEST * 1.1)
    ax.xaxis.set_major_locator(FixedLocator(_TICKS))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_yticks(range(len(systems)), systems, fontsize=7.5)
    ax.set_ylim(-0.8, len(systems) - 0.2)
    ax.set_xlabel("ours over published (band: within 25 %)", fontsize=9, color=INK)
    ax.tick_params(labelsize=7.5, colors=INK)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    counts = found.counts["all"]
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=colour, label=f"{name} ({counts[name]})")
        for name, (colour, marker) in LOOKS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=7.5, frameon=False)
    return figure


def _shown(row: Checked) -> float:
    return min(max(row.ratio or 0.0, 1 / _WIDEST), _WIDEST)
