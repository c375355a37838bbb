"""Goes through a table twice, batch by batch, and keeps what a report needs of it.

What is said of the whole (counts, best points, fronts) takes every row. A large table is drawn from an even
sample, to which come the whole lines and planes of the grid through its middle.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.studies.study import FEW, QUESTIONS, SIZES, Answer, Axis, Study
from hwsim.sweeps.chunk import FEASIBLE
from hwsim.sweeps.columns import ALL, BOUND
from hwsim.sweeps.conditions import Objective, objective
from hwsim.sweeps.pareto import front
from hwsim.sweeps.together import EACH

Columns = dict[str, NDArray[Any]]
KEPT = 50_000  # rows of a larger table that are kept
FITS = "fits"
_COUNTED = (FITS, FEASIBLE, BOUND, "latency_s", "tokens_per_s", "samples_per_s")  # read beside the axes
_PART = 20  # times as many combinations as rows a filtered grid may have
_PROBED = 64  # rows of each batch that are compared to find axes that move together
PER_UNIT = {"energy_j": "energy_per_{}_j", "cost_usd": "cost_per_{}_usd"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A table that can be gone through more than once: its columns, and how to read some in batches."""

    columns: tuple[str, ...]
    read: Callable[[tuple[str, ...]], Iterator[Columns]]


def in_memory(columns: Columns) -> Rows:
    """A table that is there as a whole."""
    return Rows(columns=tuple(columns), read=lambda names: iter([{name: columns[name] for name in names}]))


def study_of(table: Rows, *, name: str, spec: Mapping[str, Any] | None = None) -> Study:
    """The study of a table, which is gone through twice."""
    spec = spec or {}
    asked = tuple(name for name in table.columns if name in _asked(spec)) or tuple(
        filter(_is_axis, table.columns)
    )
    facts = _Facts(asked=asked)
    for batch in table.read(tuple(name for name in table.columns if name in (*asked, *_COUNTED))):
        facts.add(batch)
    if not facts.rows:
        raise HwsimError(f"the sweep '{name}' has no rows yet; let it write some first")
    axes = facts.axes()
    unit = "token" if facts.in_tokens else "sample"
    objectives = _objectives(spec, facts, table.columns, unit)
    share = min(1.0, KEPT / facts.rows)
    gridded = _gridded(axes, facts.rows, spec)
    kept = _Kept(axes=axes, objectives=objectives, unit=unit, share=share, gridded=gridded)
    for batch in table.read(table.columns):
        kept.add(batch)
    columns, number, sample = kept.joined()
    place = {int(at): index for index, at in enumerate(number)}
    answers = [contest.answer(question, place) for question, contest in kept.contests.items()]
    return Study(
        name=name,
        rows=facts.rows,
        fitting=facts.fitting,
        allowed=facts.allowed,
        conditions=_texts(spec, "where"),
        notes=(*_texts(spec, "warnings"), *_texts(spec, "gap")),
        bounds=dict(facts.bounds.most_common()),
        fixed=facts.fixed(),
        axes=axes,
        objectives=objectives,
        gridded=gridded,
        unit=unit,
        columns=columns,
        number=number,
        sample=sample,
        held=kept.held,
        answers=tuple(one for one in answers if one is not None),
        version=str(spec.get("versions", {}).get("hwsim", "")),
    )


