"""Fits coefficients to measured times: few, physical, in log space, with a robust loss.

A coefficient is free for all devices, for a kind of memory, a vendor, a generation or one device; the
narrowest wins. Every (device, operator) weighs alike, however many rows it has. A value is pulled gently to
that of the next broader place, and to where it began where there is none.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices import Device, DeviceError
from devices import device as find_device
from hwsim.engines.demand import Array
from hwsim.fitted import places_of
from hwsim.measurements.predicting import answer, usable_rows
from hwsim.measurements.question import Question
from hwsim.surface import Surface, patch_lines

STEP = 0.01  # relative step of the finite differences
SCALE = 0.2  # log error from which the loss grows like an absolute value
PULL, PULL_OWN = 0.03, 0.08  # weight of one e-fold away from where a value began, from a broader place's
TOLERANCE = 1e-3  # relative gain below which a fit ends
FEWEST = 2  # rows of a device and operator that say something
AT_MOST_ONE = ("_efficiency", "_share", "overlap")
AT_LEAST_ONE = (
    *("cluster_sharing", "unaligned_traffic", "reduction_slowdown", "long_row_slowdown", "lookup_slowdown"),
    *("widening_slowdown", "unit_sharing", "blocks_together"),
)
# two sectors hold any unaligned one; beyond a cluster of sixteen blocks nothing is shared
LARGEST = {
    "unaligned_traffic": 2.0,
    "cluster_sharing": 16.0,
    "unit_sharing": 4.0,
    "blocks_together": 32.0,
    "block_flop": 1e8,
    "block_begin_cycle": 1e5,
}

Key = tuple[str, str]  # coefficient; where: "" for all, or a place of `hwsim.fitted.places_of`


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Measured rows of one device and operator, as positions in the question that they answer.

    Coefficients in `apart` are known not to touch it, so that a fit need not ask again when they change.
    `weight` is how much more the sample counts than another, as the square of it.
    """

    device: Device
    op: str
    question: Question
    at: NDArray[np.intp]
    measured_s: Array
    apart: frozenset[str] = frozenset()
    weight: float = 1.0


def samples_of(
    asked: Iterable[tuple[Question, Array]],
    *,
    most: int,
    rng: np.random.Generator,
    least_s: float = 0.0,
    ops: Callable[[str], bool] = lambda op: True,
    weight: float = 1.0,
) -> Iterator[Sample]:
    """Up to `most` rows of every device and operator of the questions of a file, drawn of those of `least_s`
    or more.
    """
    for question, measured in asked:
        if not ops(question.op):
            continue
        try:
            device = find_device(question.device)
        except DeviceError:
            continue
        at = np.flatnonzero(usable_rows(question) & np.isfinite(measured) & (measured >= max(least_s, 1e-12)))
        if at.size < FEWEST:
            continue
        if at.size > most:
            at = np.sort(rng.choice(at, most, replace=False))
        yield Sample(
            device=device, op=question.op, question=question, at=at, measured_s=measured[at], weight=weight
        )


def log_errors(sample: Sample, coefficients: Mapping[str, Any], times: int = 1) -> Array:
    """ln(predicted / measured) of every row of a sample, `times` over where coefficients are arrays."""
    at, measured = np.tile(sample.at, times), np.tile(sample.measured_s, times)
    amounts, _ = answer(sample.question, sample.device, at, coefficients)
    return np.asarray(np.log(amounts[0] / measured))


@dataclass(frozen=True, slots=True)
class Fitted:
    """Values by coefficient and place, and the samples they were fitted on."""

    values: Mapping[Key, float]
    samples: Sequence[Sample]

    def of(self, device: Device) -> dict[str, float]:
        """The values of a device: of all, or of the narrowest place that it belongs to and that has one."""
        names = {name for name, _ in self.values}
        chosen = {name: narrowest(name, device, self.values) for name in sorted(names)}
        return {name: self.values[key] for name, key in chosen.items() if key is not None}

    def errors(self, samples: Sequence[Sample] | None = None) -> dict[tuple[str, str], Array]:
        """Log errors by (device, op)."""
        found: dict[tuple[str, str], list[Array]] = {}
        for one in self.samples if samples is None else samples:
            found.setdefault((one.device.id, one.op), []).append(log_errors(one, self.of(one.device)))
        return {key: np.concatenate(parts) for key, parts in found.items()}


def narrowest(name: str, device: Device, keys: Container[Key], below: str | None = None) -> Key | None:
    """The key of a coefficient for a device: of its narrowest place that has one, or of those broader than
    `below`.
    """
    places = ("", *places_of(device))
    if below is not None:
        places = places[: places.index(below)]
    return next(((name, place) for place in reversed(places) if (name, place) in keys), None)


