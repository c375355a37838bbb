"""What the neighbours of a set-up would buy, as a table: percent changes, and why."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hwsim.advice import GOALS, Advice, Outcome, Step
from reports.numbers import UNKNOWN, byte_count, quantity, seconds, significant
from reports.table import plain_table, workload


def advice_table(advice: Advice) -> RenderableType:
    """Where the set-up stands, its steps ranked, all at once, and what a better machine would give."""
    base, unit = advice.base, "sample" if advice.base.tokens is None else "token"
    parts: list[RenderableType] = [
        Text(f"{base.model} on {base.device}: {workload(base)}"),
        Text(_now(advice.now, unit)),
        Text(f"bound: {base.bound}; steps ranked by {advice.goal}; energy and cost are per {unit}"),
        _steps(advice.steps, unit),
    ]
    if best := _best(advice):
        parts += [Text(f"\nBest for {best}")]
    if advice.together is not None:
        parts += [Text(f"\nAll at once: {_sentence(advice.together)}")]
    if advice.machine:
        parts += [Text("\nOn a better machine"), _steps(advice.machine, unit)]
    if advice.without_effect:
        parts += [Text(f"\nNo effect: {', '.join(advice.without_effect)}")]
    parts += [Text(f"Not possible: {name}: {why}") for name, why in advice.refused.items()]
    parts += [Text(f"note: {step.name}: {warning}") for step in advice.steps for warning in step.warnings]
    return Group(*parts)


def _now(now: Outcome, unit: str) -> str:
    text = f"now: {seconds(now.latency_s)}, {quantity(now.units_per_s, '')} {unit}s/s, "
    text += f"{quantity(now.energy_per_unit_j, 'J', small=True)} per {unit}, {byte_count(now.memory_bytes)}"
    if now.cost_per_unit_usd is not None:
        text += f", $ {significant(1e6 * now.cost_per_unit_usd)} per million {unit}s"
    return text if now.fits else f"{text}: DOES NOT FIT in {byte_count(now.capacity_bytes)}"


def _steps(steps: Sequence[Step], unit: str) -> Table:
    table = plain_table("step", ">latency", f">{unit}s/s", ">energy", ">memory", ">cost", gap=1)
    table.add_column("because", overflow="fold", ratio=1)
    for step in steps:
        gains = step.gains
        changes = [_change(gains["latency"]), _change(gains["throughput"], rate=True)]
        changes += [_change(gains[goal]) for goal in ("energy", "memory", "cost")]
        why = step.reason if step.outcome.fits else f"{step.reason}; DOES NOT FIT"
        table.add_row(Text(step.name), *changes, Text(why))
    return table


def _best(advice: Advice) -> str:
    """`latency and cost: weights int4:g128 (-47%, -47%); memory: ...`"""
    goals: dict[str, list[str]] = {}
    for goal in GOALS:
        step = advice.best(goal)
        if step is not None and goal != "throughput":
            goals.setdefault(step.name, []).append(f"{goal} ({_change(step.gains[goal])})")
    return "; ".join(f"{', '.join(texts)}: {name}" for name, texts in goals.items())


def _change(gain: float | None, *, rate: bool = False) -> str:
    """Percent by which a quantity changes (a rate with the gain, an amount against it)."""
    if gain is None:
        return UNKNOWN
    factor = gain if rate else 1 / gain
    if factor >= 3:
        return f"x{significant(factor)}"
    percent = round(100 * (factor - 1))
    return f"{percent:+d}%" if percent else "0%"


def _sentence(step: Step) -> str:
    then = step.outcome
    return (
        f"{step.name}: {seconds(then.latency_s)} ({_change(step.gains['latency'])}), "
        f"energy {_change(step.gains['energy'])}, memory {_change(step.gains['memory'])}"
    )
