"""The points of a study as a table: what varies, then what came out; the best ones first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.studies.study import Study
from reports.summary import counted
from reports.units import called, shown

ROWS = 2000
_RESULTS = (
    *("latency_s", "latency_low_s", "latency_high_s", "tokens_per_s", "samples_per_s", "energy_j"),
    *("average_power_w", "peak_memory_bytes", "fits", "cost_usd", "mfu", "mbu", "bound", "clock_scale"),
)
_HINTS = {
    "latency_s": "<50ms",
    "energy_j": "<2",
    "average_power_w": "<300",
    "peak_memory_bytes": "<24G",
    "mfu": ">30%",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Its name in the sweep, in words, and an example of a filter."""

    name: str
    label: str
    number: bool
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What is read, and the number that it is sorted by; None for words and what is absent."""

    text: str
    raw: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One point; `front`: no other is better in every objective; `usable`: it fits and is allowed."""

    cells: tuple[Cell, ...]
    front: bool
    usable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """A table, and what it holds in words."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str


def points(study: Study, most: int = ROWS) -> Points:
    """All points, or the best ones and an even sample of the others."""
    fronts = np.array(sorted({int(at) for answer in study.answers for at in answer.front}), dtype=np.intp)
    chosen = _chosen(study, fronts, most)
    columns = _columns(study)
    on_front = set(fronts.tolist())
    rows = tuple(
        Row(
            cells=tuple(_cell(column, study.columns[column.name][at]) for column in columns),
            front=at in on_front,
            usable=bool(study.usable[at]),
        )
        for at in chosen.tolist()
    )
    note = f"Marked are the points no other beats in every objective; what is grey {study.flaw}."
    if len(rows) < study.rows:
        note = (
            f"{counted(len(rows))} of {counted(study.rows)} points: the best ones and an even sample. {note}"
        )
    return Points(columns=columns, rows=rows, note=note)


def _chosen(study: Study, fronts: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    best = [at for answer in study.answers for at in answer.best if at is not None]
    first = np.unique(np.concatenate([fronts, np.array(best, dtype=np.intp)]))[:most]
    others = np.setdiff1d(np.flatnonzero(study.sample), first)
    room = most - first.size
    if others.size > room:
        others = others[np.linspace(0, others.size - 1, room).astype(np.intp)] if room else others[:0]
    # in the order of the sweep
    return np.sort(np.concatenate([first, others]))


def _columns(study: Study) -> tuple[Column, ...]:
    objectives = [one.name for one in study.objectives if one.name in study.columns]
    names = [axis.name for axis in study.axes] + [
        follower for axis in study.axes for follower in axis.followers
    ]
    names += [name for name in (*objectives, *_RESULTS) if study.has(name) or name == "bound"]
    kept = [name for name in dict.fromkeys(names) if name in study.columns and not _useless(study, name)]
    return tuple(
        Column(
            name=name,
            label=called(name),
            number=study.columns[name].dtype.kind == "f",
            hint=_HINTS.get(name, "") if study.columns[name].dtype.kind == "f" else "",
        )
        for name in kept
    )


def _useless(study: Study, name: str) -> bool:
    """Samples per second beside equal tokens per second, and a clock that is never held down."""
    if name == "samples_per_s":
        return study.unit == "token"
    return name == "clock_scale" and bool(np.all(study.columns[name] > 0.9995))


def _cell(column: Column, value: Any) -> Cell:
    raw = None
    if column.number and math.isfinite(value):
        raw = f"{float(value):.6g}"
    return Cell(text=shown(column.name, value), raw=raw)
