"""Answers a measurement file: finds its layout and prices every question, a prediction or a note per row."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices import Device, DeviceError
from devices import stack as find_stack
from devices.cluster import Cluster
from devices.cluster import machine as find_machine
from graphs.errors import GraphError
from hwsim.errors import HwsimError
from hwsim.estimating import estimate
from hwsim.measurements.question import Layout, Question, Refusal, Target
from hwsim.measurements.table import Rows, Table, read_table

Array = NDArray[np.float64]
_TRIES = 64  # failing estimates of one question before the rows left are refused together
_MAY_BE_ZERO = ("context", "padding")
SUFFIX = "_at_measured_time"  # of energies at the time that a row measured, see Question.measured_s
LIMIT, NO_LIMIT_W = "device.power.limit", 1e12
_OURS = (HwsimError, GraphError, DeviceError)


@dataclass(frozen=True, slots=True)
class Predictions:
    """Per row of a file: value and interval for each target (NaN without one), note, device id and op."""

    table: Table
    layout: Layout
    values: dict[str, Array]
    low: dict[str, Array]
    high: dict[str, Array]
    notes: list[str]
    devices: list[str]
    ops: list[str]
    tiers: set[str] = field(default_factory=set)
    columns: dict[str, str] = field(default_factory=dict)  # measured column of values named otherwise

    def measured(self, target: str) -> Array:
        """What the file says of a target."""
        return self.table.number(self.columns.get(target, target))

    @property
    def predicted(self) -> NDArray[np.bool_]:
        """Rows with a prediction of any target."""
        found = np.zeros(self.table.length, dtype=bool)
        for values in self.values.values():
            found |= np.isfinite(values)
        return found


@cache
def layouts() -> tuple[Layout, ...]:
    """Every layout of this folder: the modules that say which columns they need."""
    package = import_module("hwsim.measurements")
    found = []
    for info in pkgutil.iter_modules(package.__path__):
        module: Any = import_module(f"hwsim.measurements.{info.name}")
        if hasattr(module, "NEEDS"):
            needs = module.NEEDS if isinstance(module.NEEDS, tuple) else (module.NEEDS,)
            targets = getattr(module, "TARGETS", ("latency_us",))
            found.append(Layout(info.name, module.TITLE, needs, module.__name__, targets))
    return tuple(found)


def layout_of(table: Table) -> Layout:
    """The layout that needs most of the file's columns."""
    names = set(table.names)
    fitting = [(len(needs), one) for one in layouts() for needs in one.needs if needs <= names]
    if fitting:
        return max(fitting, key=lambda pair: pair[0])[1]
    shares = [(len(needs & names) / len(needs), needs, one) for one in layouts() for needs in one.needs]
    _, needs, closest = max(shares, key=lambda entry: entry[0])
    raise HwsimError(
        f"{table.path} has no known layout; closest is {closest.name!r}, which also needs "
        f"{', '.join(sorted(needs - names))}; `hwsim validate --layouts` lists all"
    )


def questions_of(path: str | Path) -> Iterator[tuple[Question, NDArray[np.float64]]]:
    """The questions of a file with a time or a rate as target, and the measured seconds of their rows."""
    table = read_table(path)
    module: Any = import_module(layout_of(table).module)
    for question in module.questions(table):
        if not isinstance(question, Question):
            continue
        target = question.targets[0]
        measured = table.number(target.column)[question.rows] / target.unit
        with np.errstate(all="ignore"):
            if target.quantity == "time":
                yield question, measured * target.amount
            elif target.quantity == "rate":
                yield question, target.amount / measured


def predict(path: str | Path) -> Predictions:
    """Predictions for every row of a measurement file."""
    table = read_table(path)
    made = _nothing_yet(table, layout_of(table))
    _device.cache_clear()
    _stack.cache_clear()
    failure = _ask(made)
    _strike_broken(made)
    silent = [row for row in np.flatnonzero(~made.predicted) if not made.notes[row]]
    _refuse(made, np.array(silent, dtype=np.intp), failure or "this layout makes no question of the row", "")
    return made


