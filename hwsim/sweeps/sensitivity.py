"""Elasticities: by how many per cent an objective changes when an axis grows by one per cent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwsim.engines.demand import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Elasticity:
    """d ln(objective) / d ln(axis) over a sweep; `explained` is the share of variance that all axes explain.

    `swing` is the factor by which the objective changes from the axis' least value to its largest by this
    slope.
    """

    objective: str
    axis: str
    elasticity: float
    explained: float
    low: float
    high: float

    @property
    def swing(self) -> float:
        return float((self.high / self.low) ** self.elasticity)


def elasticities(
    batches: Iterable[tuple[str, Mapping[str, Array]]], axes: Sequence[str], objectives: Sequence[str]
) -> tuple[Elasticity, ...]:
    """Least squares of logarithms over (case, columns) batches, each case with a level of its own.

    Points where an axis or objective is not above zero have no logarithm and are left out, as is an axis that
    never varies.
    """
    sums: dict[str, _Sums] = {}
    low, high = np.full(len(axes), np.inf), np.full(len(axes), -np.inf)
    for case, columns in batches:
        rows = np.stack([np.asarray(columns[name], dtype=np.float64) for name in (*axes, *objectives)])
        rows = rows[:, np.all((rows > 0) & np.isfinite(rows), axis=0)]
        if not rows.size:
            continue
        low = np.minimum(low, np.min(rows[: len(axes)], axis=1))
        high = np.maximum(high, np.max(rows[: len(axes)], axis=1))
        logs = np.log(rows)
        if case not in sums:
            sums[case] = _Sums(logs.mean(axis=1))
        sums[case].add(logs)
    moments: Any = sum((one.moments() for one in sums.values()), np.zeros((len(axes) + len(objectives),) * 2))
    # what rounding leaves of an axis that does not vary is no variance
    varying = [i for i in range(len(axes)) if high[i] > low[i] and moments[i, i] > 1e-20]
    found = []
    for position, objective in enumerate(objectives, start=len(axes)):
        inner, outer = moments[np.ix_(varying, varying)], moments[varying, position]
        slopes = np.linalg.lstsq(inner, outer, rcond=1e-12)[0]
        total = moments[position, position]
        explained = float(np.clip(slopes @ outer / total, 0.0, 1.0)) if total > 1e-20 else 1.0
        found += [
            Elasticity(
                objective=objective, axis=axes[i], elasticity=float(slope), explained=explained,
                low=float(low[i]), high=float(high[i]),
            )
            for i, slope in zip(varying, slopes, strict=True)
        ]  # fmt: skip
    return tuple(sorted(found, key=lambda one: (objectives.index(one.objective), -abs(one.elasticity))))


class _Sums:
    """Sums and products of logarithms of one case, about a point near their mean."""

    def __init__(self, about: Array) -> None:
        self._about = about[:, None]
        self._count = 0
        self._sum = np.zeros(about.size)
        self._products = np.zeros((about.size, about.size))

    def add(self, logs: Array) -> None:
        logs = logs - self._about
        self._count += logs.shape[1]
        self._sum += logs.sum(axis=1)
        self._products += np.einsum("ip,jp->ij", logs, logs)

    def moments(self) -> Array:
        return self._products - np.outer(self._sum, self._sum) / self._count
