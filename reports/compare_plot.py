"""The figure of a comparison: every curve with its name beside it, and a ring where one overtakes another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hwsim.axis import Axis
from hwsim.comparison import Comparison, Crossover, Curve
from hwsim.errors import HwsimError
from reports.compare import shown
from reports.compare_gain import gain_figure
from reports.compare_scale import GREY, INK, METRICS, scale
from reports.files import write
from reports.palette import CURVES

_FORMATS = (".png", ".svg")
_DASHES = ("-", (0, (6, 2)), (0, (3, 1.5)), (0, (8, 2, 2, 2)), (0, (4, 1, 1, 1, 1, 1)))
_DOTTED = 40  # most values of a curve that are drawn as dots
_LINE_PT = 9.5  # height of a line of labels
_RING: dict[str, Any] = {
    "markersize": 9,
    "markerfacecolor": "none",
    "markeredgecolor": "black",
    "markeredgewidth": 1.2,
}


def draw_comparison(comparison: Comparison, path: str | Path) -> None:
    """Write the figure to a .png or .svg file; the same comparison gives the same bytes."""
    target = Path(path)
    if target.suffix not in _FORMATS:
        raise HwsimError(f"cannot draw '{target}': the name must end in {' or '.join(_FORMATS)}")
    figure = comparison_figure(comparison)
    nothing = {"Date": None} if target.suffix == ".svg" else {}
    with rc_context({"svg.hashsalt": "hwsim"}):
        write(target, lambda beside: figure.savefig(beside, format=target.suffix[1:], metadata=nothing))


def comparison_figure(comparison: Comparison) -> Figure:
    """The figure, for a notebook or to draw further on."""
    axis = comparison.axis
    if axis is None:
        raise HwsimError("nothing to draw: a comparison is drawn over a size, as in --over seq=128:4096")
    if comparison.against is not None:
        return gain_figure(comparison, axis)
    figure = Figure(figsize=(7.4, 4.8), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    colours, dashes = _looks(comparison)
    for curve in comparison.curves:
        _draw(ax, curve, comparison, colours[curve.label], dashes[curve.label])
    scale(ax, axis, METRICS[comparison.metric.name], lambda value: shown(value, comparison.metric))
    figure.suptitle(comparison.title, fontsize=10, color=INK)
    figure.supxlabel(_notes(comparison), fontsize=7, color=GREY, x=0.01, ha="left")
    # places of labels are known in points once the axes have their size
    figure.draw_without_rendering()
    _name_curves(ax, comparison, colours)
    _mark(ax, comparison.crossovers, axis)
    return figure


def _looks(comparison: Comparison) -> tuple[dict[str, str], dict[str, Any]]:
    """Colours tell models apart and dashes devices; where there is one of either, colours do it all."""
    by_model = len(comparison.models) > 1
    names = comparison.models if by_model else comparison.devices
    colour = {name: CURVES[number % len(CURVES)] for number, name in enumerate(names)}
    dash = {name: _DASHES[number % len(_DASHES)] for number, name in enumerate(comparison.devices)}
    return (
        {c.label: colour[c.model if by_model else c.device] for c in comparison.curves},
        {c.label: dash[c.device] if by_model else "-" for c in comparison.curves},
    )


def _draw(ax: Axes, curve: Curve, comparison: Comparison, colour: str, dash: Any) -> None:
    """The curve with a dot at every value priced; pale and hollow where it does not fit in memory."""
    assert comparison.axis is not None
    x, y, fits = comparison.axis.values[curve.places], curve.values(comparison.metric), curve.fits
    whole = fits[:-1] & fits[1:]  # of the stretch from each value to the next
    for stretches, alpha in ((~whole, 0.3), (whole, 1.0)):
        for start, stop in _runs(stretches):
            part = slice(start, stop + 1)
            ax.plot(x[part], y[part], color=colour, linestyle=dash, linewidth=1.8, alpha=alpha, zorder=3)
    if len(x) <= _DOTTED:
        for chosen, inside in ((fits, colour), (~fits, "white")):
            look: dict[str, Any] = {
                "markersize": 3.4,
                "color": inside,
                "markeredgecolor": colour,
                "markeredgewidth": 0.9,
            }
            ax.plot(x[chosen], y[chosen], "o", zorder=4, **look)


def _runs(true: Any) -> Iterator[tuple[int, int]]:
    """Start and end of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], true, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _name_curves(ax: Axes, comparison: Comparison, colours: dict[str, str]) -> None:
    """Names to the right of where curves end, pushed apart where they would overlap."""
    assert comparison.axis is not None
    last = comparison.points - 1
    ends = []
    for curve in comparison.curves:
        x, y = comparison.axis.values[curve.places[-1]], curve.values(comparison.metric)[-1]
        if curve.places[-1] == last:
            ends.append((curve, x, y, _points(ax, x, y)))
        else:  # a line to the margin would run across other curves
            _text(ax, curve.label, (x, y), (0, 9), colours[curve.label], ha="center")
    right = ax.bbox.x1 * 72 / _dpi(ax)
    for (curve, x, y, at), height in zip(ends, _apart([at[1] for *_, at in ends], _LINE_PT), strict=True):
        colour = colours[curve.label]
        lead = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.5, "relpos": (0, 0.5)}
        _text(ax, curve.label, (x, y), (right - at[0] + 12, height - at[1]), colour, arrowprops=lead)


