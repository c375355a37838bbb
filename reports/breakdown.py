"""What the time and the energy of some points are spent on, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hwsim.studies.profiles import can_be_held, groups, held_values, rows_where
from hwsim.studies.study import Study
from reports.drawing import Drawing, where
from reports.figure import INK, Canvas, legend, linear_axis, plain_axes, stacked_bars, title
from reports.palette import ENERGY_PARTS, PARTS
from reports.units import called, setting, shown, writer

_BARS = 12
_ENERGY = {name: f"energy_{name}_j" for name in ENERGY_PARTS}
_TIME = {name: f"{name}_s" for name in PARTS}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bars:
    """Rows that are comparable, a name for each, and what they have in common."""

    labels: tuple[str, ...]
    rows: NDArray[np.intp]
    held: dict[str, object]


def comparable(study: Study) -> Bars:
    """A row per group at the middle of every axis; along the first numeric axis where there are no groups.

    Where points are samples there is no such row: the best ones of each question are taken instead.
    """
    names = groups(study, study.words, most=_BARS)
    held = held_values(study, ())
    if can_be_held(study, ()):
        if len(names) < 2 and study.grid:
            axis = study.grid[0]
            held = held_values(study, (axis,))
            found = np.flatnonzero(rows_where(study, held) & (names[0].rows if names else True))
            found = found[np.argsort(study.columns[axis.name][found])][:_BARS]
            labels = tuple(setting(axis.name, study.columns[axis.name][at]) for at in found)
            return Bars(labels=labels, rows=found, held=held)
        at_middle = rows_where(study, held)
        pairs = [(group.label, np.flatnonzero(group.rows & at_middle)) for group in names]
        pairs = [(label, at) for label, at in pairs if at.size]
        if pairs:
            return Bars(labels=tuple(p[0] for p in pairs), rows=np.array([p[1][0] for p in pairs]), held=held)
    best = [
        (f"{answer.question + ', ' if answer.question else ''}best {called(objective.name)}", at)
        for answer in study.answers
        for objective, at in zip(study.objectives, answer.best, strict=True)
        if at is not None
    ][:_BARS]
    return Bars(labels=tuple(b[0] for b in best), rows=np.array([b[1] for b in best], dtype=np.intp), held={})


def _can_be_drawn(study: Study) -> bool:
    return study.has("latency_s", "compute_s", "memory_s") and comparable(study).rows.size > 0


def breakdown_drawing(study: Study) -> Drawing | None:
    """Parts of time and energy of comparable points."""
    if not _can_be_drawn(study):
        return None
    bars = comparable(study)
    said = [
        f"{label}: {shown('latency_s', study.columns['latency_s'][at])}"
        + (f", {shown('energy_j', study.columns['energy_j'][at])}" if study.has("energy_j") else "")
        + (f", mostly {study.columns['bound'][at]}." if "bound" in study.columns else ".")
        for label, at in zip(bars.labels, bars.rows, strict=True)
    ]
    return Drawing(
        name="breakdown",
        title="Where time and energy go",
        caption=f"Parts of the time, with its 80 % interval, and of the energy{where(bars.held)}.",
        description=" ".join(said),
        width=9.2,
        height=1.9 + 0.36 * len(bars.labels),
        draw=lambda canvas: draw_breakdown(canvas, study),
    )


def draw_breakdown(canvas: Canvas, study: Study) -> None:
    """Time on the left with its interval, energy on the right."""
    bars = comparable(study)
    with_energy = study.has("energy_j", "energy_static_j")
    panels = canvas.subplots(1, 2 if with_energy else 1, squeeze=False, sharey=True)[0]
    handles = stacked_bars(panels[0], bars.labels, PARTS, _parts(study, bars, _TIME))
    if study.has("latency_low_s", "latency_high_s"):
        _whiskers(panels[0], study, bars)
    plain_axes(panels[0], grid="x")
    linear_axis(panels[0], "x", writer("latency_s"))
    title(panels[0], "time")
    if with_energy:
        more = stacked_bars(panels[1], bars.labels, ENERGY_PARTS, _parts(study, bars, _ENERGY))
        known = {handle.get_label() for handle in handles}
        handles += [handle for handle in more if handle.get_label() not in known]
        plain_axes(panels[1], grid="x")
        linear_axis(panels[1], "x", writer("energy_j"))
        title(panels[1], "energy")
    for ax in panels:
        ax.tick_params(axis="y", length=0)
        ax.locator_params(axis="x", nbins=5)
    legend(canvas, handles, loc="outside lower center", ncols=min(5, len(handles)))


def _parts(study: Study, bars: Bars, names: dict[str, str]) -> dict[str, Sequence[float]]:
    return {
        part: np.nan_to_num(study.columns[column][bars.rows]).tolist()
        for part, column in names.items()
        if column in study.columns
    }


def _whiskers(ax: Axes, study: Study, bars: Bars) -> None:
    """The 80 % interval of each time."""
    low, high = (study.columns[name][bars.rows] for name in ("latency_low_s", "latency_high_s"))
    at = np.arange(bars.rows.size)
    ax.hlines(at, low, high, color=INK, lw=0.9, zorder=4)
    for ends in (low, high):
        ax.plot(ends, at, ls="none", marker="|", color=INK, ms=5, mew=0.9, zorder=4)
    ax.set_xlim(0, 1.04 * float(np.max(high)))