class _Problem:
    """Weighted log errors of samples as a function of the logarithms of the keys, and their slopes."""

    def __init__(
        self, samples: Sequence[Sample], start: Mapping[Key, float], held: Mapping[Key, float]
    ) -> None:
        self.samples, self.keys = samples, list(start)
        self._held = [
            {k: v for k, v in Fitted(held, samples).of(one.device).items() if k not in one.apart}
            for one in samples
        ]
        self.top = np.array([_top(name) for name, _ in self.keys])
        self.bottom = np.array([_bottom(name) for name, _ in self.keys])
        begin = np.log([start[key] for key in self.keys])
        self.begin = np.clip(begin, self.bottom + 0.01, self.top - 0.01)
        place = {key: index for index, key in enumerate(self.keys)}
        self._uses = [
            {name: place[key] for name in sorted({n for n, _ in self.keys} - one.apart)
             if (key := narrowest(name, one.device, place)) is not None}
            for one in samples
        ]  # fmt: skip
        self._parent = [self._broader(key, place) for key in self.keys]
        self._touched: list[NDArray[np.bool_] | None] = [None] * len(samples)

    def _broader(self, key: Key, place: Mapping[Key, int]) -> int | None:
        """The next broader key of the same coefficient, which this one is pulled to."""
        name, where = key
        for one in self.samples:
            if where and where in places_of(one.device):
                found = narrowest(name, one.device, place, below=where)
                return None if found is None else place[found]
        return None

    def _pulled(self, x: Array) -> Array:
        target = [self.begin[i] if parent is None else x[parent] for i, parent in enumerate(self._parent)]
        weight = np.where([parent is None for parent in self._parent], PULL, PULL_OWN)
        return np.asarray(weight * (x - np.array(target)))

    def residuals(self, x: Array) -> Array:
        return np.concatenate([*(self._at(i, x[None])[0] for i in range(len(self.samples))), self._pulled(x)])

    def slopes(self, x: Array) -> Array:
        """Finite differences, those of a sample in one go; what a key does not touch at first is not tried
        again.
        """
        steps = np.where(x + STEP > self.top, -STEP, STEP)
        parts = []
        for index, one in enumerate(self.samples):
            touched = self._touched[index]
            tried = sorted(set(self._uses[index].values())) if touched is None else np.flatnonzero(touched)
            points = np.concatenate([x[None], x + np.diag(steps)[tried]])
            errors = self._at(index, points)
            found = np.zeros((one.at.size, x.size))
            found[:, tried] = ((errors[1:] - errors[0]) / steps[tried, None]).T
            if touched is None:
                self._touched[index] = np.any(np.abs(found) > 1e-10, axis=0)
            parts.append(found)
        pulled = np.stack([self._pulled(x + step) - self._pulled(x) for step in np.diag(steps)], axis=1)
        return np.concatenate([*parts, pulled / steps])

    def _at(self, index: int, points: Array) -> Array:
        """Weighted log errors of a sample at several settings of the keys [settings, keys]: one estimate."""
        one, uses = self.samples[index], self._uses[index]
        chosen: dict[str, Any] = dict(self._held[index])
        for name, at in uses.items():
            values = np.exp(points[:, at])
            same = bool(np.all(values == values[0]))
            chosen[name] = float(values[0]) if same else np.repeat(values, one.at.size)
        errors = log_errors(one, chosen, times=len(points)).reshape(len(points), -1)
        return np.asarray(errors * one.weight / np.sqrt(one.at.size))


def fit(
    samples: Sequence[Sample],
    start: Mapping[Key, float],
    *,
    iterations: int = 25,
    held: Mapping[Key, float] | None = None,
) -> Fitted:
    """Robust least squares over log errors, from `start`, whose keys are free; `held` values are not."""
    from scipy.optimize import least_squares

    problem = _Problem(samples, start, held or {})
    found = least_squares(
        problem.residuals, problem.begin, jac=problem.slopes, loss="soft_l1", f_scale=SCALE / np.sqrt(200),
        bounds=(problem.bottom, problem.top), max_nfev=iterations, x_scale=0.3, ftol=TOLERANCE,
    )  # fmt: skip
    free = {key: float(np.exp(v)) for key, v in zip(problem.keys, found.x, strict=True)}
    return Fitted({**(held or {}), **free}, samples)


def _bottom(name: str) -> float:
    """The logarithm of the smallest value a coefficient may take."""
    return 0.0 if name in AT_LEAST_ONE else -30.0


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
    """The values in a coefficient file with meaning and source; none where there is no file."""
    if not path.is_file():
        return {}
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: entry for name, entry in document.items() if isinstance(entry, dict) and "value" in entry}


def write_entries(
    path: Path,
    scope: str,
    entries: Mapping[str, Mapping[str, Any]],
    *,
    fitted_on: str,
    comment: str,
    surface: Surface | None = None,
) -> None:
    """Write a coefficient file: scope, what it was fitted on, each value with its meaning and source, and
    measured kernels.
    """
    lines = [f"# {comment}", f'scope = "{scope}"', f'fitted_on = "{fitted_on}"']
    for name, entry in entries.items():
        lines += ["", f"[{name}]", f"value = {float(entry['value']):.5g}"]
        lines += [f'{key} = "{entry[key]}"' for key in ("meaning", "source")]
    for key, patch in (surface or {}).items():
        lines += patch_lines(key, patch)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
