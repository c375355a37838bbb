"""An objective along an axis: a curve per model, device or stack, its interval, and where curves cross."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from hwsim.studies.effects import Effect
from hwsim.studies.profiles import Crossing, Curve, Profile, crossings, groups, held_words, profile
from hwsim.studies.study import Study
from reports.drawing import Drawing, leading_axes, sentence, where
from reports.figure import INK, PAPER, Canvas, legend, linear_axis, log_axis, plain_axes, title
from reports.palette import SERIES, Series
from reports.units import called, setting, shown, writer

_FEW = 12  # points of a curve that are marked
_MARKS = 5
_PANELS = 3


def scaling_drawing(study: Study, moved: Sequence[Effect]) -> Drawing | None:
    """The first objective along the axes that move it most."""
    if not study.numbers:
        return None
    first, within = study.objectives[0], groups(study, study.words)
    found = [profile(study, axis, first, within) for axis in leading_axes(study, moved, _PANELS)]
    found = [one for one in found if one.curves]
    if not found:
        return None
    crossed = [crossings(one) for one in found]
    held = held_words(study, within) | {name: value for one in found for name, value in one.held.items()}
    return Drawing(
        name="scaling",
        title="Scaling",
        caption=f"{sentence(called(first.name))} along the axes that move it most{where(held)}. "
        + (
            "Lines are medians and bands the middle half of all points."
            if any(one.binned for one in found)
            else f"Bands are 80 % intervals; what is hollow {study.flaw}."
        )
        + "".join(f" {sentence}" for sentence in _crossing_words(found, crossed)[:4]),
        description=" ".join(_curve_words(one) for one in found),
        width=3.4 * len(found) + 0.8 if len(found) > 1 else 6.6,
        height=4.2,
        draw=lambda canvas: draw_profiles(canvas, found, crossed),
    )


def _crossing_words(found: Sequence[Profile], crossed: Sequence[Sequence[Crossing]]) -> list[str]:
    return [
        f"{one.below} is below {one.above} from {setting(profile.axis.name, one.at)} on (interpolated)."
        for profile, crossings in zip(found, crossed, strict=True)
        for one in crossings
    ]


def _curve_words(one: Profile) -> str:
    name, axis = one.objective.name, one.axis.name
    ends = [
        f"{curve.label or 'it'} goes from {shown(name, curve.y[0])} to {shown(name, curve.y[-1])}"
        for curve in one.curves
    ]
    first, last = one.curves[0].x[0], one.curves[0].x[-1]
    return f"From {setting(axis, first)} to {shown(axis, last)}: {'; '.join(ends)}."


def draw_profiles(
    canvas: Canvas, profiles: Sequence[Profile], crossings: Sequence[Sequence[Crossing]]
) -> None:
    """A panel per axis; all have the same curves."""
    panels = canvas.subplots(1, len(profiles), squeeze=False, sharey=True)[0]
    labels = list(dict.fromkeys(curve.label for one in profiles for curve in one.curves))
    looks = dict(zip(labels, SERIES * 2, strict=False))
    for number, (ax, one, crossed) in enumerate(zip(panels, profiles, crossings, strict=True)):
        _draw_panel(ax, one, crossed, looks)
        if number:
            ax.set_ylabel("")
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, ls=look.dashes, ms=5, lw=1.4, label=label)
        for label, look in looks.items()
        if label
    ]
    if any(crossings):
        handles.append(Line2D([], [], ls="none", marker="o", mfc="none", mec=INK, ms=9, label="crossing"))
    if handles:
        legend(canvas, handles, loc="outside lower center", ncols=min(4, len(handles)), handlelength=3)


def _draw_panel(ax: Axes, profile: Profile, crossed: Sequence[Crossing], looks: dict[str, Series]) -> None:
    for curve in profile.curves:
        _draw_curve(ax, curve, looks[curve.label])
    lowest = min(float(np.min(curve.y)) for curve in profile.curves)
    plain_axes(ax, x=called(profile.axis.name), y=called(profile.objective.name))
    if profile.axis.logarithmic:
        log_axis(ax, "x", writer(profile.axis.name), _marks(profile))
    else:
        linear_axis(ax, "x", writer(profile.axis.name))
        ax.locator_params(axis="x", nbins=6)
    if lowest > 0:
        log_axis(ax, "y", writer(profile.objective.name))
    else:
        linear_axis(ax, "y", writer(profile.objective.name))
    for one in crossed:
        below = next(curve for curve in profile.curves if curve.label == one.below)
        height = _height(below, one.at)
        ax.plot([one.at], [height], ls="none", marker="o", mfc="none", mec=INK, ms=9, mew=1.1, zorder=5)
    title(ax, f"over {called(profile.axis.name)}")


def _marks(profile: Profile) -> list[float] | None:
    """The values of a grid, as many as there is room for."""
    values = profile.axis.values.astype(float)
    return values[:: -(-len(values) // _MARKS)].tolist() if profile.axis.few and len(values) <= 12 else None


def _draw_curve(ax: Axes, curve: Curve, look: Series) -> None:
    if np.any(curve.low != curve.high):
        ax.fill_between(curve.x, curve.low, curve.high, color=look.colour, alpha=0.12, linewidth=0)
    ax.plot(curve.x, curve.y, color=look.colour, ls=look.dashes, lw=1.4, zorder=3)
    if curve.x.size > _FEW:
        return
    mark: dict[str, Any] = {"ls": "none", "marker": look.marker, "ms": 4.5, "zorder": 4}
    fits = curve.fits
    ax.plot(curve.x[fits], curve.y[fits], color=look.colour, mec=PAPER, mew=0.4, **mark)
    ax.plot(curve.x[~fits], curve.y[~fits], mfc=PAPER, mec=look.colour, mew=0.9, **mark)


def _height(curve: Curve, at: float) -> float:
    if np.all(curve.x > 0) and np.all(curve.y > 0):
        return float(np.exp(np.interp(np.log(at), np.log(curve.x), np.log(curve.y))))
    return float(np.interp(at, curve.x, curve.y))
