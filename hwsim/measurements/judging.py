"""How good predictions are: errors in all, by device, operator and target; others' errors beside ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.measurements.predicting import Predictions

SCHEMA = "hwsim.measured/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Statistics of predicted / measured - 1 over the rows that have both; fractions, not percent.

    Each row counts once, with the first target that is both measured and predicted; by target, with that one.
    `bias` is the geometric mean of predicted / measured, less 1; `coverage` the share inside the interval.
    """

    label: str
    rows: int
    predicted: int
    compared: int
    mape: float | None
    median_ape: float | None
    bias: float | None
    coverage: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """Another predictor's recorded errors beside ours, over the rows that have both."""

    label: str
    rows: int
    mape: float
    median_ape: float
    ours_mape: float
    ours_median_ape: float


@dataclass(frozen=True, slots=True)
class Pairs:
    """Measured and predicted values with interval, and the row of each."""

    row: NDArray[np.intp]
    measured: NDArray[np.float64]
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def error(self) -> NDArray[np.float64]:
        return np.asarray(self.value / self.measured - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The scores of one file."""

    overall: Score
    by_device: tuple[Score, ...]
    by_op: tuple[Score, ...]
    by_target: tuple[Score, ...]
    rivals: tuple[Rival, ...]
    notes: Mapping[str, int]


def pairs(made: Predictions, targets: Sequence[str] | None = None) -> Pairs:
    """One pair per row: of the first of the targets (all of the file's) that is measured and predicted."""
    size = made.table.length
    found = np.full((4, size), np.nan)
    for target in targets or made.values:
        measured, values = made.measured(target), made.values[target]
        new = np.isfinite(values) & np.isfinite(measured) & (measured > 0) & ~np.isfinite(found[0])
        stacked = np.stack([measured, values, made.low[target], made.high[target]])
        found[:, new] = stacked[:, new]
    rows = np.flatnonzero(np.isfinite(found[0]))
    return Pairs(rows, *found[:, rows])


def judge(made: Predictions) -> Judgement:
    """Scores in all and by device, operator and target."""
    found = pairs(made)
    everyone = np.arange(made.table.length)
    return Judgement(
        overall=_score("all", made, found, everyone),
        by_device=_by(made.devices, made, found),
        by_op=_by(made.ops, made, found),
        by_target=tuple(_score(name, made, pairs(made, [name]), everyone) for name in made.values),
        rivals=_rivals(made),
        notes=Counter(note for note in made.notes if note),
    )


def _by(labels: Sequence[str], made: Predictions, found: Pairs) -> tuple[Score, ...]:
    names = np.array(labels, dtype=np.str_)
    return tuple(
        _score(str(name) or "(none)", made, found, np.flatnonzero(names == name)) for name in np.unique(names)
    )


def _score(label: str, made: Predictions, found: Pairs, rows: NDArray[np.intp]) -> Score:
    """The score of some rows, which are sorted as the pairs are."""
    chosen = np.flatnonzero(np.isin(found.row, rows, assume_unique=True))
    ratio = found.value[chosen] / found.measured[chosen]
    low, high, true = found.low[chosen], found.high[chosen], found.measured[chosen]
    some = bool(chosen.size)
    return Score(
        label=label,
        rows=int(rows.size),
        predicted=int(made.predicted[rows].sum()),
        compared=int(chosen.size),
        mape=float(np.mean(np.abs(ratio - 1))) if some else None,
        median_ape=float(np.median(np.abs(ratio - 1))) if some else None,
        bias=float(np.exp(np.mean(np.log(ratio))) - 1) if some else None,
        coverage=float(np.mean((low <= true) & (true <= high))) if np.isfinite(low).any() else None,
    )


def _rivals(made: Predictions) -> tuple[Rival, ...]:
    """What the layout says that other predictors recorded: (name, target, their values)."""
    recorded: Callable[[Any], Any] | None = getattr(import_module(made.layout.module), "recorded", None)
    errors: dict[str, list[NDArray[np.float64]]] = {}
    for name, target, theirs in recorded(made.table) if recorded else ():
        if target not in made.values:
            continue
        measured, ours = made.table.number(target), made.values[target]
        both = np.isfinite(measured) & (measured > 0) & np.isfinite(ours) & np.isfinite(theirs) & (theirs > 0)
        pair = np.abs(np.stack([theirs[both], ours[both]]) / measured[both] - 1)
        errors.setdefault(name, []).append(pair)
    found = []
    for name, parts in errors.items():
        theirs, ours = np.concatenate(parts, axis=1)
        if theirs.size:
            found.append(
                Rival(
                    label=name,
                    rows=int(theirs.size),
                    mape=float(np.mean(theirs)),
                    median_ape=float(np.median(theirs)),
                    ours_mape=float(np.mean(ours)),
                    ours_median_ape=float(np.median(ours)),
                )
            )
    return tuple(found)


def document(made: Predictions, judged: Judgement | None = None) -> dict[str, Any]:
    """The document `hwsim.measured/1`; absent quantities are None."""
    judged = judged or judge(made)
    return {
        "schema": SCHEMA,
        "file": made.table.path,
        "layout": made.layout.name,
        "tiers": sorted(made.tiers),
        **_plain(judged.overall),
        "by_device": {score.label: _plain(score) for score in judged.by_device},
        "by_op": {score.label: _plain(score) for score in judged.by_op},
        "by_target": {score.label: _plain(score) for score in judged.by_target},
        "others": {
            rival.label: {
                name: getattr(rival, name)
                for name in ("rows", "mape", "median_ape", "ours_mape", "ours_median_ape")
            }
            for rival in judged.rivals
        },
        "notes": dict(judged.notes),
    }


def _plain(score: Score) -> dict[str, Any]:
    names = ("rows", "predicted", "compared", "mape", "median_ape", "bias", "coverage")
    return {name: getattr(score, name) for name in names}
