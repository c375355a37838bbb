"""What an axis does to an objective: curves along it, and where they cross.

On a grid everything else is held at its middle; where points are samples, medians of bins stand for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.engines.demand import Array
from hwsim.studies.study import QUESTIONS, Axis, Study
from hwsim.sweeps.conditions import Objective

_FIRST = (*QUESTIONS, "device")  # text axes that tell curves apart before others do
_BINS = 12
_LEAST = 4  # points of a bin


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """An objective along an axis; `low` and `high` are the interval of a latency, or quartiles of a bin."""

    label: str
    x: Array
    y: Array
    low: Array
    high: Array
    fits: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """Between two values of the axis one curve falls below another; `at` is interpolated between them."""

    at: float
    before: float
    after: float
    below: str  # lower from there on
    above: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Profile:
    """Curves along one axis with everything else held, or binned where that cannot be held."""

    axis: Axis
    objective: Objective
    curves: tuple[Curve, ...]
    held: Mapping[str, Any]
    binned: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Rows with the same words, and what these are."""

    label: str
    words: Mapping[str, str]
    rows: NDArray[np.bool_]


def groups(study: Study, axes: Sequence[Axis], *, most: int = 6, hold: bool = True) -> tuple[Group, ...]:
    """Rows by the words of as many of the text `axes` as make at most `most` groups.

    An axis of more words gives those with the least typical first objective. Text axes left out are held at
    their first word, or with `hold=False` are not looked at.
    """
    taken: list[Axis] = []
    for axis in sorted(axes, key=lambda axis: (axis.name not in _FIRST, len(axis.values))):
        if math.prod(len(one.values) for one in (*taken, axis)) <= most:
            taken.append(axis)
    if not taken and axes:
        taken = [min(axes, key=lambda axis: len(axis.values))]
    taken = [axis for axis in axes if axis in taken]
    others = [axis for axis in study.words if axis not in taken] if hold else []
    found = []
    for values in product(*(_leading(study, axis, most) for axis in taken)):
        words = dict(zip((axis.name for axis in taken), values, strict=True))
        rows = rows_where(study, words | {axis.name: axis.middle for axis in others})
        if np.any(rows):
            found.append(Group(label=", ".join(values), words=words, rows=rows))
    return tuple(found)


def held_words(study: Study, within: Sequence[Group]) -> dict[str, str]:
    """The words at which text axes that tell no groups apart are held."""
    return {a.name: a.middle for a in study.words if within and a.name not in within[0].words}


def _leading(study: Study, axis: Axis, most: int) -> Sequence[str]:
    if len(axis.values) <= most:
        return list(axis.values)
    values = study.value(study.objectives[0])
    typical = {word: float(np.nanmedian(values[study.columns[axis.name] == word])) for word in axis.values}
    return sorted(typical, key=lambda word: typical[word])[:most]


def profile(study: Study, axis: Axis, objective: Objective, within: Sequence[Group]) -> Profile:
    """A curve per group along a numeric axis."""
    held = held_values(study, (axis,))
    slices = rows_where(study, held)
    values = study.value(objective)
    binned = not axis.few or not can_be_held(study, (axis,))
    curves = []
    if not binned:
        curves = [_sliced(study, axis, objective, values, one, slices) for one in within]
        binned = all(curve.x.size < 2 for curve in curves)  # the middle may have been filtered out
    if binned:
        held = {}
        curves = [_binned(study, axis, values, one) for one in within]
    return Profile(
        axis=axis,
        objective=objective,
        curves=tuple(curve for curve in curves if curve.x.size > 1),
        held=held,
        binned=binned,
    )


def held_values(study: Study, moving: Sequence[Axis]) -> dict[str, Any]:
    return {axis.name: axis.middle for axis in study.numbers if axis.few and axis not in moving}


def can_be_held(study: Study, moving: Sequence[Axis]) -> bool:
    """Whether every other numeric axis can be held at one of its values."""
    return study.gridded or not [axis for axis in study.numbers if axis not in moving]


def rows_where(study: Study, values: Mapping[str, Any]) -> NDArray[np.bool_]:
    rows = np.ones(len(study.number), dtype=bool)
    for name, value in values.items():
        rows &= study.columns[name] == value
    return rows


def _sliced(
    study: Study, axis: Axis, objective: Objective, values: Array, group: Group, slices: NDArray[np.bool_]
) -> Curve:
    at = np.flatnonzero(group.rows & slices & np.isfinite(values))
    x = study.columns[axis.name][at].astype(np.float64)
    order = np.argsort(x, kind="stable")
    at, x = at[order], x[order]
    first = np.ones(x.size, dtype=bool)
    first[1:] = x[1:] != x[:-1]
    at, x = at[first], x[first]
    low, high = values[at], values[at]
    if objective.name == "latency_s" and study.has("latency_low_s", "latency_high_s"):
        low, high = study.columns["latency_low_s"][at], study.columns["latency_high_s"][at]
    return Curve(label=group.label, x=x, y=values[at], low=low, high=high, fits=study.usable[at])


def _binned(study: Study, axis: Axis, values: Array, group: Group) -> Curve:
    rows = np.flatnonzero(group.rows & study.sample & np.isfinite(values))
    x, y = study.columns[axis.name][rows].astype(np.float64), values[rows]
    if axis.few and len(axis.values) <= _BINS:
        bins = [np.flatnonzero(x == value) for value in axis.values]
    else:
        edges = np.quantile(x, np.linspace(0, 1, _BINS + 1)) if x.size else np.zeros(_BINS + 1)
        codes = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, _BINS - 1)
        bins = [np.flatnonzero(codes == code) for code in range(_BINS)]
    bins = [one for one in bins if one.size >= _LEAST]
    quartiles = np.array([np.quantile(y[one], (0.25, 0.5, 0.75)) for one in bins]).reshape(-1, 3)
    return Curve(
        label=group.label,
        x=np.array([np.median(x[one]) for one in bins]),
        y=quartiles[:, 1],
        low=quartiles[:, 0],
        high=quartiles[:, 2],
        fits=np.array([np.mean(study.usable[rows[one]]) >= 0.5 for one in bins], dtype=bool),
    )


def crossings(found: Profile) -> tuple[Crossing, ...]:
    """Where curves change places, in order of the axis; medians of samples, which cross by chance, do not."""
    crossed: list[Crossing] = []
    if found.binned:
        return ()
    for one, other in combinations(found.curves, 2):
        shared, at_one, at_other = np.intersect1d(one.x, other.x, return_indices=True)
        if shared.size < 2 or np.any(one.y <= 0) or np.any(other.y <= 0):
            continue
        gap = np.log(one.y[at_one] / other.y[at_other])
        for left in np.flatnonzero(gap[:-1] * gap[1:] < 0):
            part = gap[left] / (gap[left] - gap[left + 1])
            ends = shared[left : left + 2]
            below, above = (one, other) if gap[left + 1] < 0 else (other, one)
            at = (
                float(np.exp(np.interp(part, (0, 1), np.log(ends))))
                if ends[0] > 0
                else float(ends @ (1 - part, part))
            )
            crossed.append(
                Crossing(
                    at=at, before=float(ends[0]), after=float(ends[1]), below=below.label, above=above.label
                )
            )
    return tuple(sorted(crossed, key=lambda one: one.at))
