"""What the points of a sweep reach of their machines: under few roofs, or as shares of many."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from hwsim.studies.profiles import groups
from hwsim.studies.study import Study
from reports.drawing import Drawing
from reports.figure import INK, PALE, SOFT, Canvas, legend, log_axis, plain_axes
from reports.numbers import percent, quantity, significant
from reports.palette import SERIES
from reports.units import shown

_NEEDED = ("flops", "dram_bytes", "latency_s", "mfu", "mbu")
_ROOFS = 4  # machines with a roof of their own in one panel
_DOTS = 1500
_APART = 1.7  # peaks with so little between them have no room for a name there


def _can_be_drawn(study: Study) -> bool:
    return study.has(*_NEEDED) and bool(np.any(_usable(study)))


def _usable(study: Study) -> NDArray[np.bool_]:
    columns = [np.asarray(study.columns[name]) for name in _NEEDED]
    usable = [np.isfinite(column) & (column > 0) for column in columns]
    return np.asarray(np.all(usable, axis=0) & study.sample, dtype=bool)


def roofline_drawing(study: Study) -> Drawing | None:
    """All points under the roofs of their machines."""
    if not _can_be_drawn(study):
        return None
    mfu = np.asarray(study.columns["mfu"])[study.sample]
    mbu = np.asarray(study.columns["mbu"])[study.sample]
    return Drawing(
        name="roofline",
        title="Roofline",
        caption="What every point reaches of the arithmetic and of the memory bandwidth of its machine.",
        description=f"Of peak arithmetic the points reach {_range('mfu', mfu)}; "
        f"of the DRAM bandwidth {_range('mbu', mbu)}.",
        width=7.4,
        height=4.4,
        draw=lambda canvas: draw_reached(canvas, study),
    )


def _range(name: str, values: Any) -> str:
    low, middle, high = np.nanquantile(values, (0, 0.5, 1))
    return f"{shown(name, low)} to {shown(name, high)}, half of them more than {shown(name, middle)}"


def draw_reached(canvas: Canvas, study: Study) -> None:
    """FLOP/s against intensity under each machine's roof, or as shares of the roofs where these are many."""
    ax = canvas.subplots()
    rows = np.flatnonzero(_usable(study))
    rows = rows[:: -(-rows.size // _DOTS)]
    mfu, mbu = study.columns["mfu"][rows], study.columns["mbu"][rows]
    flops, seconds = study.columns["flops"][rows], study.columns["latency_s"][rows]
    intensity, rate = flops / study.columns["dram_bytes"][rows], flops / seconds
    # pairs of peak and ridge point, rounded so that equal machines are one
    pairs = zip((rate / mfu).tolist(), (intensity * mbu / mfu).tolist(), strict=True)
    rounded = [[float(f"{value:.4g}") for value in pair] for pair in pairs]
    roofs = np.unique(rounded, axis=0)
    shared = len(roofs) > _ROOFS
    x, y = (mfu / mbu, mfu) if shared else (intensity, rate)
    handles = _dots(ax, study, rows, x, y)
    left, right = float(np.min(x)) / 2, float(np.max(x)) * 2
    if shared:
        left, right = min(left, 0.1), max(right, 10.0)
        ax.plot([left, 1, right], [left, 1, 1], color=INK, lw=1.2)
        plain_axes(ax, x="FLOP per byte over that of the ridge point", y="share of peak FLOP/s (MFU)")
        ax.set_xlim(left, right)
        ax.set_ylim(float(np.min(y)) / 2, 1.6)
        log_axis(ax, "x", lambda value: f"{value:g}x")
        log_axis(ax, "y", percent)
    else:
        right = max(right, float(np.max(roofs[:, 1])) * 3)
        _draw_roofs(ax, roofs, left, right)
        plain_axes(ax, x="FLOP per byte of DRAM traffic", y="FLOP/s")
        ax.set_xlim(left, right)
        ax.set_ylim(float(np.min(y)) / 2, float(np.max(roofs[:, 0])) * 2.2)
        log_axis(ax, "x", significant)
        log_axis(ax, "y", lambda value: quantity(value, ""))
    if len(handles) > 1:
        legend(canvas, handles, loc="outside lower center", ncols=min(4, len(handles)))


def _dots(ax: Axes, study: Study, rows: NDArray[np.intp], x: Any, y: Any) -> list[Line2D]:
    handles = []
    left = np.ones(rows.size, dtype=bool)
    for group, look in zip(groups(study, study.words, hold=False), SERIES, strict=False):
        mine = group.rows[rows] & left
        if mine.any():
            left &= ~mine
            ax.scatter(
                x[mine], y[mine], s=13, c=look.colour, marker=look.marker, alpha=0.55, linewidths=0, zorder=3
            )
            handles.append(
                Line2D([], [], ls="none", marker=look.marker, color=look.colour, ms=5, label=group.label)
            )
    ax.scatter(x[left], y[left], s=13, c=PALE, alpha=0.55, linewidths=0, zorder=2)
    return handles


def _draw_roofs(ax: Axes, roofs: NDArray[np.float64], left: float, right: float) -> None:
    """`roofs` are pairs of peak and ridge point; a name that would meet another stands below."""
    above = np.inf
    for peak, ridge in roofs[::-1]:
        bandwidth = peak / ridge
        ax.plot([left, ridge, right], [left * bandwidth, peak, peak], color=SOFT, lw=1.1, zorder=1)
        name = f"{quantity(peak, 'FLOP/s')}, {quantity(bandwidth, 'B/s')}"
        below = above / peak < _APART
        look: dict[str, Any] = {
            "fontsize": 6.5,
            "ha": "right",
            "color": SOFT,
            "va": "top" if below else "bottom",
        }
        ax.annotate(name, (right, peak), xytext=(-2, -2 if below else 1), textcoords="offset points", **look)
        above = peak
