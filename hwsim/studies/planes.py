"""An objective over two axes at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.engines.demand import Array
from hwsim.studies.profiles import Group, can_be_held, held_values, rows_where
from hwsim.studies.study import Axis, Study
from hwsim.sweeps.conditions import Objective

_CELLS = 10  # bins of either axis where points are samples


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plane:
    """An objective over two axes: `values[row of y, column of x]`, NaN where there is no point."""

    x: Axis
    y: Axis
    x_values: Array  # of a grid the values, of samples the edges of the cells
    y_values: Array
    values: Array
    fits: NDArray[np.bool_]
    label: str
    held: Mapping[str, Any]
    binned: bool


def plane(study: Study, x: Axis, y: Axis, objective: Objective, group: Group) -> Plane:
    """The objective over two numeric axes."""
    values = study.value(objective)
    binned = not (x.few and y.few and can_be_held(study, (x, y)))
    held = {} if binned else held_values(study, (x, y))
    rows = np.flatnonzero(
        group.rows & np.isfinite(values) & (study.sample if binned else rows_where(study, held))
    )
    (columns, x_values), (lines, y_values) = (_cells(study, axis, rows, binned) for axis in (x, y))
    shape = (_size(y, y_values, binned), _size(x, x_values, binned))
    table = np.full(shape, np.nan)
    fits = np.ones(shape, dtype=bool)
    cell = lines * shape[1] + columns
    order = np.argsort(cell, kind="stable")
    for at in np.split(order, np.flatnonzero(np.diff(cell[order])) + 1):
        if at.size:
            row, column = divmod(int(cell[at[0]]), shape[1])
            table[row, column] = np.median(values[rows[at]])
            fits[row, column] = np.mean(study.usable[rows[at]]) >= 0.5
    return Plane(
        x=x, y=y, x_values=x_values, y_values=y_values, values=table, fits=fits, label=group.label, held=held,
        binned=binned,
    )  # fmt: skip


def _in_bins(axis: Axis, binned: bool) -> bool:
    return binned and not (axis.few and len(axis.values) <= _CELLS)


def _size(axis: Axis, values: Array, binned: bool) -> int:
    return values.size - 1 if _in_bins(axis, binned) else values.size


def _cells(study: Study, axis: Axis, rows: NDArray[np.intp], binned: bool) -> tuple[NDArray[np.intp], Array]:
    """The place of each row along one axis, and the values there (edges, where cells are bins)."""
    column = study.columns[axis.name][rows].astype(np.float64)
    if not _in_bins(axis, binned):
        values = axis.values.astype(np.float64)
        return np.searchsorted(values, column), values
    low, high = float(axis.values[0]), float(axis.values[-1])
    edges = np.geomspace(low, high, _CELLS + 1) if axis.logarithmic else np.linspace(low, high, _CELLS + 1)
    return np.clip(np.searchsorted(edges, column, side="right") - 1, 0, _CELLS - 1), edges