@dataclass(kw_only=True)
class _Facts:
    """What is known of a table from the batches added so far."""

    asked: tuple[str, ...]  # names of the axes
    rows: int = 0
    fitting: int = 0
    allowed: int = 0
    bounds: Counter[str] = field(default_factory=Counter)
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    many: set[str] = field(default_factory=set)
    probes: list[Columns] = field(default_factory=list)
    in_tokens: bool = True
    least_work: float = np.inf
    most_work: float = -np.inf

    def add(self, batch: Columns) -> None:
        count = rows_of(batch)
        if not count:
            return
        self.rows += count
        self.fitting += int(np.count_nonzero(_flag(batch, FITS)))
        self.allowed += int(np.count_nonzero(_flag(batch, FEASIBLE)))
        if BOUND in batch:
            self.bounds.update(Counter(batch[BOUND].tolist()))
        for name in self.asked:
            self._note(name, batch[name])
        some = np.random.default_rng(self.rows).integers(0, count, min(count, _PROBED))
        self.probes.append({name: batch[name][some] for name in self.asked})
        self.in_tokens &= "tokens_per_s" in batch and not np.any(np.isnan(batch["tokens_per_s"]))
        if "latency_s" in batch:
            work = work_of(batch, "token" if self.in_tokens else "sample")
            self.least_work = min(self.least_work, float(np.min(work)))
            self.most_work = max(self.most_work, float(np.max(work)))

    def _note(self, name: str, column: NDArray[Any]) -> None:
        if column.dtype.kind == "f":
            # of a sample the ends are all that is remembered
            found = np.array([column.min(), column.max()]) if name in self.many else np.unique(column)
            joined = np.unique(np.concatenate([self.values.get(name, found), found]))
            if joined.size > FEW:
                self.many.add(name)
            if name in self.many:
                joined = joined[[0, -1]]
        else:  # in order of appearance
            found = np.array(list(dict.fromkeys(column.tolist())), dtype=object)
            joined = np.array(list(dict.fromkeys([*self.values.get(name, ()), *found])), dtype=object)
        self.values[name] = joined

    @property
    def work_varies(self) -> bool:
        return self.most_work > self.least_work * (1 + 1e-6)

    def axes(self) -> tuple[Axis, ...]:
        """Columns that vary; of several that always move together, the first stands for all."""
        varying = [name for name, values in self.values.items() if values.size > 1]
        codes: dict[str, NDArray[Any]] = {}
        found: dict[str, Axis] = {}
        for name in varying:
            joined = np.concatenate([probe[name] for probe in self.probes])
            codes[name] = np.unique(
                joined.astype(str) if joined.dtype == object else joined, return_inverse=True
            )[1]
            leader = next((other for other in found if _together(codes[other], codes[name])), None)
            words = self.values[name].dtype == object
            if leader is not None and words == found[leader].words:
                found[leader] = found[leader].with_follower(name)
                continue
            few = name not in self.many
            found[name] = Axis(name=name, values=self.values[name], words=words, few=few)
        return tuple(found.values())

    def fixed(self) -> dict[str, Any]:
        return {name: values[0] for name, values in self.values.items() if values.size == 1}


def _gridded(axes: tuple[Axis, ...], rows: int, spec: Mapping[str, Any]) -> bool:
    """Whether points are combinations of few values; of a filtered grid a part is enough."""
    if any(name in spec for name in ("sample", "search")) or not all(axis.few for axis in axes):
        return False
    return math.prod(len(axis.values) for axis in axes) <= _PART * rows


def _together(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return bool(one.max() > 0 and np.array_equal(one, other))


def _is_axis(name: str) -> bool:
    """Whether a column is asked for rather than computed; those of single workloads are computed too."""
    return (
        name not in ALL
        and name not in (BOUND, FEASIBLE)
        and not any(name.endswith(f"_{end}") for end in EACH)
    )


@dataclass(kw_only=True)
class _Contest:
    """Candidates for the front of one question, and for the best in each objective."""

    number: list[NDArray[np.int64]] = field(default_factory=list)
    costs: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, costs: NDArray[np.float64], number: NDArray[np.int64]) -> NDArray[np.intp]:
        """Remember what may be best; the places of these among the rows given."""
        firsts = np.array([at for at in _firsts(costs) if at is not None], dtype=np.intp)
        on = np.union1d(front(costs), firsts)
        self.number.append(number[on])
        self.costs.append(costs[on])
        return on

    def answer(self, question: str, place: Mapping[int, int]) -> Answer | None:
        """The front, best in the first objective first; None where no objective is known of any point."""
        number, costs = np.concatenate(self.number), np.concatenate(self.costs)
        places = np.array([place[int(at)] for at in number], dtype=np.intp)
        firsts = _firsts(costs)
        if all(at is None for at in firsts):
            return None
        on = front(costs)
        on = on[np.lexsort(costs[on].T[::-1])]
        best = tuple(None if at is None else int(places[at]) for at in firsts)
        return Answer(question=question, front=places[on], best=best)


def _firsts(costs: NDArray[np.float64]) -> list[int | None]:
    """The row that is best in each objective, ties broken by the others; None where none is known."""
    found: list[int | None] = []
    for k in range(costs.shape[1]):
        known = np.flatnonzero(np.isfinite(costs[:, k]))
        if not known.size:
            found.append(None)
            continue
        least = known[costs[known, k] == np.min(costs[known, k])]
        found.append(int(least[np.lexsort(costs[least].T[::-1])[0]]))
    return found