def _ask(made: Predictions) -> str:
    """Answer what the layout makes of the file; what it tripped over, if it did.

    A layout that fails on one row must not cost the answers that it has given: the rows left say what
    happened.
    """
    module: Any = import_module(made.layout.module)
    with np.errstate(all="ignore"):  # sizes of nonsense become no finite number, and are noted
        try:
            for question in module.questions(made.table):
                if isinstance(question, Refusal):
                    _refuse(made, question.rows, question.note, question.op)
                else:
                    _answer(made, question)
        except Exception as error:
            return f"hwsim failed: {type(error).__name__}: {error}"
    return ""


def _strike_broken(made: Predictions) -> None:
    """Take back what was predicted for lines of another length than the header."""
    for row, note in made.table.broken.items():
        for store in (made.values, made.low, made.high):
            for column in store.values():
                column[row] = np.nan
        made.notes[row] = note


def _nothing_yet(table: Table, layout: Layout) -> Predictions:
    """No answers; columns for those targets of the layout that the file has, or for all of them."""
    wanted = [name for name in layout.targets if table.has(name)] or list(layout.targets)
    values, low, high = ({name: np.full(table.length, np.nan) for name in wanted} for _ in range(3))
    blank = [""] * table.length
    return Predictions(table, layout, values, low, high, list(blank), table.text("device"), list(blank))


def _refuse(made: Predictions, rows: Rows, note: str, op: str) -> None:
    for row in rows.tolist():
        made.notes[row] = made.notes[row] or note
        made.ops[row] = made.ops[row] or op


def _answer(made: Predictions, question: Question) -> None:
    targets = [target for target in question.targets if target.column in made.values]
    if not targets:
        return
    machine = _device(question.device)
    if isinstance(machine, str):
        _refuse(made, question.rows, machine, question.op)
        return
    usable = usable_rows(question)
    _refuse(made, question.rows[~usable], "a size is missing, negative or zero", question.op)
    _price(made, question, targets, machine, np.flatnonzero(usable), [_TRIES])


@lru_cache(maxsize=256)
def _device(name: str) -> Device | Cluster | str:
    """The device of a name, or why there is none; tables name a few devices thousands of times."""
    try:
        return find_machine(name)
    except DeviceError as error:
        return f"unknown device: {error}" if name else "no device is named"


_stack = cache(find_stack)


def usable_rows(question: Question) -> NDArray[np.bool_]:
    """Rows whose sizes are all there."""
    usable = np.ones(question.rows.size, dtype=bool)
    for part in question.parts:
        for name, value in part.sizes.items():
            size = np.asarray(value, dtype=np.float64)
            usable &= np.isfinite(size) & (size >= 0 if name in _MAY_BE_ZERO else size > 0)
        usable &= np.isfinite(np.asarray(part.repeats, dtype=np.float64))
    return usable


def _price(
    made: Predictions,
    question: Question,
    targets: Sequence[Target],
    machine: Device | Cluster,
    at: Rows,
    tries: list[int],
) -> None:
    """Price the rows at some positions of the question; where that fails, each half of them."""
    if not at.size:
        return
    try:
        amounts, tiers = answer(question, machine, at)
        made.tiers.update(tiers)
    except Exception as error:
        # one question that fails must not take the other rows of a file with it: the note says what happened
        if not isinstance(error, _OURS):
            _refuse(made, question.rows[at], f"hwsim failed: {type(error).__name__}: {error}", question.op)
            return
        tries[0] -= 1
        if at.size == 1 or tries[0] < 0:
            _refuse(made, question.rows[at], str(error), question.op)
        else:
            half = at.size // 2
            _price(made, question, targets, machine, at[:half], tries)
            _price(made, question, targets, machine, at[half:], tries)
        return
    rows = question.rows[at]
    made_any = np.zeros(at.size, dtype=bool)
    for target in targets:
        made_any |= _store(made, target, rows, at, amounts)
    if question.measured_s is not None:
        one = machine.device if isinstance(machine, Cluster) else machine
        _store_at_measured_time(made, question, targets, one, at)
    for row, done in zip(rows.tolist(), made_any.tolist(), strict=True):
        made.devices[row], made.ops[row] = machine.id, made.ops[row] or question.op
        if not done:
            made.notes[row] = made.notes[row] or "no finite prediction for these sizes"
        elif question.note and question.note not in made.notes[row]:
            made.notes[row] = f"{made.notes[row]}; {question.note}" if made.notes[row] else question.note