def _text(
    ax: Axes, text: str, at: tuple[float, float], offset: tuple[float, float], colour: str, **look: Any
) -> None:
    ax.annotate(
        text,
        at,
        xytext=offset,
        textcoords="offset points",
        fontsize=8,
        color=colour,
        va="center",
        annotation_clip=False,
        **look,
    )


def _mark(ax: Axes, crossovers: Sequence[Crossover], axis: Axis) -> None:
    """A ring at each crossing, and on the axis below it the value from which on the order is another."""
    low, high = ax.get_ylim()
    ax.set_ylim(low / (high / low) ** (0.04 + 0.03 * min(len(crossovers), 3)) if crossovers else low, high)
    lines: list[float] = []  # how far to the right each line of values reaches
    written: set[str] = set()
    for one in sorted(crossovers, key=lambda one: one.at):
        ax.plot([one.at], [one.winner_value], "o", zorder=6, **_RING)
        ax.plot(
            [one.at, one.at], [one.winner_value, ax.get_ylim()[0]], ":", color=GREY, linewidth=0.8, zorder=2
        )
        text = axis.written(one.at)
        if text in written:
            continue
        written.add(text)
        left = _points(ax, one.at, one.winner_value)[0]
        line = next((number for number, end in enumerate(lines) if left > end), len(lines))
        lines[line : line + 1] = [left + 5 * len(text) + 10]
        ax.annotate(
            text,
            (one.at, 0),
            xycoords=("data", "axes fraction"),
            xytext=(4, 7 + _LINE_PT * line),
            textcoords="offset points",
            fontsize=7.5,
            color=INK,
            va="center",
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
        )


def _apart(heights: Sequence[float], least: float) -> list[float]:
    """The heights moved as little as needed for each to be `least` from the next."""
    order = np.argsort(heights, kind="stable")
    places = [float(heights[i]) for i in order]
    for _ in range(200):
        for one in range(len(places) - 1):
            gap = least - (places[one + 1] - places[one])
            if gap > 0:
                places[one] -= gap / 2
                places[one + 1] += gap / 2
    found = [0.0] * len(places)
    for place, i in zip(places, order, strict=True):
        found[int(i)] = place
    return found


def _points(ax: Axes, x: float, y: float) -> tuple[float, float]:
    """A place of the axes in points of the figure."""
    across, up = ax.transData.transform((x, y)) * 72 / _dpi(ax)
    return float(across), float(up)


def _dpi(ax: Axes) -> float:
    return float(ax.get_figure(root=True).dpi)  # type: ignore[union-attr]  # axes drawn here have a figure


def _notes(comparison: Comparison) -> str:
    """What the marks mean, and how far to trust the curves."""
    notes = []
    if comparison.crossovers:
        notes.append("ring: one overtakes another")
    if not all(curve.fits.all() for curve in comparison.curves):
        notes.append("pale: does not fit in memory")
    if any(curve.excluded for curve in comparison.curves):
        notes.append("a curve ends at its model's limit")
    firsts = [curve.estimates[0] for curve in comparison.curves]
    if comparison.metric.name in ("latency", "tokens"):
        tiers = dict.fromkeys(str(one.provenance.get("tier")) for one in firsts)
        factor = np.exp(max(float(np.max(one.log_spread)) for one in firsts))
        notes.append(f"tier {', '.join(tiers)}: times within a factor of {factor:.2f} (80 % interval)")
    return "; ".join(notes)