@dataclass(kw_only=True)
class _Kept:
    """Rows worth keeping, gathered batch by batch, and what is best of all rows."""

    axes: tuple[Axis, ...]
    objectives: tuple[Objective, ...]
    unit: str
    share: float
    gridded: bool
    seen: int = 0
    parts: list[Columns] = field(default_factory=list)
    places: list[NDArray[np.int64]] = field(default_factory=list)
    sampled: list[NDArray[np.bool_]] = field(default_factory=list)
    contests: dict[str, _Contest] = field(default_factory=dict)

    @property
    def held(self) -> dict[str, float]:
        """Sizes of the question, which is not to be made easier: each at its middle."""
        asked = [axis for axis in self.axes if axis.name in SIZES and axis.few]
        return {axis.name: float(axis.middle) for axis in asked} if self.gridded else {}

    def add(self, batch: Columns) -> None:
        count = rows_of(batch)
        if not count:
            return
        batch = with_per_unit(batch, self.unit)
        number = np.arange(self.seen, self.seen + count)
        self.seen += count
        sample = np.random.default_rng(int(number[0])).random(count) < self.share
        keep = sample | self._best(batch, number) | self._through_the_middle(batch)
        self.parts.append({name: column[keep] for name, column in batch.items()})
        self.places.append(number[keep])
        self.sampled.append(sample[keep])

    def _best(self, batch: Columns, number: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows of the batch may be best for their question."""
        costs = np.stack([one.cost(batch) for one in self.objectives], axis=1)
        able = _flag(batch, FITS) & _flag(batch, FEASIBLE)
        for name, value in self.held.items():
            able = able & (batch[name] == value)
        asked = [axis.name for axis in self.axes if axis.name in QUESTIONS]
        questions = [", ".join(words) for words in zip(*(batch[name] for name in asked), strict=True)]
        named = np.array(questions or [""] * len(number), dtype=object)
        special = np.zeros(len(number), dtype=bool)
        for question in dict.fromkeys(named.tolist()):
            at = np.flatnonzero(able & (named == question))
            if at.size:
                contest = self.contests.setdefault(question, _Contest())
                special[at[contest.add(costs[at], number[at])]] = True
        return special

    def _through_the_middle(self, batch: Columns) -> NDArray[np.bool_]:
        """Rows at which at most two numeric axes are away from their middle; none where axes are samples."""
        numbers = [axis for axis in self.axes if not axis.words]
        away = np.zeros(rows_of(batch), dtype=np.int8)
        if self.share >= 1 or not self.gridded:
            return away > 0
        for axis in numbers:
            away += batch[axis.name] != axis.middle
        return np.asarray(away <= 2)

    def joined(self) -> tuple[Columns, NDArray[np.int64], NDArray[np.bool_]]:
        columns = {name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]}
        return columns, np.concatenate(self.places), np.concatenate(self.sampled)


def _flag(batch: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.bool_]:
    """A column of yes and no; yes everywhere, where there is no such column."""
    found = batch.get(name)
    return np.ones(rows_of(batch), dtype=bool) if found is None else np.asarray(found, dtype=bool)


def _texts(spec: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = spec.get(name, ())
    return (found,) if isinstance(found, str) else tuple(found)


def _asked(spec: Mapping[str, Any]) -> frozenset[str]:
    table = spec.get("table", {})
    return frozenset((*table.get("words", ()), *table.get("axes", ())))


def rows_of(batch: Mapping[str, NDArray[Any]]) -> int:
    return len(next(iter(batch.values()), ()))


def work_of(batch: Mapping[str, NDArray[Any]], unit: str) -> NDArray[np.float64]:
    """Tokens or samples of each point."""
    rate = batch.get(f"{unit}s_per_s")
    return np.ones(rows_of(batch)) if rate is None else np.asarray(rate * batch["latency_s"])


def with_per_unit(batch: Columns, unit: str) -> Columns:
    """The columns, and energy and cost per token or sample."""
    if "latency_s" not in batch:
        return batch
    work = work_of(batch, unit)
    more = {new.format(unit): batch[old] / work for old, new in PER_UNIT.items() if old in batch}
    return {**batch, **more}


def _objectives(
    spec: Mapping[str, Any], facts: _Facts, columns: tuple[str, ...], unit: str
) -> tuple[Objective, ...]:
    """Those of the spec, else latency and energy (per token or sample where the amount of work varies)."""
    known = (*columns, *(new.format(unit) for old, new in PER_UNIT.items() if old in columns))
    asked = [(text, False) for text in _texts(spec, "minimize")]
    asked += [(text, True) for text in _texts(spec, "maximize")]
    if not asked:
        energy = PER_UNIT["energy_j"].format(unit) if facts.work_varies else "energy_j"
        names = [name for name in ("latency_s", energy, "peak_memory_bytes") if name in known]
        asked = [(name, False) for name in names[:2]]
    if not asked:
        raise HwsimError(
            f"no latency, energy or memory among the columns {', '.join(known[:8])}; this is no sweep's table"
        )
    return tuple(objective(text, known, largest=largest) for text, largest in asked)
