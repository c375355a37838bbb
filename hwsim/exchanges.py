"""Prices the collectives of a table: seconds on the links of their axis, and what work may hide them.

An exchange that names no work is waited for. One that names some (attention of the same ranks, the backward
pass) runs beside it: only what is longer than that work is waited for, so that together they take
max(work, exchange).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphs.expressions import Environment
from graphs.ir import BACKWARD, RECOMPUTE, WEIGHT, OpNode
from graphs.work.collective import ATTENTION, LAST_BACKWARD, NOTHING
from hwsim.engines.demand import Array
from hwsim.machine import Machine
from hwsim.network import collective_s, ranks_of, wire_byte
from hwsim.optable import OpTable
from hwsim.stacked import Stacked

SHAPE = "collective"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """Seconds and bytes sent of each exchange, [rows, points or 1]; bytes are those of one rank."""

    seconds: Array
    byte: Array


class Exchanges:
    """The collective rows of a table."""

    def __init__(self, table: OpTable) -> None:
        self.rows = [index for index, row in enumerate(table.rows) if row.work.shape == SHAPE]
        self.counts = table.counts[self.rows]
        self._operators = [table.rows[index].operator for index in self.rows]
        self._elements = Stacked([table.rows[index].work.dims["elements"] for index in self.rows])
        self._times = [float(table.rows[index].work.dims["times"].value or 0) for index in self.rows]
        self._width = [table.rows[index].read_bits[0] / 8 for index in self.rows]
        self._once = np.array([float(table.once(table.rows[index].phase)) for index in self.rows])
        self.behind = [one.attribute("behind") for one in self._operators]
        self.axes = [one.attribute("axis") for one in self._operators]
        self.hiding = {name: _hiding(table, name) for name in set(self.behind) - {NOTHING}}

    def price(self, values: Environment, machine: Machine) -> Exchanged:
        """All exchanges; an axis without a path has one rank, and nothing to exchange."""
        if not self.rows:
            nothing = np.zeros((0, 1))
            return Exchanged(seconds=nothing, byte=nothing)
        elements = self._elements(values)
        seconds, sent = [], []
        for index, one in enumerate(self._operators):
            path = machine.path(one.attribute("axis"))
            byte = elements[index] * self._width[index]
            times = self._times[index]
            took = collective_s(
                one.name, byte, path, machine.structure.coefficients, direct=machine.stack.direct_all_reduce
            )
            seconds.append(times * took)
            sent.append(times * wire_byte(one.name, byte, ranks_of(path)))
        return Exchanged(seconds=_rows(seconds), byte=_rows(sent))

    def waited(self, exchanged: Exchanged, working: Mapping[str, Array], *, once: bool = False) -> Array:
        """Seconds that work does not hide, [points]; `working` are seconds of the work named.

        With `once`, of those exchanges only that run once however many micro-batches there are.
        """
        total = np.zeros(1)
        counts = self.counts * self._once if once else self.counts
        for name in sorted(set(self.behind)):
            if name:  # different links are busy at once; the longest is waited for
                each = [self._spent(name, exchanged, counts, axis) for axis in sorted(set(self.axes))]
                hidden = working.get(name, np.zeros(1))
                total = total + np.maximum(0.0, np.maximum.reduce(np.broadcast_arrays(*each)) - hidden)
            else:
                total = total + self._spent(name, exchanged, counts)
        return total

    def _spent(self, behind: str, exchanged: Exchanged, counts: Array, axis: str | None = None) -> Array:
        """Seconds of the exchanges that name this work, over one axis or all."""
        mine = [
            at
            for at, one in enumerate(zip(self.behind, self.axes, strict=True))
            if one[0] == behind and axis in (None, one[1])
        ]
        return np.asarray(np.einsum("r,rp->p", counts[mine], exchanged.seconds[mine]))


def _rows(values: list[Array]) -> Array:
    return np.stack(np.broadcast_arrays(*(np.atleast_1d(value) for value in values)))


def _hiding(table: OpTable, name: str) -> Array:
    """How many runs of each row may hide exchanges that name this work."""
    chosen = np.array([_does(node, name) for node in table.graph.nodes], dtype=bool)
    runs = np.bincount(table.row_of_node[chosen], minlength=len(table.rows)).astype(np.float64)
    if name == LAST_BACKWARD:
        return runs
    once = np.bincount(table.row_of_node, minlength=len(table.rows))
    return np.asarray(runs * table.counts / np.maximum(once, 1))


def _does(node: OpNode, name: str) -> bool:
    one = node.operator.members[0] if node.operator.members else node.operator
    if one.kind == SHAPE:
        return False
    if name != ATTENTION:
        return node.phase in ((BACKWARD, RECOMPUTE) if name in (LAST_BACKWARD, BACKWARD) else (name,))
    plain = one.kind == "gemm" and len(one.inputs) > 1 and one.inputs[1].role != WEIGHT
    return one.kind.startswith("attention") or plain
