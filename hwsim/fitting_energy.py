"""Fits what whole boards spend beyond their components: two factors, on measured energy of served models.

    power = static + compute x arithmetic + memory x bytes, at most the board's limit

with the row's own measured time, so that no error of a predicted latency is taken for energy; arithmetic and
bytes are in watts of component constants. Rows of image and video tasks are reported and not fitted, as the
lengths of their prompts are assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices import device as find_device
from devices import stack as find_stack
from hwsim.engines.demand import Array
from hwsim.errors import HwsimError
from hwsim.estimating import estimate
from hwsim.fitted import FOLDER
from hwsim.fitting import mean_error, read_entries, write_entries
from hwsim.measurements import served_energy
from hwsim.measurements.predicting import LIMIT, NO_LIMIT_W
from hwsim.measurements.question import Question
from hwsim.measurements.table import read_table

FILE = "ml_energy/llm_serving_energy.csv"
TASKS = ("lm-arena-chat", "gpqa", "sourcegraph-fim")  # of text alone
FACTORS = ("board_compute_scale", "board_memory_scale")
NEUTRAL = dict(zip(FACTORS, (1.0, 1.0), strict=True))
START = np.array([1.5, 2.0])
LOW = 1.0  # a board spends no less than its components
SCALE = 0.1  # log error from which the loss grows like an absolute value


@dataclass(frozen=True, slots=True, kw_only=True)
class Watts:
    """Rows as columns of watts over their measured time: static, two terms [rows, 2], limit, measured."""

    device: NDArray[np.str_]
    model: NDArray[np.str_]
    task: NDArray[np.str_]
    static_w: Array
    terms_w: Array
    limit_w: Array
    measured_w: Array

    def some(self, chosen: NDArray[np.bool_]) -> Watts:
        """These rows only."""
        return Watts(**{name: getattr(self, name)[chosen] for name in self.__slots__})

    @property
    def fitted(self) -> NDArray[np.bool_]:
        """Rows that a fit may use."""
        return np.isin(self.task, TASKS)

    def errors(self, factors: Array) -> Array:
        """ln(ours / measured) of every row."""
        ours = np.minimum(self.static_w + self.terms_w @ factors, self.limit_w)
        return np.asarray(np.log(ours / self.measured_w))


def rows_of(folder: Path) -> Watts:
    """Every row of one device with measured rate and power."""
    table = read_table(folder / FILE)
    power, tasks, models = table.number("avg_power_w"), table.text("task"), table.text("model")
    found: list[dict[str, Any]] = []
    for question in served_energy.questions(table):
        if not isinstance(question, Question) or question.measured_s is None:
            continue
        if question.parallel is not None and question.parallel.devices > 1:
            continue
        device = find_device(question.device)
        seconds = np.asarray(question.measured_s)
        good = np.isfinite(seconds) & np.isfinite(power[question.rows])
        if not good.any():
            continue
        terms_j = _joules(question)
        for at in np.flatnonzero(good).tolist():
            row = int(question.rows[at])
            found.append(
                {
                    "device": device.id, "model": models[row], "task": tasks[row],
                    "static_w": device.energy.static_w, "terms_w": terms_j[at] / seconds[at],
                    "limit_w": device.power.limit_w, "measured_w": power[row],
                }
            )  # fmt: skip
    if not found:
        raise HwsimError(f"{folder / FILE} holds no row to fit energy on")
    return Watts(**{name: np.array([row[name] for row in found]) for name in found[0]})


def _joules(question: Question) -> Array:
    """Joules of the two terms at factors of one, all parts of a question together."""
    size = question.rows.size
    terms = np.zeros((size, len(FACTORS)))
    device = find_device(question.device)
    overrides = {f"coefficient.{name}": value for name, value in NEUTRAL.items()}
    for part in question.parts:
        made = estimate(
            part.graph, device, phase=part.phase, dtype=question.dtype, weights=question.weights,
            kv=question.kv, stack=find_stack(question.protocol.stack),
            overrides={**question.settings, **overrides, LIMIT: NO_LIMIT_W}, **dict(part.sizes),
        )  # fmt: skip
        bytes_j = made.energy_by_j["onchip"] + made.energy_by_j["dram"]
        amounts = (made.energy_by_j["compute"], bytes_j)
        for index, amount in enumerate(amounts):
            terms[:, index] += np.broadcast_to(amount, size) * part.repeats
    return terms


def fit(rows: Watts) -> Array:
    """The two factors, by least squares over log errors with a robust loss."""
    from scipy.optimize import least_squares

    found = least_squares(rows.errors, START, bounds=(LOW, 50.0), loss="soft_l1", f_scale=SCALE)
    return np.asarray(found.x)


def left_out(rows: Watts, labels: NDArray[np.str_]) -> Array:
    """Errors of every row by factors fitted without the rows of its label (model, or device)."""
    errors = np.full(labels.size, np.nan)
    for label in np.unique(labels):
        out = labels == label
        errors[out] = rows.some(out).errors(fit(rows.some(~out & rows.fitted)))
    return errors


def constant_power(rows: Watts) -> Array:
    """Errors of one constant power per device: what a fit has to beat."""
    errors = np.full(rows.device.size, np.nan)
    for device in np.unique(rows.device):
        own = rows.device == device
        errors[own] = np.log(np.median(rows.measured_w[own & rows.fitted]) / rows.measured_w[own])
    return errors


def write(rows: Watts, factors: Array, folder: Path = FOLDER) -> Path:
    """Write the factors of GPU boards."""
    used = rows.some(rows.fitted)
    entries = read_entries(FOLDER / "simt-energy.toml")
    devices, models = np.unique(used.device), np.unique(used.model)
    story = (
        f"fitted on {used.device.size} rows of {models.size} models on {' and '.join(devices.tolist())} at "
        f"their measured time, mean absolute error there {mean_error(used.errors(factors)):.1%}"
    )
    for name, value in zip(FACTORS, factors, strict=True):
        entries[name] |= {"value": float(value), "source": story}
    path = folder / "simt-energy.toml"
    write_entries(
        path, "engine", entries, fitted_on=f"{FILE}; make fit",
        comment="Written by `make fit`: what boards of GPUs spend beyond the constants of components.",
    )  # fmt: skip
    return path


def section(rows: Watts, factors: Array) -> list[str]:
    """The fit as lines of a page: factors, errors on rows fitted, and on models and devices left out."""
    text = rows.some(rows.fitted)
    by_model, by_device = left_out(rows, rows.model), left_out(rows, rows.device)
    constant = constant_power(rows)
    lines = ["| factor | value |", "|---|---|"]
    lines += [f"| {name} | {value:.3g} |" for name, value in zip(FACTORS, factors, strict=True)]
    lines += [
        "",
        f"Fitted on {text.device.size} rows of text tasks. Mean absolute error of power, and so of energy",
        "at the measured time:",
        "",
        "| device | task | rows | in the fit | model left out | device left out | constant power |",
        "|---|---|---|---|---|---|---|",
    ]
    own = rows.errors(factors)
    for device in np.unique(rows.device):
        tasks: Sequence[str] = [*TASKS, *sorted(set(rows.task[rows.device == device]) - set(TASKS))]
        for name, chosen in [("all text", rows.fitted), *((task, rows.task == task) for task in tasks)]:
            at = chosen & (rows.device == device)
            if at.any():
                parts = (f"{mean_error(one[at]):.1%}" for one in (own, by_model, by_device, constant))
                lines.append(f"| {device} | {name} | {at.sum()} | {' | '.join(parts)} |")
    at = rows.fitted
    parts = (f"{mean_error(one[at]):.1%}" for one in (own, by_model, by_device, constant))
    lines.append(f"| all | all text | {at.sum()} | {' | '.join(parts)} |")
    return lines
