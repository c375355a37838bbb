"""How good predictions are: error statistics over all rows, by device and by operator kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.measurements.predicting import Predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Statistics of predicted / measured - 1 over the rows that have both; fractions, not percent.

    `coverage` is the share of measurements inside the predicted interval.
    """

    label: str
    rows: int
    predicted: int
    mape: float | None
    median_ape: float | None
    bias: float | None
    coverage: float | None


def scores(made: Predictions, *, least_us: float = 0.0) -> tuple[Score, tuple[Score, ...], tuple[Score, ...]]:
    """Overall, by device and by operator, of the first target; rows measured below `least_us` are left out."""
    target = next(iter(made.values), "latency_us")
    measured = made.table.number(target)
    everyone = np.flatnonzero(~(measured < least_us))
    overall = _score("all", made, target, measured, everyone)
    return overall, _by(made.devices, made, target, measured, everyone), _by(made.ops, made, target, measured, everyone)


def _by(
    labels: Sequence[str], made: Predictions, target: str, measured: NDArray[np.float64], rows: NDArray[np.intp]
) -> tuple[Score, ...]:
    names = np.array(labels, dtype=np.str_)[rows]
    return tuple(_score(str(name) or "(none)", made, target, measured, rows[names == name]) for name in np.unique(names))


def _score(
    label: str, made: Predictions, target: str, measured: NDArray[np.float64], rows: NDArray[np.intp]
) -> Score:
    values = made.values.get(target, np.full(measured.size, np.nan))[rows]
    true = measured[rows]
    both = np.isfinite(values) & np.isfinite(true) & (true > 0)
    if not both.any():
        return Score(label=label, rows=rows.size, predicted=0, mape=None, median_ape=None, bias=None, coverage=None)
    error = values[both] / true[both] - 1
    low, high = made.low[target][rows][both], made.high[target][rows][both]
    return Score(
        label=label,
        rows=rows.size,
        predicted=int(both.sum()),
        mape=float(np.mean(np.abs(error))),
        median_ape=float(np.median(np.abs(error))),
        bias=float(np.exp(np.mean(np.log(values[both] / true[both]))) - 1),
        coverage=float(np.mean((low <= true[both]) & (true[both] <= high))),
    )


def document(made: Predictions) -> dict[str, Any]:
    """The `hwsim.measured/1` document: rows, predicted, errors in all, by device and by op, and notes with counts."""
    overall, by_device, by_op = scores(made)

    def plain(score: Score) -> dict[str, Any]:
        return {name: getattr(score, name) for name in ("rows", "predicted", "mape", "median_ape", "bias", "coverage")}

    notes: dict[str, int] = {}
    for note in made.notes:
        if note:
            notes[note] = notes.get(note, 0) + 1
    return {
        "schema": "hwsim.measured/1",
        "file": made.table.path,
        "layout": made.layout.name,
        "tiers": sorted(made.tiers),
        **plain(overall),
        "by_device": {score.label: plain(score) for score in by_device},
        "by_op": {score.label: plain(score) for score in by_op},
        "notes": notes,
    }
