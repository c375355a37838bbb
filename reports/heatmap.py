"""An objective over two axes: a cell per pair of values, darker where there is more of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.patches import Patch, Rectangle

from hwsim.studies.effects import Effect
from hwsim.studies.planes import Plane, plane
from hwsim.studies.profiles import groups, held_words
from hwsim.studies.study import Study
from hwsim.sweeps.conditions import Objective
from reports.drawing import Drawing, leading_axes, sentence, where
from reports.figure import INK, PALE, PAPER, Canvas, legend, log_axis, plain_axes, title
from reports.units import called, setting, shown, writer

# grey on paper, and told apart with every kind of colour blindness
_COLOURS = "cividis_r"
_WRITTEN = 80  # cells of a plane that have their number written in
_LABELS = 10
_PANELS = 3
_RULED = 24  # columns with lines between them


def plane_drawing(study: Study, moved: Sequence[Effect]) -> Drawing | None:
    """The first objective over the two axes that move it most."""
    axes = leading_axes(study, moved, 2)
    if len(axes) < 2:
        return None
    first = study.objectives[0]
    # the axis with more values lies down
    y, x = sorted(axes, key=lambda axis: len(axis.values) if axis.few else 0)
    within = groups(study, study.words, most=_PANELS)
    found = [plane(study, x, y, first, group) for group in within]
    found = [
        one for one in found if np.count_nonzero(np.isfinite(one.values)) > 1 and np.nanmin(one.values) > 0
    ]
    if not found:
        return None
    return Drawing(
        name="plane",
        title="Two axes at once",
        caption=f"{sentence(called(first.name))} over {called(x.name)} and {called(y.name)}"
        + (
            ", medians of the points in each cell."
            if found[0].binned
            else f"{where({**held_words(study, within), **found[0].held})}."
        ),
        description=" ".join(_plane_words(one, first) for one in found),
        width=3.3 * len(found) + 1.2 if len(found) > 1 else 6.4,
        height=4.2,
        draw=lambda canvas: draw_planes(canvas, found, first, study.flaw),
    )


def _plane_words(one: Plane, objective: Objective) -> str:
    """Where the least and the most stand."""
    said = []
    for word, at in (("least", np.nanargmin(one.values)), ("most", np.nanargmax(one.values))):
        line, column = np.unravel_index(at, one.values.shape)
        place = f"{setting(one.x.name, one.x_values[column])}, {setting(one.y.name, one.y_values[line])}"
        said.append(f"{word} {shown(objective.name, one.values[line, column])} at {place}")
    return f"{one.label + ': ' if one.label else ''}{'; '.join(said)}."


def draw_planes(canvas: Canvas, planes: Sequence[Plane], objective: Objective, flaw: str) -> None:
    """A panel per group, all on one scale."""
    panels = canvas.subplots(1, len(planes), squeeze=False, sharey=True)[0]
    values = np.concatenate([one.values[np.isfinite(one.values)] for one in planes])
    norm = LogNorm(float(np.min(values)), max(float(np.max(values)), float(np.min(values)) * 1.001))
    for number, (ax, one) in enumerate(zip(panels, planes, strict=True)):
        mesh = _draw_panel(ax, one, objective, norm)
        if number:
            ax.set_ylabel("")
    bar = canvas.colorbar(mesh, ax=list(panels), pad=0.015, aspect=30)
    log_axis(bar.ax, "y", writer(objective.name))
    bar.ax.tick_params(labelsize=7.5, color=PALE, labelcolor=INK)
    bar.set_label(called(objective.name), fontsize=8, color=INK)
    bar.outline.set_visible(False)
    if not all(np.all(one.fits) for one in planes):
        unfit = Patch(facecolor="none", edgecolor=INK, hatch="xxx", linewidth=0, label=flaw)
        legend(canvas, [unfit], loc="outside lower center")


def _draw_panel(ax: Axes, one: Plane, objective: Objective, norm: LogNorm) -> Any:
    lines, columns = one.values.shape
    edges = (np.arange(columns + 1) - 0.5, np.arange(lines + 1) - 0.5)
    masked = np.ma.masked_invalid(one.values)
    mesh = ax.pcolormesh(
        *edges, masked, norm=norm, cmap=_COLOURS, edgecolors=PAPER, linewidth=0.4 if columns <= _RULED else 0
    )
    for line, column in zip(*np.nonzero(~one.fits & np.isfinite(one.values)), strict=True):
        box = Rectangle((column - 0.5, line - 0.5), 1, 1, fill=False, hatch="xxx", edgecolor=INK, linewidth=0)
        box.set_alpha(0.5)
        ax.add_patch(box)
    if one.values.size <= _WRITTEN:
        _write(ax, one, objective, norm)
    plain_axes(ax, x=called(one.x.name), y=called(one.y.name), grid="")
    _ticks(ax, one)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.tick_params(length=0)
    if one.label:
        title(ax, one.label)
    return mesh


def _write(ax: Axes, one: Plane, objective: Objective, norm: LogNorm) -> None:
    for (line, column), value in np.ndenumerate(one.values):
        if np.isfinite(value):
            dark = float(norm(value)) > 0.5
            text = shown(objective.name, value).replace(" ", "\n", 1)
            colour = "#FEFEFE" if dark else "#212121"  # on the cell, whatever the page's theme
            ax.text(column, line, text, ha="center", va="center", fontsize=6, color=colour, linespacing=0.95)


def _ticks(ax: Axes, one: Plane) -> None:
    """Names of the values, or of the edges of bins; every second where there are many."""
    for which, axis, values, count in (
        (ax.xaxis, one.x, one.x_values, one.values.shape[1]),
        (ax.yaxis, one.y, one.y_values, one.values.shape[0]),
    ):
        offset = -0.5 if values.size > count else 0.0
        step = -(-values.size // _LABELS)
        places = np.arange(0, values.size, step)
        turned: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
        turned = turned if which is ax.xaxis else {}
        which.set_ticks((places + offset).tolist(), [shown(axis.name, values[at]) for at in places], **turned)
