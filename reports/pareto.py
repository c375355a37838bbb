"""Two objectives against each other: every design as a dot, those that no other beats joined by a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from hwsim.studies.profiles import Group, groups, rows_where
from hwsim.studies.study import Answer, Study
from hwsim.sweeps.conditions import Objective
from reports.drawing import Drawing, sentence, where
from reports.figure import GRID, INK, PALE, PAPER, Canvas, legend, linear_axis, log_axis, plain_axes, title
from reports.palette import SERIES, Series
from reports.units import called, setting, shown, writer

_DOTS = 1500  # drawn at most
NAMED = 3  # points of the front with their settings beside them
_WHISKERS = 15  # points of a front whose intervals are drawn
PANELS = 3
_VALUES = 6


def front_drawing(study: Study) -> Drawing | None:
    """The trade-off between the first two objectives."""
    answers = fronts(study)
    if not answers:
        return None
    first, second = study.objectives[:2]
    lines = [_front_words(study, answer) for answer in answers]
    names = f"{called(first.name)} and {called(second.name)}"
    return Drawing(
        name="front",
        title="Trade-off",
        caption=f"{sentence(names)} of every design{where(study.held)}. Black are those no other beats in "
        f"{'both' if len(study.objectives) == 2 else 'every objective'}"
        f"{', with 80 % intervals of their latency' if _with_intervals(study, answers) else ''}.",
        description=f"Scatter plot of {names}. {' '.join(lines)}",
        width=9.2 if len(answers) > 1 else 7.4,
        height=4.6,
        draw=lambda canvas: draw_fronts(canvas, study),
    )


def _front_words(study: Study, answer: Answer) -> str:
    ends = [
        f"{_at(study, at, study.objectives[:2])} ({settings_at(study, int(at))})"
        for at in answer.front[[0, -1]]
    ]
    question = f"{answer.question}: " if answer.question else ""
    return f"{question}{answer.front.size} designs that no other beats, from {ends[0]} to {ends[1]}."


def _at(study: Study, at: Any, objectives: Sequence[Objective]) -> str:
    return " and ".join(shown(one.name, study.value(one)[at]) for one in objectives)


def fronts(study: Study) -> list[Answer]:
    """The questions for which there is something to choose between."""
    if len(study.objectives) < 2:
        return []
    chosen = [one for one in study.answers if one.front.size and rows_asked(study, one).sum() > 2]
    return chosen[:PANELS]


def draw_fronts(canvas: Canvas, study: Study) -> None:
    """A panel per question."""
    answers = fronts(study)
    panels = canvas.subplots(1, len(answers), squeeze=False)[0]
    looks = list(zip(_told_apart(study), SERIES, strict=False))
    for ax, answer in zip(panels, answers, strict=True):
        _draw_panel(ax, study, answer, looks)
    handles = [
        Line2D([], [], ls="none", marker=look.marker, color=look.colour, ms=5, label=group.label)
        for group, look in looks
    ]
    handles.append(Line2D([], [], color=INK, lw=1.2, marker="o", ms=3, label="no other is better"))
    if not np.all(study.usable):
        handles.append(Line2D([], [], ls="none", marker="o", mfc="none", mec=PALE, ms=5, label=study.flaw))
    legend(canvas, handles, loc="outside lower center", ncols=min(4, len(handles)))


def _told_apart(study: Study) -> Sequence[Group]:
    """Designs by their words; where these do not differ, by the values of the shortest numeric axis."""
    if study.designs:
        return groups(study, study.designs, hold=False)
    short = [axis for axis in study.grid if axis.name not in study.held and len(axis.values) <= _VALUES]
    if not short:
        return ()
    axis = min(short, key=lambda axis: len(axis.values))
    return [
        Group(label=setting(axis.name, value), words={}, rows=study.columns[axis.name] == value)
        for value in axis.values
    ]


def _draw_panel(ax: Axes, study: Study, answer: Answer, looks: Sequence[tuple[Group, Series]]) -> None:
    first, second = study.objectives[:2]
    x, y = study.value(first), study.value(second)
    asked = rows_asked(study, answer) & np.isfinite(x) & np.isfinite(y)
    drawn = _thinned(asked & study.sample)
    left = drawn & study.usable
    dot: dict[str, Any] = {"s": 13, "linewidths": 0, "alpha": 0.55, "zorder": 2}
    for group, look in looks:
        rows = left & group.rows
        ax.scatter(x[rows], y[rows], c=look.colour, marker=look.marker, **dot)
        left &= ~group.rows
    ax.scatter(x[left], y[left], c=PALE, **dot)
    unfit = drawn & ~study.usable
    ax.scatter(
        x[unfit], y[unfit], s=11, facecolors="none", edgecolors=PALE, linewidths=0.6, alpha=0.6, zorder=1
    )
    _draw_front(ax, study, answer, x, y)
    plain_axes(ax, x=_axis_name(first), y=_axis_name(second))
    for which, objective, values in (("x", first, x[asked]), ("y", second, y[asked])):
        name = objective.name
        if values.size and np.min(values) > 0 and np.max(values) > 4 * np.min(values):
            log_axis(ax, which, writer(name))
        else:
            linear_axis(ax, which, writer(name))
    _make_room(ax)
    if answer.question:
        title(ax, answer.question)


def _make_room(ax: Axes) -> None:
    """Above all dots, for the list of what stands at the letters."""
    low, high = ax.get_ylim()
    if ax.get_yscale() == "log":
        ax.set_ylim(low, high * (high / low) ** 0.2)
    else:
        ax.set_ylim(low, high + 0.2 * (high - low))


def rows_asked(study: Study, answer: Answer) -> NDArray[np.bool_]:
    """Rows that answer the question: its words, and sizes at which it is asked."""
    words = answer.question.split(", ") if answer.question else []
    return rows_where(study, {**dict(zip(study.question_names, words, strict=True)), **study.held})


def _thinned(rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """At most so many dots as a figure has room for, spread evenly over the table."""
    at = np.flatnonzero(rows)
    kept = np.zeros_like(rows)
    kept[at[:: max(1, -(-at.size // _DOTS))]] = True
    return kept


def _draw_front(ax: Axes, study: Study, answer: Answer, x: NDArray[Any], y: NDArray[Any]) -> None:
    at = answer.front
    if len(study.objectives) == 2:
        first, second = study.objectives
        order = np.argsort(x[at])
        side = "post" if first.largest == second.largest and not first.largest else "pre"
        ax.plot(x[at][order], y[at][order], color=INK, lw=1.2, drawstyle=f"steps-{side}", zorder=3)
    ax.plot(x[at], y[at], color=INK, ls="none", marker="o", ms=3, zorder=4)
    if _with_intervals(study, [answer]):
        low, high = study.columns["latency_low_s"][at], study.columns["latency_high_s"][at]
        ax.hlines(y[at], low, high, color=INK, lw=0.6, alpha=0.5, zorder=2)
    _name_points(ax, study, at, x, y)


def _with_intervals(study: Study, answers: Sequence[Answer]) -> bool:
    few = min(answer.front.size for answer in answers) <= _WHISKERS
    return few and study.objectives[0].name == "latency_s" and study.has("latency_low_s", "latency_high_s")


def _name_points(ax: Axes, study: Study, front: NDArray[np.intp], x: NDArray[Any], y: NDArray[Any]) -> None:
    """Letters at the two ends of a front and at its middle, and what stands there in the emptier corner."""
    places = dict.fromkeys(int(front[round(part * (front.size - 1))]) for part in np.linspace(0, 1, NAMED))
    letters = dict(zip("ABC", places, strict=False))
    look: dict[str, Any] = {"fontsize": 8, "color": INK, "weight": "bold", "zorder": 6}
    for letter, at in letters.items():
        ax.annotate(letter, (x[at], y[at]), xytext=(-4, -10), textcoords="offset points", **look)
    rows = [
        Line2D([], [], ls="none", marker=f"${letter}$", color=INK, ms=5, label=settings_at(study, at))
        for letter, at in letters.items()
    ]
    made = ax.legend(
        handles=rows, loc="upper right", fontsize=6.5, labelcolor=INK, facecolor=PAPER, edgecolor=GRID,
        framealpha=0.85, handlelength=1, handletextpad=0.4, borderpad=0.5,
    )  # fmt: skip
    made.set_zorder(7)


def settings_at(study: Study, at: int) -> str:
    """What varies, at one row, without what is the question."""
    axes = [a for a in study.axes if a.name not in study.held and a.name not in study.question_names]
    words = [str(study.columns[axis.name][at]) for axis in axes if axis.words]
    numbers = [setting(axis.name, study.columns[axis.name][at]) for axis in axes if not axis.words]
    return ", ".join([*words, *numbers])


def _axis_name(objective: Objective) -> str:
    return f"{called(objective.name)} ({'more' if objective.largest else 'less'} is better)"
