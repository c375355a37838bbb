"""What there is to price: cases (structural combinations), their numeric points, and chunks of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from devices import Device, Stack
from devices.cluster import Cluster
from graphs.ir import OperatorGraph
from hwsim.sweeps.conditions import Formula, Objective
from hwsim.sweeps.points import Space
from hwsim.sweeps.together import per_workload

if TYPE_CHECKING:
    from hwsim.sweeps.spec import SearchSpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Workload:
    """What one machine is asked: a model in a phase with some sizes given; `open` are all sizes it has."""

    name: str
    model: str | OperatorGraph
    phase: str
    sizes: Mapping[str, Any]
    open: frozenset[str]
    dtype: str | None = None
    weights: str | None = None
    kv: str | None = None
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One structural combination: what its text columns say, what is priced on what, and the
    numeric points.
    """

    labels: Mapping[str, str]
    asked: Mapping[str, str]  # the same as the spec writes it
    found: Mapping[str, str]  # what models, devices and dtypes turned out to be
    workloads: tuple[Workload, ...]
    device: Device
    cluster: Cluster | None  # what joins several of them
    stack: Stack
    settings: Mapping[str, Any]
    own: Mapping[str, float]  # what axes that multiply the device's own values multiply
    space: Space

    def values(self, start: int, stop: int) -> dict[str, Any]:
        """The value of every numeric name at points [start, stop); one number where it does not vary."""
        return self.named(self.space.at(start, stop))

    def named(self, columns: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
        """Values of every name, of values of every axis."""
        found: dict[str, Any] = {}
        for names, column in columns.items():
            value = column[0] if column.size and np.all(column == column[0]) else column
            for name in names:
                found[name] = value * self.own[name] if name in self.own else value
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Points [start, stop) of a case."""

    number: int
    case: int
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Everything needed to price any chunk of a sweep anywhere, and nothing that is not picklable."""

    document: Mapping[str, Any]
    cases: tuple[Case, ...]
    graphs: Mapping[tuple[str, str], OperatorGraph]
    chunk_points: int
    axes: tuple[str, ...]
    columns: tuple[str, ...]
    where: tuple[Formula, ...]
    objectives: tuple[Objective, ...]
    search: SearchSpec | None
    combine: str | None
    keep: str
    impossible: str
    price: Any
    warnings: tuple[str, ...]

    @property
    def points(self) -> int:
        """Points that are priced: all, or the trials of a search."""
        return sum(points for _, points in self._parts)

    @property
    def _parts(self) -> list[tuple[int, int]]:
        if self.search is not None:
            return [(0, self.search.trials)]
        return [(index, case.space.points) for index, case in enumerate(self.cases)]

    @cached_property
    def chunks(self) -> tuple[Chunk, ...]:
        """What is priced and written together; of a search its rounds, whatever their cases."""
        bounds = (
            (index, start, min(start + self.chunk_points, points))
            for index, points in self._parts
            for start in range(0, points, self.chunk_points)
        )
        return tuple(
            Chunk(number=number, case=index, start=start, stop=stop)
            for number, (index, start, stop) in enumerate(bounds)
        )

    @property
    def words(self) -> tuple[str, ...]:
        """Names of the text columns that say which case a point belongs to."""
        return tuple(self.cases[0].labels)

    @property
    def shares(self) -> tuple[str, ...]:
        """Columns of each workload of a combined sweep."""
        return per_workload(one.name for one in self.cases[0].workloads) if self.combine else ()
