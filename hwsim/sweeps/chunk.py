"""Prices one chunk of a plan: a call of `hwsim.estimate` over arrays for each workload, and columns made of
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hwsim.estimating import estimate
from hwsim.result import Estimate
from hwsim.sweeps.batch import Batch, Words, slim
from hwsim.sweeps.columns import BOUND, bound_of, numbers_of
from hwsim.sweeps.plan import Case, Plan
from hwsim.sweeps.possible import possible
from hwsim.sweeps.together import EACH, longest, together
from hwsim.tracing import remember

FEASIBLE = "feasible"


def price_chunk(plan: Plan, number: int) -> Batch:
    """The columns of chunk `number`; the same wherever and whenever it is priced."""
    remember(plan.graphs)
    chunk = plan.chunks[number]
    case, rows = plan.cases[chunk.case], chunk.stop - chunk.start
    values = case.values(chunk.start, chunk.stop)
    if plan.impossible == "skip":
        allowed = np.broadcast_to(possible(case, values, rows), (rows,))
        if not np.all(allowed):
            values = {name: value[allowed] if np.ndim(value) else value for name, value in values.items()}
            rows = int(np.sum(allowed))
    return price_points(plan, case, values, rows)


def price_points(plan: Plan, case: Case, values: Mapping[str, Any], rows: int) -> Batch:
    """The columns of `rows` points of a case with these values of its axes."""
    numbers: dict[str, Any] = {name: slim(values[name]) for name in plan.axes}
    words = {name: Words(names=(text,)) for name, text in case.labels.items()}
    if rows == 0:
        empty = {name: np.zeros(0) for name in _result_names(plan)}
        bound = {BOUND: Words(names=("",))} if BOUND in plan.columns else {}
        return Batch(rows=0, words={**words, **bound}, numbers={**numbers, **empty})
    found = estimates(case, values, plan.price)
    numbers |= _numbers(plan, case, found)
    if BOUND in plan.columns:
        words[BOUND] = _bound(plan, case, found, rows)
    batch = Batch(rows=rows, words=words, numbers=numbers)
    if not plan.where:
        return batch
    feasible = np.ones(rows, dtype=bool)
    for one in plan.where:
        feasible &= np.broadcast_to(one.value(batch.columns(one.columns)), (rows,))
    batch = replace(batch, numbers={**numbers, FEASIBLE: feasible})
    return batch.some(feasible) if plan.keep == "feasible" else batch


def estimates(case: Case, values: Mapping[str, Any], price: Any) -> list[Estimate]:
    """The estimate of every workload of a case over all points."""
    overrides = {**case.settings, **{name: value for name, value in values.items() if "." in name}}
    found = []
    for one in case.workloads:
        sizes = {name: value for name, value in values.items() if name in one.open}
        found.append(
            estimate(
                one.model, case.cluster or case.device, phase=one.phase, dtype=one.dtype,
                weights=one.weights, kv=one.kv,
                stack=case.stack, price=price, overrides=overrides, **{**sizes, **one.sizes},
            )
        )  # fmt: skip
    return found


def _result_names(plan: Plan) -> tuple[str, ...]:
    feasible = (FEASIBLE,) if plan.where else ()
    return (*plan.shares, *(name for name in plan.columns if name != BOUND), *feasible)


def _numbers(plan: Plan, case: Case, found: Sequence[Estimate]) -> dict[str, Any]:
    if not plan.combine:
        return numbers_of(found[0], plan.columns)
    needed = tuple(dict.fromkeys((*plan.columns, *EACH)))
    columns = [numbers_of(one, needed) for one in found]
    each = {
        f"{one.name}_{name}": numbers[name]
        for one, numbers in zip(case.workloads, columns, strict=True)
        for name in EACH
    }
    joined = together(columns, [one.share for one in case.workloads], plan.combine)
    return {**each, **{name: joined[name] for name in plan.columns if name != BOUND}}


def _bound(plan: Plan, case: Case, found: Sequence[Estimate], rows: int) -> Words:
    bounds = [bound_of(one) for one in found]
    if plan.combine:
        columns = [{"latency_s": one.latency_s} for one in found]
        bounds = [longest(bounds, columns, [one.share for one in case.workloads])]
    (bound,) = bounds
    assert bound.codes is not None  # `bound_of` makes one for every point
    return replace(bound, codes=np.broadcast_to(bound.codes, (rows,)))
