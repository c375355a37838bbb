"""Answers a measurement file: finds its layout, prices every question, and writes a prediction or a note per row."""

from __future__ import annotations

import csv
import os
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from devices import DeviceError, device as find_device, stack as find_stack
from graphs.errors import GraphError
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.estimating import estimate
from hwsim.measurements.question import Layout, Question, Refusal
from hwsim.measurements.table import Table, read_table

_NOT_LAYOUTS = ("table", "question", "event", "predicting", "judging")


@dataclass(frozen=True, slots=True)
class Predictions:
    """Per row of a file: predicted value with interval for each target (NaN without one), note, device id and op."""

    table: Table
    layout: Layout
    values: dict[str, NDArray[np.float64]]
    low: dict[str, NDArray[np.float64]]
    high: dict[str, NDArray[np.float64]]
    notes: list[str]
    devices: list[str]
    ops: list[str]
    tiers: set[str] = field(default_factory=set)


@cache
def layouts() -> tuple[Layout, ...]:
    """Every layout of this folder."""
    package = import_module("hwsim.measurements")
    found = []
    for info in pkgutil.iter_modules(package.__path__):
        if info.name not in _NOT_LAYOUTS:
            module = import_module(f"hwsim.measurements.{info.name}")
            found.append(Layout(info.name, module.TITLE, module.NEEDS, module.__name__))
    return tuple(found)


def layout_of(table: Table) -> Layout:
    """The most specific layout whose columns the file has."""
    fitting = [one for one in layouts() if one.needs <= set(table.names)]
    if fitting:
        return max(fitting, key=lambda one: len(one.needs))
    closest = max(layouts(), key=lambda one: len(one.needs & set(table.names)))
    missing = sorted(closest.needs - set(table.names))
    raise HwsimError(
        f"{table.path} has no known layout; closest is {closest.name!r}, which also needs {', '.join(missing)} "
        f"(hwsim validate --layouts lists all)"
    )


def predict(path: str | Path) -> Predictions:
    """Predictions for every row of a measurement file."""
    table = read_table(path)
    layout = layout_of(table)
    module: Any = import_module(layout.module)
    made = Predictions(table, layout, {}, {}, {}, [""] * table.length, [""] * table.length, [""] * table.length)
    for device, rows in table.groups("device").items():
        for row in rows:
            made.devices[row] = device[0]
    for question in module.questions(table):
        if isinstance(question, Refusal):
            _refuse(made, question.rows, question.note, question.op)
        else:
            _answer(made, question)
    unanswered = [i for i, note in enumerate(made.notes) if not note and not _predicted(made, i)]
    _refuse(made, np.array(unanswered, dtype=np.intp), "this layout makes no question of the row", "")
    return made


def _predicted(made: Predictions, row: int) -> bool:
    return any(np.isfinite(values[row]) for values in made.values.values())


def _refuse(made: Predictions, rows: NDArray[np.intp], note: str, op: str) -> None:
    for row in rows:
        made.notes[row] = note
        made.ops[row] = made.ops[row] or op


def _answer(made: Predictions, question: Question) -> None:
    try:
        machine = find_device(question.device)
    except DeviceError as error:
        _refuse(made, question.rows, f"unknown device: {error}", question.op)
        return
    good = np.ones(question.rows.size, dtype=bool)
    for value in question.sizes.values():
        good &= np.isfinite(value) & (np.asarray(value) >= 0)
    _refuse(made, question.rows[~good], "a size is missing or negative", question.op)
    rows = question.rows[good]
    if not rows.size:
        return
    protocol = question.protocol
    sizes = {name: np.broadcast_to(np.asarray(value, dtype=np.float64), good.shape)[good] for name, value in question.sizes.items()}
    try:
        result = estimate(
            question.graph, machine, phase=question.phase, dtype=question.dtype, weights=question.weights, kv=question.kv,
            stack=find_stack(protocol.stack), warm=protocol.warm, **sizes,
        )  # fmt: skip
    except (HwsimError, GraphError, DeviceError) as error:
        _refuse(made, rows, str(error), question.op)
        return
    made.tiers.add(result.provenance["tier"])
    amount = None if question.amount is None else np.broadcast_to(question.amount, good.shape)[good]
    repeats = np.broadcast_to(question.repeats, good.shape)[good]
    for store, seconds in (
        (made.values, result.latency_s), (made.low, result.latency_low_s), (made.high, result.latency_high_s)
    ):  # fmt: skip
        column = store.setdefault(question.target, np.full(made.table.length, np.nan))
        whole = np.maximum(np.asarray(seconds) * repeats, protocol.floor_s)
        column[rows] = whole * question.unit if amount is None else amount / whole
    if amount is not None:  # the slow end of a time is the low end of a rate
        low, high = made.low[question.target], made.high[question.target]
        low[rows], high[rows] = high[rows].copy(), low[rows].copy()
    for row in rows:
        made.devices[row], made.ops[row] = machine.id, question.op


def write_predictions(made: Predictions, path: str | Path) -> None:
    """Every input row, in order, with predicted value, interval and note added; written aside, then renamed."""
    header, columns = list(made.table.names), []
    for index, target in enumerate(made.values or {"latency_us": np.full(made.table.length, np.nan)}):
        name = "predicted_us" if index == 0 and target.endswith("_us") else f"predicted_{target}"
        header += [name, "low_us" if index == 0 else f"low_{target}", "high_us" if index == 0 else f"high_{target}"]
        columns += [made.values.get(target), made.low.get(target), made.high.get(target)]
    header.append("note")
    temporary = Path(f"{path}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(_lines(made, columns))
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise HwsimError(f"{str(path)!r} cannot be written: {error.strerror}; choose another place for --out") from error


def _lines(made: Predictions, columns: list[NDArray[np.float64] | None]) -> Iterator[list[str]]:
    texts = list(made.table.columns.values())
    for row in range(made.table.length):
        numbers = ["" if c is None or not np.isfinite(c[row]) else f"{c[row]:.6g}" for c in columns]
        yield [*(column[row] for column in texts), *numbers, made.notes[row]]


