"""Searches a space that is too large to price in full: optuna proposes points in rounds, array calls price
each.

Proposals depend on the seed and on what was found so far, and pricing has no chance in it. So a search is
resumed by proposing again, with what is written in place of pricing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.sweeps.axes import Axis
from hwsim.sweeps.batch import Batch, joined
from hwsim.sweeps.chunk import price_points
from hwsim.sweeps.plan import Case, Plan
from hwsim.sweeps.possible import possible
from hwsim.sweeps.processes import Priced, Writer
from hwsim.sweeps.spec import SearchSpec
from hwsim.sweeps.store import read_part
from hwsim.tracing import remember


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proposal:
    """A trial of optuna: its case (None where that combination is impossible) and its place on every axis."""

    trial: Any
    case: int | None
    values: dict[tuple[str, ...], float]


def price_search(plan: Plan, spec: SearchSpec, missing: Sequence[int], writer: Writer | None) -> Priced:
    """Go through all rounds, pricing those that are missing and reading what is written of the others."""
    search, priced = Search(plan, spec), frozenset(missing)
    for chunk in plan.chunks:
        proposals = search.propose(chunk.stop - chunk.start)
        places = possible_places(plan, proposals)
        if chunk.number in priced:
            batch = price_round(plan, proposals)
            if writer is not None:
                writer.write(chunk.number, batch)
            yield chunk.number, batch.rows, batch if writer is None else None
        else:
            assert writer is not None  # nothing else keeps what was priced before
            batch = read_part(writer.folder, chunk.number, writer.table, None)
        search.learn(proposals, places, batch)


class Search:
    """A search in progress: `propose` a round, then `learn` from its batch."""

    def __init__(self, plan: Plan, spec: SearchSpec) -> None:
        self.plan, self.spec = plan, spec
        self._study = _study(plan, spec)
        self._choices = {
            name: list(dict.fromkeys(case.asked[name] for case in plan.cases)) for name in plan.cases[0].asked
        }
        self._cases = {tuple(case.asked.values()): index for index, case in enumerate(plan.cases)}

    def propose(self, count: int) -> list[Proposal]:
        """The next round."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # optuna marks what is useful here as experimental
            return [self._proposal(self._study.ask()) for _ in range(count)]

    def _proposal(self, trial: Any) -> Proposal:
        words = tuple(
            trial.suggest_categorical(name, names) if len(names) > 1 else names[0]
            for name, names in self._choices.items()
        )
        case = self._cases.get(words)
        space = self.plan.cases[case or 0].space
        values = {axis.names: _suggested(trial, axis) for axis in space.axes}
        return Proposal(trial=trial, case=case, values=values)

    def learn(self, proposals: Sequence[Proposal], places: NDArray[np.intp], batch: Batch) -> None:
        """Tell optuna what the proposals at `places`, which are the rows of `batch`, came to."""
        from optuna.trial import TrialState

        needs = {name for one in self.plan.objectives for name in one.formula.columns}
        needs |= {name for one in self.plan.where for name in one.columns}
        columns = batch.columns(needs)
        goals = [np.broadcast_to(one.formula.value(columns), (batch.rows,)) for one in self.plan.objectives]
        missed = [np.broadcast_to(one.excess(columns), (batch.rows,)) for one in self.plan.where]
        row_of = {int(place): row for row, place in enumerate(places)}
        for place, one in enumerate(proposals):
            row = row_of.get(place)
            found = None if row is None else [float(goal[row]) for goal in goals]
            if found is None or not all(map(math.isfinite, found)):
                self._study.tell(one.trial, state=TrialState.FAIL)
                continue
            one.trial.set_user_attr(EXCESS, [float(excess[row]) for excess in missed])
            self._study.tell(one.trial, found)


EXCESS = "excess"


def _study(plan: Plan, spec: SearchSpec) -> Any:
    try:
        import optuna
    except ModuleNotFoundError:
        raise HwsimError("--search needs optuna; install hwsim[sweep]") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def excess(trial: Any) -> list[float]:
        found: list[float] = trial.user_attrs.get(EXCESS, [])
        return found

    constraints = excess if plan.where else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optuna marks what is useful here as experimental
        if spec.chosen(len(plan.objectives)) == "tpe":
            sampler: Any = optuna.samplers.TPESampler(
                seed=spec.seed, multivariate=True, constant_liar=True, constraints_func=constraints
            )
        else:
            sampler = optuna.samplers.NSGAIISampler(
                seed=spec.seed, population_size=max(2, plan.chunk_points), constraints_func=constraints
            )
    directions: Any = ["maximize" if one.largest else "minimize" for one in plan.objectives]
    return optuna.create_study(directions=directions, sampler=sampler)


def _suggested(trial: Any, axis: Axis) -> float:
    """A value of the axis: of a list by its place in it, of a range anywhere."""
    name = ",".join(axis.names)
    if axis.values is not None:
        return float(axis.values[trial.suggest_int(name, 0, axis.values.size - 1)])
    if not axis.multiple:
        return float(trial.suggest_float(name, axis.low, axis.high, log=axis.log))
    low, high = math.ceil(axis.low / axis.multiple), math.floor(axis.high / axis.multiple)
    return float(trial.suggest_int(name, low, high, log=axis.log) * axis.multiple)


def possible_places(plan: Plan, proposals: Sequence[Proposal]) -> NDArray[np.intp]:
    """Which proposals can be priced at all."""
    remember(plan.graphs)
    return np.sort(
        np.concatenate([places for _, places, _ in _by_case(plan, proposals)] or [np.zeros(0, np.intp)])
    )


def price_round(plan: Plan, proposals: Sequence[Proposal]) -> Batch:
    """The possible proposals of a round, in their order, one array call for each case among them."""
    batches, places = [], []
    for case, at, values in _by_case(plan, proposals):
        batches.append(price_points(plan, case, values, at.size))
        places.append(at)
    if not batches:
        return price_points(plan, plan.cases[0], dict.fromkeys(plan.axes, np.zeros(0)), 0)
    return joined(batches, np.argsort(np.concatenate(places), kind="stable"))


def _by_case(
    plan: Plan, proposals: Sequence[Proposal]
) -> Iterator[tuple[Case, NDArray[np.intp], dict[str, Any]]]:
    """Cases with the places and values of their possible proposals."""
    asked = np.array([-1 if one.case is None else one.case for one in proposals])
    for index in np.unique(asked[asked >= 0]).tolist():
        case, at = plan.cases[index], np.flatnonzero(asked == index)
        names = proposals[at[0]].values
        values = case.named(
            {name: np.array([proposals[i].values[name] for i in at.tolist()]) for name in names}
        )
        allowed = np.broadcast_to(possible(case, values, at.size), at.shape)
        if np.any(allowed):
            some = {name: value[allowed] if np.ndim(value) else value for name, value in values.items()}
            yield case, at[allowed], some
