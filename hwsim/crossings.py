"""Where one curve of a comparison overtakes another.

Two curves that share their device or their model are searched: on the grid first, then between two grid
points by bisection on real estimates. Two crossings between neighbouring grid points go unseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from hwsim.axis import Axis
from hwsim.comparison import Crossover, Curve, Metric
from hwsim.errors import HwsimError

SAME = 1e-9  # relative difference up to which two values count as even
FINE = 1e-3  # relative width to which a crossing on a path of the device is narrowed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Curves that share their device, or else their model."""

    device: str = ""
    model: str = ""
    curves: tuple[Curve, ...]

    def name(self, curve: Curve) -> str:
        return curve.name if self.device else curve.device

    @property
    def where(self) -> str:
        return f"on {self.device}" if self.device else f"for {self.curves[0].name}"

    def common(self) -> list[int]:
        """Places at which every curve holds."""
        sets = [set(curve.places.tolist()) for curve in self.curves]
        return sorted(set.intersection(*sets))


def _groups(curves: Sequence[Curve]) -> Iterator[_Group]:
    for device in dict.fromkeys(curve.device for curve in curves):
        yield _Group(device=device, curves=tuple(curve for curve in curves if curve.device == device))
    for model in dict.fromkeys(curve.model for curve in curves):
        yield _Group(model=model, curves=tuple(curve for curve in curves if curve.model == model))


def crossings(
    curves: Sequence[Curve], axis: Axis, metric: Metric, against: str | None = None
) -> tuple[list[Crossover], list[str]]:
    """All crossovers in the order of the axis within each group, and a line for each group without one.

    With `against`, a model: of the others with that one, device by device, and a line for each that never
    crosses it.
    """
    if against is not None:
        return _with_one(curves, axis, metric, against)
    crossovers, notes = [], []
    for group in _groups(curves):
        if len(group.curves) < 2:
            continue
        pairs = combinations(group.curves, 2)
        found = [one for pair in pairs for one in _between(*pair, group, axis, metric)]
        crossovers += sorted(found, key=lambda one: one.at)
        if not found:
            notes += _order(group, axis, metric)
    return crossovers, notes


def _with_one(
    curves: Sequence[Curve], axis: Axis, metric: Metric, against: str
) -> tuple[list[Crossover], list[str]]:
    crossovers, notes = [], []
    for group in (one for one in _groups(curves) if one.device):
        pivot = next(curve for curve in group.curves if curve.model == against)
        for curve in group.curves:
            if curve.model == against:
                continue
            pair = _Group(device=group.device, curves=(pivot, curve))
            found = list(_between(pivot, curve, pair, axis, metric))
            crossovers += found
            if not found:
                notes += _order(pair, axis, metric)
    return crossovers, notes


def _between(first: Curve, second: Curve, group: _Group, axis: Axis, metric: Metric) -> Iterator[Crossover]:
    values = [dict(zip(c.places.tolist(), c.values(metric).tolist(), strict=True)) for c in (first, second)]
    leads = [
        (place, _lead(one, values[1][place], metric))
        for place, one in values[0].items()
        if place in values[1]
    ]
    decided = [(float(axis.values[place]), lead) for place, lead in sorted(leads) if lead]
    for (low, before), (high, after) in pairwise(decided):
        if before == after:
            continue
        winner, loser = (first, second) if after > 0 else (second, first)
        yield _crossover(
            winner, loser, _narrowed(winner, loser, low, high, axis, metric), group, axis, metric
        )


def _lead(one: float, other: float, metric: Metric) -> int:
    """1 when the first is ahead, -1 when the second is, 0 when they are even."""
    if abs(one - other) <= SAME * max(abs(one), abs(other)):
        return 0
    return 1 if (one > other) == metric.more_is_better else -1


def _narrowed(
    winner: Curve, loser: Curve, low: float, high: float, axis: Axis, metric: Metric
) -> tuple[float, float]:
    """Closest values found between which `winner` gets ahead: neighbouring sizes, or a narrow range."""
    while high - low > 1 if axis.whole else high > low * (1 + FINE):
        middle = float((low + high) // 2) if axis.whole else float(np.sqrt(low * high))
        try:
            ahead = _lead(_at(winner, middle, metric), _at(loser, middle, metric), metric) > 0
        except HwsimError:
            break  # a size between two grid points may be one that a model does not admit
        low, high = (low, middle) if ahead else (middle, high)
    return low, high


def _at(curve: Curve, value: float, metric: Metric) -> float:
    return float(metric.of(curve.at(value))[0])


def _crossover(
    winner: Curve, loser: Curve, between: tuple[float, float], group: _Group, axis: Axis, metric: Metric
) -> Crossover:
    before, at = between
    estimates = [winner.at(at), loser.at(at)]
    ahead, behind = (float(metric.of(one)[0]) for one in estimates)
    names = group.name(winner), group.name(loser)
    text = (
        f"on {group.device}, {names[0]} {metric.ahead} than {names[1]}"
        if group.device
        else f"{winner.name} {metric.ahead} on {names[0]} than on {names[1]}"
    )
    text += f" from {axis.name} {axis.written(at)} on ({_both(metric, ahead, behind)})"
    too_large = [name for name, one in zip(names, estimates, strict=True) if not one.fits]
    if too_large:
        text += f", where {' and '.join(too_large)} {'does' if len(too_large) == 1 else 'do'} not fit"
    return Crossover(
        at=at,
        before=before,
        winner=winner.label,
        loser=loser.label,
        on=group.device or group.model,
        winner_value=ahead,
        loser_value=behind,
        fits=not too_large,
        text=text,
    )


def _both(metric: Metric, ahead: float, behind: float) -> str:
    """Both values, with as many digits as tell them apart."""
    for digits in range(3, 9):
        one, other = metric.written(ahead, digits), metric.written(behind, digits)
        if one != other:
            break
    return f"{one} against {other}"


def _order(group: _Group, axis: Axis, metric: Metric) -> list[str]:
    """The order that holds at every value, best first."""
    common = group.common()
    if not common:
        return []
    at = common[0]
    value = {c.label: float(c.values(metric)[c.places.tolist().index(at)]) for c in group.curves}
    ordered = sorted(group.curves, key=lambda c: value[c.label], reverse=metric.more_is_better)
    text = group.name(ordered[0])
    for one, other in pairwise(ordered):
        even = _lead(value[one.label], value[other.label], metric) == 0
        text += f"{' = ' if even else ', '}{group.name(other)}"
    ends = dict.fromkeys(axis.written(float(axis.values[place])) for place in (at, common[-1]))
    return [
        f"{group.where}, no crossover in {metric.name} at {axis.name} {' to '.join(ends)}; best first: {text}"
    ]
