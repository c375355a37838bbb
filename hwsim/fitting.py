"""Fits coefficients to measured times: few, physical, in log space, with a robust loss.

A coefficient is free for all devices, for one generation or for one device; a narrower one wins. Every
(device, operator) weighs alike, however many rows it has, and every value is pulled gently to where it began.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices import Device, DeviceError
from devices import device as find_device
from hwsim.engines.demand import Array
from hwsim.measurements.predicting import answer, questions_of, usable_rows
from hwsim.measurements.question import Question

STEP = 0.01  # relative step of the finite differences
SCALE = 0.2  # log error from which the loss grows like an absolute value
PULL = 0.02  # weight of one e-fold away from where a value began
FEWEST = 5  # rows of a device and operator that say something
AT_MOST_ONE = ("_efficiency", "_share", "overlap")
AT_LEAST_ONE = ("cluster_sharing", "reduction_slowdown", "unaligned_traffic")
# two sectors hold any unaligned one; beyond a cluster of sixteen blocks nothing is shared
LARGEST = {"unaligned_traffic": 2.0, "cluster_sharing": 16.0}

Key = tuple[str, str]  # coefficient; where: "" for all, a generation or a device id


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Measured rows of one device and operator, as positions in the question that they answer.

    Coefficients in `apart` are known not to touch it, so that a fit need not ask again when they change.
    """

    device: Device
    op: str
    question: Question
    at: NDArray[np.intp]
    measured_s: Array
    apart: frozenset[str] = frozenset()


def samples_of(
    path: str | Path,
    *,
    most: int,
    rng: np.random.Generator,
    least_s: float = 0.0,
    ops: Callable[[str], bool] = lambda op: True,
    skip: str = "",
) -> Iterator[Sample]:
    """Up to `most` rows of every device and operator of a file, drawn of those of `least_s` or more."""
    for question, measured in questions_of(path):
        if not ops(question.op):
            continue
        try:
            device = find_device(question.device)
        except DeviceError:
            continue
        at = np.flatnonzero(usable_rows(question) & np.isfinite(measured) & (measured >= max(least_s, 1e-12)))
        if device.id == skip or at.size < FEWEST:
            continue
        if at.size > most:
            at = np.sort(rng.choice(at, most, replace=False))
        yield Sample(device=device, op=question.op, question=question, at=at, measured_s=measured[at])


def log_errors(sample: Sample, coefficients: Mapping[str, float]) -> Array:
    """ln(predicted / measured) of every row of a sample."""
    amounts, _ = answer(sample.question, sample.device, sample.at, coefficients)
    return np.asarray(np.log(amounts[0] / sample.measured_s))


@dataclass(frozen=True, slots=True)
class Fitted:
    """Values by coefficient and place, and the samples they were fitted on."""

    values: Mapping[Key, float]
    samples: Sequence[Sample]

    def of(self, device: Device) -> dict[str, float]:
        """The values of a device: its own, else of its generation, else of all."""
        found: dict[str, float] = {}
        for place in ("", device.generation, device.id):
            found |= {name: value for (name, where), value in self.values.items() if where == place}
        return found

    def errors(self, samples: Sequence[Sample] | None = None) -> dict[tuple[str, str], Array]:
        """Log errors by (device, op)."""
        found: dict[tuple[str, str], list[Array]] = {}
        for one in self.samples if samples is None else samples:
            found.setdefault((one.device.id, one.op), []).append(log_errors(one, self.of(one.device)))
        return {key: np.concatenate(parts) for key, parts in found.items()}


def fit(
    samples: Sequence[Sample],
    start: Mapping[Key, float],
    *,
    iterations: int = 25,
    held: Mapping[Key, float] | None = None,
) -> Fitted:
    """Robust least squares over log errors, from `start`, whose keys are free; `held` values are not."""
    from scipy.optimize import least_squares

    keys = list(start)
    top = np.array([_top(name) for name, _ in keys])
    bottom = np.array([0.0 if name in AT_LEAST_ONE else -30.0 for name, _ in keys])
    begin = np.clip(np.log([start[key] for key in keys]), bottom + 0.01, top - 0.01)
    memory: dict[tuple[int, bytes], Array] = {}

    def at(x: Array) -> Fitted:
        free = {key: float(np.exp(v)) for key, v in zip(keys, x, strict=True)}
        return Fitted({**(held or {}), **free}, samples)

    def residuals(x: Array) -> Array:
        made = at(x)
        parts = []
        for index, one in enumerate(samples):
            chosen = {k: v for k, v in made.of(one.device).items() if k not in one.apart}
            known = (index, np.array(list(chosen.values())).tobytes())
            if known not in memory:
                memory[known] = log_errors(one, chosen) / np.sqrt(one.at.size)
            parts.append(memory[known])
        return np.concatenate([*parts, PULL * (x - begin)])

    found = least_squares(
        residuals, begin, loss="soft_l1", f_scale=SCALE / np.sqrt(200), bounds=(bottom, top), diff_step=STEP,
        max_nfev=iterations, x_scale=0.3,
    )  # fmt: skip
    return at(found.x)


def _top(name: str) -> float:
    """The logarithm of the largest value a coefficient may take."""
    return 0.0 if name.endswith(AT_MOST_ONE) else float(np.log(LARGEST.get(name, 8000.0)))


def spread_of(errors: Mapping[tuple[str, str], Array]) -> float:
    """Standard deviation of the log error that makes the 80 % interval hold four errors in five."""
    weights = np.concatenate([np.full(e.size, 1 / e.size) for e in errors.values()])
    every = np.abs(np.concatenate(list(errors.values())))
    order = np.argsort(every)
    reached = np.searchsorted(np.cumsum(weights[order]), 0.8 * weights.sum())
    return float(every[order][reached] / 1.2816)


def mean_error(errors: Array) -> float:
    """Mean absolute relative error of log errors."""
    return float(np.mean(np.abs(np.expm1(errors))))


def read_entries(path: Path) -> dict[str, dict[str, Any]]:
    """The entries of a coefficient file; none where there is no file."""
    if not path.is_file():
        return {}
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: entry for name, entry in document.items() if isinstance(entry, dict)}


def write_entries(
    path: Path, scope: str, entries: Mapping[str, Mapping[str, Any]], *, fitted_on: str, comment: str
) -> None:
    """Write a coefficient file: scope, what it was fitted on, and each value with its meaning and source."""
    lines = [f"# {comment}", f'scope = "{scope}"', f'fitted_on = "{fitted_on}"']
    for name, entry in entries.items():
        lines += ["", f"[{name}]", f"value = {float(entry['value']):.5g}"]
        lines += [f'{key} = "{entry[key]}"' for key in ("meaning", "source")]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
