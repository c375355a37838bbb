"""The lowered workload: distinct operator rows with counts, reuse distances and live sets, ready for
arithmetic.

Nothing per design point walks the op list: a row stands for all ops with the same operator and the same reuse
distances, `counts` say how often it runs under each module template, and peak memory is the largest of a few
linear forms over distinct sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from graphs.expressions import Expr
from graphs.ir import DEVICE, FORWARD, Operator, OperatorGraph
from graphs.work import Work

NEVER = -1  # reuse class of data that no earlier op touched, or that outlives the run


@dataclass(frozen=True, slots=True)
class Row:
    """One distinct signature: operator, its work, and the reuse class of each operand (NEVER = from DRAM)."""

    operator: Operator
    work: Work
    dtype: str
    read_bits: tuple[float, ...]
    write_bits: tuple[float, ...]
    read_classes: tuple[int, ...]
    write_classes: tuple[int, ...]
    phase: str = FORWARD
    place: str = DEVICE


@dataclass(frozen=True, slots=True)
class LinearForms:
    """Byte totals over distinct element counts: coefficients [forms, sizes]; bytes = coefficients @ sizes."""

    coefficients: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OpTable:
    """A workload lowered for one software stack; see the module docstring."""

    graph: OperatorGraph
    rows: tuple[Row, ...]
    row_of_node: NDArray[np.intp]
    sizes: tuple[Expr, ...]
    distances: LinearForms
    resident: Mapping[str, NDArray[np.float64]]
    live: LinearForms
    live_gradients: LinearForms  # what of each live set are gradients
    unknown: Mapping[tuple[str, str], int]
    repeats: Mapping[str, int] = field(
        default_factory=dict
    )  # how often a phase runs in a step; 1 unless named

    @cached_property
    def counts(self) -> NDArray[np.float64]:
        """How often each row runs."""
        once = np.bincount(self.row_of_node, minlength=len(self.rows))
        times = np.array([self.repeats.get(row.phase, 1) for row in self.rows], dtype=np.float64)
        return np.asarray(once * times, dtype=np.float64)

    def once(self, phase: str) -> bool:
        """Whether a phase runs once beside others that micro-batches repeat."""
        return bool(self.repeats) and phase not in self.repeats

    @cached_property
    def kernels(self) -> int:
        """How many kernels run."""
        return int(self.counts.sum())

    @cached_property
    def runs(self) -> Mapping[tuple[int, int], int]:
        """(row, module index) -> runs; sparse."""
        modules = np.array([node.module for node in self.graph.nodes], dtype=np.intp)
        found: dict[tuple[int, int], int] = {}
        for row, module in zip(self.row_of_node.tolist(), modules.tolist(), strict=True):
            found[row, module] = found.get((row, module), 0) + 1
        return found

    def module_runs(self, row: int) -> tuple[tuple[str, int], ...]:
        """Module templates of one row with their runs."""
        templates, times = self.graph.templates, self.repeats.get(self.rows[row].phase, 1)
        found: dict[str, int] = {}
        for (at, module), runs in self.runs.items():
            if at == row:
                found[templates[module]] = found.get(templates[module], 0) + runs * times
        return tuple(found.items())
