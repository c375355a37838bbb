"""Figure of a measurement file: predicted over measured, and the spread of their ratio by operator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.measurements.judging import Pairs, pairs
from hwsim.measurements.predicting import Predictions
from reports.figure import INK, SOFT, new_figure, plain_axes, save, title
from reports.palette import SERIES

MANY = 1500  # pairs from which dots would hide each other and their density is drawn
BAND = 0.25  # of the measured value, on both sides
_OPS = 14  # operators with a line of their own
_NAME = 30


def draw_measured(made: Predictions, path: str | Path) -> None:
    """Write the figure to a .png, .svg or .pdf."""
    found = pairs(made)
    if not found.row.size:
        raise HwsimError(
            f"{made.table.path} has no row that is measured and predicted; there is nothing to draw"
        )
    save(measured_figure(made, found), path)


def measured_figure(made: Predictions, found: Pairs) -> Figure:
    """Parity to the left, ratios by operator to the right."""
    figure = new_figure(9.6, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.05))
    _parity(figure, left, made, found)
    _ratios(right, made, found)
    figure.suptitle(
        f"{made.layout.title} ({found.row.size} rows of {Path(made.table.path).name})", fontsize=9, color=INK
    )
    return figure


def _parity(figure: Figure, ax: Axes, made: Predictions, found: Pairs) -> None:
    both = np.concatenate([found.measured, found.value])
    low, high = float(both.min()) / 1.5, float(both.max()) * 1.5
    ends = np.array([low, high])
    ax.fill_between(ends, ends * (1 - BAND), ends * (1 + BAND), color="#E4E4E4", linewidth=0, zorder=0)
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    if found.row.size >= MANY:
        drawn = ax.hexbin(
            found.measured, found.value, gridsize=60, xscale="log", yscale="log", bins="log", mincnt=1,
            cmap="Blues", extent=(np.log10(low), np.log10(high), np.log10(low), np.log10(high)),
        )  # fmt: skip
        bar = figure.colorbar(drawn, ax=ax, shrink=0.7, pad=0.02)
        bar.set_label("rows", fontsize=8, color=INK)
        bar.ax.tick_params(labelsize=7)
    else:
        _dots(ax, made, found)
    ax.plot(ends, ends, color=SOFT, linewidth=1, zorder=3)
    ax.set_aspect("equal")
    target = next(iter(made.values))
    plain_axes(ax, x=f"measured {target}", y=f"predicted {target}")
    title(ax, f"line: equal; band: within {100 * BAND:.0f} %")


def _dots(ax: Axes, made: Predictions, found: Pairs) -> None:
    """A colour and marker per device, the most frequent first; what is left shares the last."""
    names = np.array([made.devices[row] for row in found.row], dtype=np.str_)
    order, counts = np.unique(names, return_counts=True)
    ranked = order[np.argsort(-counts, kind="stable")]
    own, rest = ranked[: len(SERIES) - 1], ranked[len(SERIES) - 1 :]
    shown = [(names == name, str(name)) for name in own]
    if rest.size:
        shown.append((np.isin(names, rest), f"{rest.size} other"))
    for look, (at, label) in zip(SERIES, shown, strict=False):
        measured, value = found.measured[at], found.value[at]
        ax.scatter(
            measured,
            value,
            s=12,
            c=look.colour,
            marker=look.marker,
            label=label,
            linewidths=0,
            alpha=0.8,
            zorder=4,
        )
    ax.legend(fontsize=6.5, frameon=False, loc="upper left")


def _ratios(ax: Axes, made: Predictions, found: Pairs) -> None:
    """Median and the middle 80 % of predicted / measured per operator, most rows on top."""
    names = np.array([made.ops[row] for row in found.row], dtype=np.str_)
    order, counts = np.unique(names, return_counts=True)
    ranked = order[np.argsort(-counts, kind="stable")][:_OPS]
    ratio = found.value / found.measured
    for place, name in enumerate(ranked):
        _spread(ax, -place, ratio[names == name])
    ax.axvspan(1 - BAND, 1 + BAND, color="#E4E4E4", linewidth=0, zorder=0)
    ax.axvline(1.0, color=SOFT, linewidth=1)
    ax.set_xscale("log")
    labels = [f"{str(name)[:_NAME]} ({int((names == name).sum())})" for name in ranked]
    plain_axes(ax, x="predicted / measured", grid="x")
    ax.set_yticks([-place for place in range(len(ranked))], labels, fontsize=7)
    ax.set_xticks(
        [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0], ["0.1", "0.2", "0.5", "1", "2", "5", "10"], fontsize=7
    )
    ax.minorticks_off()
    more = f"; {order.size - len(ranked)} more operators" if order.size > len(ranked) else ""
    title(ax, f"median and middle 80 % by operator{more}")


def _spread(ax: Axes, place: float, ratio: NDArray[np.float64]) -> None:
    low, middle, high = np.clip(np.quantile(ratio, (0.1, 0.5, 0.9)), 0.06, 16.0)
    ax.plot((low, high), (place, place), color=SERIES[0].colour, linewidth=3, alpha=0.45, zorder=2)
    ax.plot(middle, place, "o", color=SERIES[0].colour, markersize=5, zorder=3)
