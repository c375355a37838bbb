"""How far each axis moves an objective: from one end of the axis to the other, the widest bar on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from hwsim.studies.effects import Effect
from hwsim.studies.study import Study
from hwsim.sweeps.conditions import Objective
from reports.drawing import Drawing, sentence
from reports.figure import INK, PAPER, SOFT, Canvas, legend, log_axis, plain_axes, title
from reports.palette import SERIES
from reports.units import called, shown

_BARS = 9
_LOW, _HIGH = SERIES[1], SERIES[0]
_HATCH = "///"


def effects_drawing(study: Study, moved: Mapping[str, Sequence[Effect]]) -> Drawing | None:
    """What each axis does to each objective."""
    tables = [(one, moved[one.name]) for one in study.objectives[:2] if moved[one.name]]
    if not tables or len(study.axes) < 2:
        return None
    said = [_in_words(objective, effect) for objective, found in tables for effect in found]
    return Drawing(
        name="effects",
        title="What matters",
        caption="What each axis does on its own, from its low to its high end, the others at their middle. "
        "Under a name stands the elasticity: percent of the result per percent of the axis.",
        description=" ".join(said),
        width=9.6 if len(tables) > 1 else 6.6,
        height=1.7 + 0.42 * max(len(found) for _, found in tables),
        draw=lambda canvas: draw_effects(canvas, tables),
    )


def _in_words(objective: Objective, effect: Effect) -> str:
    low, high = shown(effect.axis, effect.low), shown(effect.axis, effect.high)
    return (
        f"{sentence(called(objective.name))} by {called(effect.axis)}: {effect.at_low:.3g} times at {low}, "
        f"{effect.at_high:.3g} times at {high}."
    )


def draw_effects(canvas: Canvas, tables: Sequence[tuple[Objective, Sequence[Effect]]]) -> None:
    """A panel per objective; in each the same axes in its own order."""
    panels = canvas.subplots(1, len(tables), squeeze=False)[0]
    for ax, (objective, effects) in zip(panels, tables, strict=True):
        _draw_panel(ax, objective, effects[:_BARS])
    handles = [
        Patch(facecolor=_LOW.colour, edgecolor=PAPER, hatch=_HATCH, label="axis at its low end"),
        Patch(facecolor=_HIGH.colour, edgecolor=PAPER, label="axis at its high end"),
    ]
    legend(canvas, handles, loc="outside lower center", ncols=2)


def _draw_panel(ax: Axes, objective: Objective, effects: Sequence[Effect]) -> None:
    ends = [ratio for effect in effects for ratio in (effect.at_low, effect.at_high)] or [1.0]
    reach = max(1.3, *ends, *(1 / end for end in ends))
    ax.set_xlim(reach**-1.6, reach**1.6)
    log_axis(ax, "x", lambda ratio: f"{ratio:.2g}x", _marks(reach))
    for at, effect in enumerate(effects):
        _draw_bar(ax, at, effect)
    ax.axvline(1, color=INK, lw=0.9)
    plain_axes(ax, x=f"{called(objective.name)}, relative to the middle of every axis", grid="x")
    ax.set_yticks(range(len(effects)), [_label(effect) for effect in effects])
    ax.set_ylim(len(effects) - 0.4, -0.6)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    title(ax, called(objective.name))


def _marks(reach: float) -> list[float]:
    """1, a step near the ends, and one half-way."""
    steps = [step for step in (1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1000.0) if step <= reach**1.3]
    half = min(steps, key=lambda step: abs(step - steps[-1] ** 0.5))
    inside = sorted({half, steps[-1]})
    return [*(1 / step for step in reversed(inside)), 1.0, *inside]


def _draw_bar(ax: Axes, at: int, effect: Effect) -> None:
    """Two bars from the middle to the ends, the values of the axis there written beyond them."""
    ends = [(effect.at_low, effect.low, _LOW.colour, _HATCH), (effect.at_high, effect.high, _HIGH.colour, "")]
    for ratio, _, colour, hatch in ends:
        ax.barh(at, ratio - 1, left=1, height=0.62, color=colour, hatch=hatch, edgecolor=PAPER, linewidth=0.4)
    (less, left, *_), (more, right, *_) = sorted(ends, key=lambda end: end[0])
    words: dict[str, Any] = {"fontsize": 6.5, "color": SOFT, "va": "center", "textcoords": "offset points"}
    name = effect.axis
    ax.annotate(shown(name, left), (min(less, 1.0), at), xytext=(-3, 0), ha="right", **words)
    ax.annotate(shown(name, right), (max(more, 1.0), at), xytext=(3, 0), ha="left", **words)


def _label(effect: Effect) -> str:
    """The axis, and by how many percent one percent of it moves the objective."""
    if effect.elasticity is None:
        return called(effect.axis)
    return f"{called(effect.axis)}\n{effect.elasticity:+.2f} % per %"
