"""A sweep's table as something to look at: axes, objectives, best points of all rows, rows to draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.engines.demand import Array
from hwsim.sweeps.conditions import Objective

Table = Mapping[str, NDArray[Any]]
FEW = 256  # distinct values of an axis that are remembered; more are taken for a sample
# axes that change what is asked rather than what answers it
QUESTIONS = ("workload", "model", "phase")
SIZES = ("seq", "context", "source", "image", "frames", "prompt", "generate")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Axis:
    """One axis that varies: its distinct values in order (the ends only, where there are more than `FEW`)."""

    name: str
    values: NDArray[Any]
    words: bool
    few: bool
    followers: tuple[str, ...] = ()  # columns that always move with this one

    def with_follower(self, name: str) -> Axis:
        return replace(self, followers=(*self.followers, name))

    @property
    def logarithmic(self) -> bool:
        """Whether steps are better seen as ratios."""
        if self.words:
            return False
        low, high = float(self.values[0]), float(self.values[-1])
        if not 0 < low < high / 3:
            return False
        return not self.few or len(self.values) < 3 or not _even(self.values)

    @property
    def middle(self) -> Any:
        """The value others are compared at: the first word, the middle number of a grid."""
        return self.values[0] if self.words else self.values[(len(self.values) - 1) // 2]


def _even(values: NDArray[Any]) -> bool:
    steps = np.diff(values.astype(np.float64))
    return bool(np.allclose(steps, steps[0], rtol=1e-3))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """What is best for one question (a model, phase, workload), of all rows that fit; places in `columns`."""

    question: str  # empty where there is one question only
    front: NDArray[np.intp]  # points no other beats in every objective, best in the first one first
    best: tuple[int | None, ...]  # per objective; None where it is not known of any point


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """What a report is made from; `columns` hold the rows kept, `number` their places in the whole table."""

    name: str
    rows: int
    fitting: int
    allowed: int  # points that meet the conditions of the sweep
    conditions: tuple[str, ...]
    bounds: Mapping[str, int]
    fixed: Mapping[str, Any]  # columns with one value
    axes: tuple[Axis, ...]
    objectives: tuple[Objective, ...]
    gridded: bool  # points are all combinations of the values of the axes, or nearly all
    unit: str  # token or sample: what energy and cost are counted per
    columns: Table
    number: NDArray[np.int64]
    sample: NDArray[np.bool_]  # rows of an even sample; the others were kept for being special
    held: Mapping[str, float]  # sizes of the question at which fronts and best points are looked for
    answers: tuple[Answer, ...]
    notes: tuple[str, ...] = ()  # what the sweep warns of
    version: str = ""  # of hwsim, when the sweep was made

    @property
    def whole(self) -> bool:
        """Whether all rows were kept."""
        return bool(self.rows == len(self.number))

    @property
    def grid(self) -> tuple[Axis, ...]:
        """Numeric axes with few values."""
        return tuple(axis for axis in self.axes if axis.few and not axis.words)

    @property
    def words(self) -> tuple[Axis, ...]:
        return tuple(axis for axis in self.axes if axis.words)

    @property
    def numbers(self) -> tuple[Axis, ...]:
        return tuple(axis for axis in self.axes if not axis.words)

    @cached_property
    def usable(self) -> NDArray[np.bool_]:
        """Rows that fit in memory and meet the conditions; all, where the table says nothing."""
        usable: NDArray[np.bool_] = np.ones(len(self.number), dtype=np.bool_)
        for name in ("fits", "feasible"):
            if name in self.columns:
                usable = np.logical_and(usable, self.columns[name])
        return usable

    @property
    def flaw(self) -> str:
        """What is wrong with rows that are not usable."""
        return "does not fit or breaks a condition" if "feasible" in self.columns else "does not fit"

    def axis(self, name: str) -> Axis:
        return next(axis for axis in self.axes if axis.name == name)

    @property
    def designs(self) -> tuple[Axis, ...]:
        """Text axes of what answers: devices, stacks, precisions."""
        return tuple(axis for axis in self.words if axis.name not in QUESTIONS)

    @property
    def question_names(self) -> tuple[str, ...]:
        """Text axes of what is asked, in the order in which `Answer.question` names them."""
        return tuple(axis.name for axis in self.words if axis.name in QUESTIONS)

    def value(self, objective: Objective) -> Array:
        """An objective at every row kept."""
        return np.asarray(objective.formula.value(self.columns), dtype=np.float64)

    def has(self, *names: str) -> bool:
        """Whether the table has these columns, with numbers in them."""
        return all(name in self.columns and bool(np.any(~_absent(self.columns[name]))) for name in names)


def _absent(column: NDArray[Any]) -> NDArray[np.bool_]:
    absent = np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), dtype=bool)
    return np.asarray(absent, dtype=bool)
