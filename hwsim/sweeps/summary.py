"""The answer of a sweep in a page: what was priced, the front, the best of each case, what matters most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hwsim.sweeps.chunk import FEASIBLE
from hwsim.sweeps.result import Row, SweepResult
from hwsim.sweeps.sensitivity import Elasticity
from hwsim.sweeps.store import SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a sweep says in short; lists are empty where it names no objective or nothing meets the
    constraints.
    """

    points: int
    feasible: int
    front: Sequence[Row]
    best: Sequence[Row]  # of the first objective, in each case
    sensitivity: Sequence[Elasticity]
    varying: Sequence[str]  # the text columns and axes that differ between points


def summarize(result: SweepResult) -> Summary:
    """Read the table once for each part of the answer."""
    table = result.table
    feasible, seen = 0, {name: set[str]() for name in table.words}
    for number in range(len(result.source.sizes)):
        columns = (*table.words, *((FEASIBLE,) if FEASIBLE in table.numbers else ()))
        batch = result.source.batch(number, columns)
        feasible += int(np.sum(batch.number(FEASIBLE))) if FEASIBLE in table.numbers else batch.rows
        for name in table.words:
            word = batch.words[name]
            seen[name] |= set(word.names)
    wanted = bool(result.objectives) and feasible > 0
    words = tuple(name for name in table.words if len(seen[name]) > 1)
    return Summary(
        points=result.points,
        feasible=feasible,
        front=result.front() if wanted else [],
        best=result.best(by=words) if wanted else [],
        sensitivity=result.sensitivity() if wanted and table.axes else [],
        varying=(*words, *table.leads),
    )


def summary_document(result: SweepResult, summary: Summary) -> dict[str, Any]:
    """The document of `hwsim sweep --json`."""
    return {
        "schema": SCHEMA,
        "spec": dict(result.spec),
        "points": summary.points,
        "feasible": summary.feasible,
        "folder": None if result.folder is None else str(result.folder),
        "columns": list(result.columns),
        "front": list(summary.front),
        "best": list(summary.best),
        "sensitivity": [asdict(one) for one in summary.sensitivity],
        "warnings": list(result.warnings),
    }
