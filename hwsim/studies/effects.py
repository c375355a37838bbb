"""How far each axis on its own moves an objective, from one end to the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hwsim.studies.profiles import Group, can_be_held, held_values, profile, rows_where
from hwsim.studies.study import Axis, Study
from hwsim.sweeps.conditions import Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What going from one end of an axis to the other does: the objective there over that at the middle."""

    axis: str
    low: Any  # values of the axis; of words, those with the least and the largest objective
    high: Any
    at_low: float
    at_high: float
    elasticity: float | None  # d ln objective / d ln axis along the profile; None for words

    @property
    def size(self) -> float:
        return float(abs(np.log(self.at_high / self.at_low)))


def effects(study: Study, objective: Objective) -> tuple[Effect, ...]:
    """What each axis does on its own, the largest first."""
    reference = Group(
        label="", words={}, rows=rows_where(study, {axis.name: axis.middle for axis in study.words})
    )
    found = [_numeric_effect(study, axis, objective, reference) for axis in study.numbers]
    found += [_word_effect(study, axis, objective) for axis in study.words]
    return tuple(sorted((one for one in found if one is not None), key=lambda one: -one.size))


def _numeric_effect(study: Study, axis: Axis, objective: Objective, reference: Group) -> Effect | None:
    curves = profile(study, axis, objective, [reference]).curves
    if not curves or np.any(curves[0].y <= 0):
        return None
    (curve,) = curves
    middle = float(np.interp(float(axis.middle), curve.x, curve.y)) if axis.few else float(np.median(curve.y))
    elasticity = None
    if np.all(curve.x > 0):
        elasticity = float(np.polyfit(np.log(curve.x), np.log(curve.y), 1)[0])
    return Effect(
        axis=axis.name,
        low=float(curve.x[0]),
        high=float(curve.x[-1]),
        at_low=float(curve.y[0]) / middle,
        at_high=float(curve.y[-1]) / middle,
        elasticity=elasticity,
    )


def _word_effect(study: Study, axis: Axis, objective: Objective) -> Effect | None:
    """Of words there is no low and high: the ends are the words with the least and the largest objective."""
    others = {one.name: one.middle for one in study.words if one is not axis}
    if can_be_held(study, ()):
        others |= held_values(study, ())
    rows, values = rows_where(study, others), study.value(objective)
    typical = {
        word: float(np.median(values[at]))
        for word in axis.values
        if (at := rows & (study.columns[axis.name] == word) & np.isfinite(values)).any()
    }
    if len(typical) < 2 or axis.middle not in typical or min(typical.values()) <= 0:
        return None
    least, most = min(typical, key=lambda w: typical[w]), max(typical, key=lambda w: typical[w])
    middle = typical[axis.middle]
    return Effect(
        axis=axis.name,
        low=least,
        high=most,
        at_low=typical[least] / middle,
        at_high=typical[most] / middle,
        elasticity=None,
    )