def answer(
    question: Question, machine: Device | Cluster, at: Rows, coefficients: Mapping[str, Any] | None = None
) -> tuple[Array, set[str]]:
    """Seconds with interval, joules and FLOP, [5, rows], of the rows at some positions; what they rest on.

    Parts add up; their errors are shared, so the ends of their intervals do, too.
    """
    protocol = question.protocol
    totals = np.zeros((5, at.size))
    tiers: set[str] = set()
    count = question.rows.size
    overrides = {**question.settings, **{f"coefficient.{k}": v for k, v in (coefficients or {}).items()}}
    with np.errstate(all="ignore"):
        for part in question.parts:
            sizes: dict[str, Any] = {
                name: np.broadcast_to(np.asarray(v, np.float64), count)[at] for name, v in part.sizes.items()
            }
            result = estimate(
                part.graph, machine, phase=part.phase, dtype=question.dtype, weights=question.weights,
                kv=question.kv, stack=_stack(protocol.stack), warm=protocol.warm,
                parallel=question.parallel, overrides={**overrides, **part.settings}, **sizes,
            )  # fmt: skip
            tiers.add(str(result.provenance["tier"]))
            repeats = np.broadcast_to(np.asarray(part.repeats, np.float64), count)[at]
            seconds = (result.latency_s, result.latency_low_s, result.latency_high_s)
            amounts = (*seconds, result.energy_j, result.flops)
            for index, amount in enumerate(amounts):
                totals[index] += np.broadcast_to(amount, at.size) * repeats
    times = totals[:3] + protocol.added_s
    return np.stack((times[0], times.min(axis=0), times.max(axis=0), *totals[3:])), tiers


def joules_at_measured_time(question: Question, machine: Device, at: Rows) -> Array:
    """Joules of our work at full clock in the seconds that rows measured, never above the board's limit.

    A test of the energy constants apart from the latency model; never a prediction.
    """
    seconds, limit_w = (
        np.broadcast_to(np.asarray(value, np.float64), question.rows.size)[at]
        for value in (question.measured_s, question.settings.get(LIMIT, machine.power.limit_w))
    )
    free = replace(question, settings={**question.settings, LIMIT: NO_LIMIT_W})
    amounts, _ = answer(free, machine, at)
    static_w = machine.energy.static_w
    work_j = amounts[3] - static_w * (amounts[0] - question.protocol.added_s)
    return np.asarray(np.minimum(work_j + static_w * seconds, limit_w * seconds))


def _store_at_measured_time(
    made: Predictions, question: Question, targets: Sequence[Target], machine: Device, at: Rows
) -> None:
    """Energies at the measured time as targets of their own; without interval, as no latency is predicted."""
    energies = [target for target in targets if target.quantity == "energy"]
    if not energies:
        return
    joules = joules_at_measured_time(question, machine, at)
    for target in energies:
        name = target.column + SUFFIX
        made.columns[name] = target.column
        for store in (made.values, made.low, made.high):
            store.setdefault(name, np.full(made.table.length, np.nan))
        amount = np.broadcast_to(np.asarray(target.amount, np.float64), question.rows.size)[at]
        with np.errstate(all="ignore"):
            made.values[name][question.rows[at]] = joules / amount * target.unit


def _store(made: Predictions, target: Target, rows: Rows, at: Rows, answer: Array) -> NDArray[np.bool_]:
    """Turn an answer into the target's column; which rows got a finite value."""
    seconds, low, high, joules, flop = answer
    amount = np.asarray(target.amount, dtype=np.float64)
    amount = (amount[at] if amount.ndim else amount) * np.ones(at.size)
    with np.errstate(all="ignore"):
        if target.quantity == "time":
            found = [one / amount * target.unit for one in (seconds, low, high)]
        elif target.quantity == "rate":  # the slow end of a time is the low end of a rate
            found = [amount / one * target.unit for one in (seconds, high, low)]
        elif target.quantity == "work":
            found = [flop / one / amount * target.unit for one in (seconds, high, low)]
        else:  # energy and power are as uncertain as the time they are spread over
            value = joules / (amount if target.quantity == "energy" else seconds) * target.unit
            found = [value, value * low / seconds, value * high / seconds]
    good = np.isfinite(found[0]) & (found[0] > 0)
    for store, values in zip((made.values, made.low, made.high), found, strict=True):
        store[target.column][rows[good]] = values[good]
    return np.asarray(good)
