"""How good predictions are: errors, bias, intervals, and the order of what was measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_LEAST_TO_RANK = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One measured value beside its prediction, with the ends of the interval if there is one."""

    measured: float
    predicted: float
    low: float | None = None
    high: float | None = None

    @property
    def error(self) -> float:
        """Signed, relative to what was measured."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """`rows` asked for, `predicted` of them compared; None where too few were."""

    rows: int
    predicted: int
    mape: float | None
    median_ape: float | None
    bias: float | None  # geometric mean of predicted / measured, less 1
    coverage: float | None  # share of measured values inside low-high
    spearman: float | None  # rank correlation, from three rows on


def accuracy(pairs: Sequence[Pair], rows: int) -> Accuracy:
    """The scores of `pairs`, which are those of `rows` rows that have both sides."""
    errors = [abs(pair.error) for pair in pairs]
    ratios = [math.log(pair.predicted / pair.measured) for pair in pairs]
    inside = [
        pair.low <= pair.measured <= pair.high
        for pair in pairs
        if pair.low is not None and pair.high is not None
    ]
    return Accuracy(
        rows=rows,
        predicted=len(pairs),
        mape=statistics.fmean(errors) if errors else None,
        median_ape=statistics.median(errors) if errors else None,
        bias=math.expm1(statistics.fmean(ratios)) if ratios else None,
        coverage=statistics.fmean(inside) if inside else None,
        spearman=_spearman(pairs),
    )


def _spearman(pairs: Sequence[Pair]) -> float | None:
    """None below three rows and where one side is all the same."""
    measured, predicted = [pair.measured for pair in pairs], [pair.predicted for pair in pairs]
    if len(pairs) < _LEAST_TO_RANK or len(set(measured)) < 2 or len(set(predicted)) < 2:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(measured, predicted).statistic)
