"""A study in words: what was asked, what fits, limits, is best and matters, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hwsim.studies.effects import effects
from hwsim.studies.profiles import crossings, groups, profile
from hwsim.studies.study import Axis, Study
from hwsim.sweeps.conditions import Objective
from reports.drawing import sentence, where
from reports.numbers import percent, seconds
from reports.pareto import settings_at
from reports.units import called, setting, shown

_LIMITS = {
    "compute": "arithmetic",
    "memory": "memory traffic",
    "overhead": "dispatch and launches",
    "communication": "links",
    "power": "the power limit",
}
_QUESTIONS = 6
_NOTICED = 1.02  # effects below two percent are not worth a word


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One number that the page begins with."""

    label: str
    value: str
    note: str


def title_of(study: Study) -> str:
    """What was swept, by its models; the name of the sweep where there are many."""
    axis = next((axis for axis in study.axes if axis.name == "model"), None)
    models = (
        [str(study.fixed["model"])] if "model" in study.fixed else [] if axis is None else list(axis.values)
    )
    return ", ".join(models) if 0 < len(models) <= 3 else study.name


def keys(study: Study) -> list[Key]:
    """Points, what fits, the best per objective, the usual limit."""
    found = [
        Key(label="points", value=counted(study.rows), note=" × ".join(_size(axis) for axis in study.axes))
    ]
    if study.has("fits"):
        found.append(
            Key(
                label="fit in memory",
                value=percent(study.fitting / study.rows),
                note=f"{counted(study.fitting)} points",
            )
        )
    if study.answers:
        first = study.answers[0]
        question = f"{first.question}{where(study.held)}".removeprefix(", ")
        for objective, at in zip(study.objectives[:2], first.best, strict=False):
            if at is None:
                continue
            label = f"{'most' if objective.largest else 'least'} {called(objective.name)}"
            note = settings_at(study, at)
            value = shown(objective.name, study.value(objective)[at])
            found.append(Key(label=label, value=value, note=f"{note} ({question})" if question else note))
    if study.bounds:
        bound, count = next(iter(study.bounds.items()))
        found.append(
            Key(
                label="usual limit",
                value=_LIMITS.get(bound, bound),
                note=f"{percent(count / study.rows)} of the points",
            )
        )
    return found


def sentences(study: Study) -> list[str]:
    """The summary, a thought per sentence."""
    return [one for part in _PARTS for one in part(study)]


def counted(number: int) -> str:
    """Whole, with thin gaps between thousands."""
    return f"{number:,}".replace(",", " ")


def _size(axis: Axis) -> str:
    return f"{called(axis.name)} {len(axis.values) if axis.few else 'sampled'}"


def _asked(study: Study) -> Iterator[str]:
    fixed = [str(v) for v in study.fixed.values() if isinstance(v, str)]
    fixed += [setting(name, v) for name, v in study.fixed.items() if not isinstance(v, str)]
    ranges = [_range(axis) for axis in study.axes]
    yield (
        f"{counted(study.rows)} points{' over ' + '; '.join(ranges) if ranges else ''}"
        f"{', all with ' + ', '.join(fixed) if fixed else ''}."
    )


def _range(axis: Axis) -> str:
    if axis.words:
        names = ", ".join(map(str, axis.values[:6]))
        return f"{called(axis.name)} ({names}{' ...' if len(axis.values) > 6 else ''})"
    also = "".join(f" and {called(name)}" for name in axis.followers)
    low, high = shown(axis.name, axis.values[0]), shown(axis.name, axis.values[-1])
    return f"{called(axis.name)}{also} from {low} to {high}"


def _fitting(study: Study) -> Iterator[str]:
    if study.has("fits"):
        if study.fitting == study.rows:
            yield "All of them fit in memory."
        else:
            yield f"{counted(study.fitting)} of them ({percent(study.fitting / study.rows)}) fit in memory."
    if study.conditions:
        share = percent(study.allowed / study.rows)
        asked = " and ".join(study.conditions)
        yield f"{counted(study.allowed)} of them ({share}) meet the conditions: {asked}."
    if study.bounds:
        shares = [
            f"{percent(n / study.rows)} by {_LIMITS.get(name, name)}" for name, n in study.bounds.items()
        ]
        yield f"Limited are {', '.join(shares)}."


def _best(study: Study) -> Iterator[str]:
    axes = {axis.name for axis in study.axes}
    for answer in study.answers[:_QUESTIONS]:
        said = [
            _winner(study, one, at)
            for one, at in zip(study.objectives, answer.best, strict=True)
            if at is not None and one.name not in axes
        ]
        question = answer.question + where(study.held) if answer.question else sentence(where(study.held)[2:])
        text = "; ".join(said)
        yield f"{question + ': ' + text if question else sentence(text)}."
        if answer.front.size > 1:
            yield f"{answer.front.size} designs are on the front, where no other is better in everything."
    if len(study.answers) > _QUESTIONS:
        yield f"{len(study.answers) - _QUESTIONS} further questions are in the table."


def _winner(study: Study, objective: Objective, at: int) -> str:
    value = shown(objective.name, study.value(objective)[at])
    if objective.name == "latency_s" and study.has("latency_low_s", "latency_high_s"):
        low, high = study.columns["latency_low_s"][at], study.columns["latency_high_s"][at]
        value += f" (interval {seconds(low)} to {seconds(high)})"
    word = "most" if objective.largest else "least"
    return f"{word} {called(objective.name)} {value} with {settings_at(study, at) or 'the only design'}"


def _unknown(study: Study) -> Iterator[str]:
    for objective in study.objectives:
        missing = int(np.count_nonzero(~np.isfinite(study.value(objective)[study.sample])))
        if missing:
            share = percent(missing / int(study.sample.sum()))
            yield f"The {called(objective.name)} of {share} of the points is not known; no front holds them."


def _matters(study: Study) -> Iterator[str]:
    for objective in study.objectives[:2]:
        said = [
            f"{called(one.axis)} ({max(one.at_low, one.at_high) / min(one.at_low, one.at_high):.3g} times "
            f"between {shown(one.axis, one.low)} and {shown(one.axis, one.high)})"
            for one in effects(study, objective)
            if np.exp(one.size) > _NOTICED
        ]
        if said:
            yield f"{sentence(called(objective.name))} depends most on {', then '.join(said[:3])}."


def _crossed(study: Study) -> Iterator[str]:
    within = groups(study, study.words)
    for axis in study.numbers[:4]:
        for one in crossings(profile(study, axis, study.objectives[0], within))[:3]:
            between = f"{shown(axis.name, one.before)} and {shown(axis.name, one.after)}"
            yield (
                f"From {setting(axis.name, one.at)} on (interpolated between {between}) {one.below} needs "
                f"less {called(study.objectives[0].name)} than {one.above}."
            )


def _sure(study: Study) -> Iterator[str]:
    if study.has("latency_low_s", "latency_high_s"):
        low, high = study.columns["latency_low_s"], study.columns["latency_high_s"]
        middle = study.columns["latency_s"]
        below, above = (percent(float(np.nanmedian(part))) for part in (1 - low / middle, high / middle - 1))
        yield (
            f"Latencies come with an 80 % interval, here typically -{below} / +{above}; smaller differences "
            "between machines are not to be relied on."
        )
    yield from (sentence(note.rstrip(".")) + "." for note in study.notes)
    if not study.whole:
        yield (
            "Counts, best points and fronts are of all points; figures and table show "
            f"{counted(int(study.sample.sum()))} of them, evenly sampled."
        )


_PARTS = (_asked, _fitting, _best, _unknown, _matters, _crossed, _sure)
