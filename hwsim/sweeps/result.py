"""What a sweep found: a table that is read batch by batch, and what planners ask of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from devices.errors import near
from hwsim.engines.demand import Array
from hwsim.errors import HwsimError
from hwsim.sweeps.batch import Batch
from hwsim.sweeps.columns import ALIASES
from hwsim.sweeps.conditions import Formula, Objective, condition, objective
from hwsim.sweeps.pareto import front
from hwsim.sweeps.sensitivity import Elasticity, elasticities

Row = dict[str, Any]
MERGE = 100_000  # points of the fronts of batches before they become one front


class Source(Protocol):
    """Where the batches of a result are kept: in memory or in a directory."""

    @property
    def sizes(self) -> Sequence[int]:
        """Points of every batch, in order."""

    def batch(self, number: int, columns: Sequence[str] | None) -> Batch:
        """A batch with some columns, or with all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What the columns of a sweep are and mean."""

    words: tuple[str, ...]
    axes: tuple[str, ...]
    leads: tuple[str, ...]  # the axes without those that only go with one of them
    dimensions: tuple[str, ...]  # of the axes, as in `devices.quantity`
    numbers: tuple[str, ...]  # every numeric column, axes first
    labels: tuple[
        str, ...
    ]  # text columns: those that tell cases apart, then what is found, such as the bound

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.labels, *self.numbers)


@dataclass(frozen=True, kw_only=True, eq=False)
class SweepResult:
    """The table of a sweep. Everything here reads it in batches, so that a table may be larger than memory.

    Objectives and constraints are those of the spec unless others are given; fronts and best points are
    sought among points that meet the constraints.
    """

    spec: Mapping[str, Any]
    table: Table
    points: int
    objectives: tuple[Objective, ...] = ()
    where: tuple[Formula, ...] = ()
    warnings: tuple[str, ...] = ()
    folder: Path | None = None
    seconds: float | None = None
    source: Source = field(repr=False)

    @classmethod
    def open(cls, folder: str | Path) -> SweepResult:
        """The result in a directory that `hwsim sweep --out` wrote."""
        from hwsim.sweeps.store import open_result

        return open_result(Path(folder))

    @property
    def columns(self) -> tuple[str, ...]:
        return self.table.columns

    def __len__(self) -> int:
        return self.points

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A column of all points, in memory; text columns are arrays of objects."""
        name = self._known(name)
        parts = [batch.column(name) for batch in self._batches((name,))]
        return np.concatenate(parts) if parts else np.zeros(0)

    def batches(self, *columns: str) -> Iterator[dict[str, NDArray[Any]]]:
        """Columns of some points after the other."""
        names = tuple(self._known(name) for name in columns) or self.columns
        for batch in self._batches(names):
            yield batch.columns(names)

    def front(
        self, minimize: Sequence[str] = (), maximize: Sequence[str] = (), where: Sequence[str] | None = None
    ) -> list[Row]:
        """Rows that no other row is better than in every objective, those of least first objective first."""
        objectives, conditions = self._objectives(minimize, maximize), self._conditions(where)
        needs = tuple(name for one in objectives for name in one.formula.columns)
        costs, places = np.zeros((0, len(objectives))), np.zeros(0, dtype=np.intp)
        for at, batch in self._selected(needs, conditions):
            columns = batch.columns(needs)
            mine = np.stack([np.broadcast_to(one.cost(columns), at.shape) for one in objectives], axis=1)
            some = front(mine)
            costs, places = np.concatenate([costs, mine[some]]), np.concatenate([places, at[some]])
            if len(places) > MERGE:
                some = front(costs)
                costs, places = costs[some], places[some]
        some = front(costs)
        some = some[np.argsort(costs[some, 0], kind="stable")]
        return self.rows(places[some])

    def best(
        self,
        minimize: str | None = None,
        *,
        maximize: str | None = None,
        by: Sequence[str] = (),
        where: Sequence[str] | None = None,
    ) -> list[Row]:
        """The best row of the first objective in every group of points that agree in the columns `by`."""
        (goal, *_) = self._objectives([minimize] if minimize else [], [maximize] if maximize else [])
        groups = tuple(self._known(name) for name in by)
        found: dict[tuple[Any, ...], tuple[float, int]] = {}
        for at, batch in self._selected((*goal.formula.columns, *groups), self._conditions(where)):
            costs = np.broadcast_to(goal.cost(batch.columns(goal.formula.columns)), at.shape)
            for key, place in _least(costs, batch, groups):
                known = found.get(key)
                if known is None or costs[place] < known[0]:
                    found[key] = (float(costs[place]), int(at[place]))
        return self.rows([place for _, place in found.values()])

    def sensitivity(
        self,
        objectives: Sequence[str] = (),
        axes: Sequence[str] = (),
        where: Sequence[str] | None = None,
    ) -> tuple[Elasticity, ...]:
        """The elasticity of every objective to every numeric axis, over all points that meet the
        constraints.
        """
        named = tuple(one for one in self._objectives(objectives, ()) if one.name not in self.table.axes)
        chosen = tuple(self._known(name) for name in axes) or self.table.leads
        needs = (*chosen, *self.table.words, *(name for one in named for name in one.formula.columns))

        def batches() -> Iterator[tuple[str, dict[str, Array]]]:
            for _, batch in self._selected(needs, self._conditions(where)):
                for case, some in batch.cases(self.table.words):
                    columns = some.columns(name for name in needs if name not in self.table.words)
                    goals = {one.name: np.asarray(one.formula.value(columns)) for one in named}
                    yield "|".join(case), {**{name: columns[name] for name in chosen}, **goals}

        return elasticities(batches(), chosen, tuple(dict.fromkeys(one.name for one in named)))

    def rows(self, places: Sequence[int] | NDArray[np.intp]) -> list[Row]:
        """Some rows by their place in the table."""
        found: dict[int, Row] = {}
        wanted = np.sort(np.asarray(places, dtype=np.intp))
        start = 0
        for number, size in enumerate(self.source.sizes):
            here = wanted[(wanted >= start) & (wanted < start + size)] - start
            if here.size:
                columns = self.source.batch(number, None).columns(self.columns)
                for place in here.tolist():
                    found[start + place] = {name: _plain(value[place]) for name, value in columns.items()}
            start += size
        return [found[int(place)] for place in places]

    def to_arrow(self) -> Any:
        """The table as a `pyarrow.Table`."""
        from hwsim.sweeps.store import arrow_table

        return arrow_table(self._batches(None), self.table)

    def to_frame(self) -> Any:
        """The table as a pandas data frame."""
        return self.to_arrow().to_pandas()

    def _known(self, name: str) -> str:
        column = name if name in self.columns else ALIASES.get(name, name)
        if column not in self.columns:
            raise HwsimError(f"this sweep has no column '{name}'{near(name, self.columns)}")
        return column

    def _objectives(self, minimize: Sequence[str], maximize: Sequence[str]) -> tuple[Objective, ...]:
        known = self.table.numbers
        given = tuple(
            objective(text, known, largest=largest)
            for texts, largest in ((minimize, False), (maximize, True))
            for text in texts
        )
        found = given or self.objectives
        if not found:
            raise HwsimError("this sweep names no objective; give one, such as minimize = latency")
        return found

    def _conditions(self, where: Sequence[str] | None) -> tuple[Formula, ...]:
        if where is None:
            return self.where
        return tuple(condition(text, self.table.numbers) for text in where)

    def _batches(self, columns: Sequence[str] | None) -> Iterator[Batch]:
        for number in range(len(self.source.sizes)):
            yield self.source.batch(number, columns)

    def _selected(
        self, columns: Sequence[str], conditions: Sequence[Formula]
    ) -> Iterator[tuple[NDArray[np.intp], Batch]]:
        """Places and columns of the points that meet conditions, batch by batch."""
        tested = tuple(dict.fromkeys(name for one in conditions for name in one.columns))
        start = 0
        for batch in self._batches(tuple(dict.fromkeys((*columns, *tested)))):
            places = np.arange(start, start + batch.rows)
            start += batch.rows
            if conditions:
                values, holds = batch.columns(tested), np.ones(batch.rows, dtype=bool)
                for one in conditions:
                    holds &= one.value(values)
                places, batch = places[holds], batch.some(holds)
            if places.size:
                yield places, batch


def _least(costs: Array, batch: Batch, groups: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], int]]:
    """The place of the least cost in each group of points that agree in some columns."""
    codes = np.zeros(costs.size, dtype=np.int64)
    for name in groups:
        word = batch.words.get(name)
        if word is None:
            values, mine = np.unique(batch.number(name), return_inverse=True)
            codes = codes * values.size + mine
        elif word.codes is not None:
            codes = codes * len(word.names) + word.codes
        codes = np.unique(codes, return_inverse=True)[1]
    order = np.lexsort((costs, codes))
    order = order[~np.isnan(costs[order])]
    first = np.ones(order.size, dtype=bool)
    first[1:] = codes[order][1:] != codes[order][:-1]
    columns = [batch.column(name) for name in groups]
    for place in order[first].tolist():
        yield tuple(column[place] for column in columns), place


def _plain(value: Any) -> Any:
    """A number of Python's; what is absent is None."""
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and math.isnan(plain) else plain
