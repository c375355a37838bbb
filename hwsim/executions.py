"""What runs at a single point: a record per operator row, and the timeline of all executions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graphs.expressions import Environment
from hwsim.engines.demand import Array
from hwsim.evaluate import Evaluator, Totals
from hwsim.lifetimes import live_bytes
from hwsim.optable import OpTable
from hwsim.result import OpRow, TimelineEvent


def op_rows(table: OpTable, evaluator: Evaluator, totals: Totals) -> list[OpRow]:
    """Totals of every operator row at a single point."""
    values = evaluator.row_values()
    environment = Environment(evaluator.sizes)
    overhead = _overhead_per_kernel(table, values.seconds, totals)
    leaves = not evaluator.machine.device.memory.resident
    found = []
    for index, row in enumerate(table.rows):
        count = int(table.counts[index])
        compute, memory = float(values.compute_s[index]) * count, float(values.memory_s[index]) * count
        exchange = float(values.exchange_s[index]) * count
        dims = " ".join(f"{n}={_plain(environment(e))}" for n, e in row.operator.dims)
        if not dims and row.operator.outputs:
            dims = "x".join(_plain(environment(e)) for e in row.operator.outputs[0].shape)
        found.append(
            OpRow(
                kind=row.operator.members[0].kind if row.operator.members else row.operator.kind,
                name=row.operator.name,
                phase=row.phase,
                dims=dims,
                dtype=row.dtype,
                count=count,
                modules=table.module_runs(index),
                latency_s=compute + memory + exchange + overhead * count,
                communication_s=exchange,
                compute_s=compute,
                memory_s=memory,
                overhead_s=overhead * count,
                energy_j=float(values.energy_j[index]) * count,
                flops=float(values.flops[index]) * count,
                flops_executed=float(values.executed[index]) * count,
                dram_bytes=float(values.dram_bytes[index]) * count * leaves,
                onchip_bytes=float(values.onchip_bytes[index]) * count,
                bound=_row_bound(compute, memory, overhead * count, exchange),
                choice=values.choice[index],
                place=row.place,
            )
        )
    return found


def _overhead_per_kernel(table: OpTable, seconds: Array, totals: Totals) -> float:
    """What of the latency no kernel's own work explains, dealt evenly to the kernels."""
    return float((totals.latency_s[0] - table.counts @ seconds) / max(1, table.kernels))


def _row_bound(compute: float, memory: float, overhead: float, exchange: float) -> str:
    parts = ((compute, "compute"), (memory, "memory"), (overhead, "overhead"), (exchange, "communication"))
    return max(parts)[1]


def _plain(value: Any) -> str:
    number = float(value)
    return f"{int(number)}" if number.is_integer() else f"{number:.6g}"


def timeline(table: OpTable, evaluator: Evaluator, totals: Totals) -> list[TimelineEvent]:
    """Every execution in order at a single point; durations sum to the latency."""
    values = evaluator.row_values()
    overhead = _overhead_per_kernel(table, values.seconds, totals)
    start = 0.0
    events = []
    held, gradients = (part.tolist() for part in live_bytes(table.graph, evaluator.sizes))
    for at in _order(table):
        node, index = table.graph.nodes[at], int(table.row_of_node[at])
        duration = float(values.seconds[index]) + overhead
        row = table.rows[index]
        compute, memory = float(values.compute_s[index]), float(values.memory_s[index])
        bound = _row_bound(compute, memory, overhead, float(values.exchange_s[index]))
        kind = row.operator.members[0].kind if row.operator.members else row.operator.kind
        events.append(
            TimelineEvent(
                start_s=start,
                duration_s=duration,
                name=row.operator.name,
                kind=kind,
                phase=node.phase,
                module=table.graph.modules[node.module],
                bound=bound,
                live_bytes=held[at],
                gradient_bytes=gradients[at],
            )
        )
        start += duration
    return events


def _order(table: OpTable) -> Iterator[int]:
    """Nodes in the order they run: micro-steps one after the other, then what runs once."""
    phases = [node.phase for node in table.graph.nodes]
    times = [table.repeats.get(phase, 1) for phase in phases]
    micro = [at for at, phase in enumerate(phases) if phase in table.repeats]
    most = max((times[at] for at in micro), default=0)
    for step in range(most):
        yield from (at for at in micro if step >= most - times[at])
    yield from (at for at, phase in enumerate(phases) if phase not in table.repeats)
