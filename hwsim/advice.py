"""What advice is: outcomes of set-ups, steps between them with what each buys, and the document of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwsim.result import Estimate

SCHEMA = "hwsim.advice/1"
GOALS = ("latency", "throughput", "energy", "memory", "cost")
NOTICED = 0.005  # smaller changes are no change
PARTS = ("compute", "memory", "overhead", "communication", "power", "bubble")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one set-up gives; a unit is a new token, or a sample where the model has no tokens."""

    latency_s: float
    low_s: float
    high_s: float
    units: float
    energy_per_unit_j: float
    memory_bytes: float
    capacity_bytes: float
    cost_per_unit_usd: float | None
    breakdown_s: Mapping[str, float]

    @property
    def units_per_s(self) -> float:
        return self.units / self.latency_s

    @property
    def fits(self) -> bool:
        return self.memory_bytes <= self.capacity_bytes

    def amount(self, goal: str) -> float | None:
        """What is to become small for a goal."""
        amounts = {
            "latency": self.latency_s,
            "throughput": 1 / self.units_per_s,
            "energy": self.energy_per_unit_j,
            "memory": self.memory_bytes,
            "cost": self.cost_per_unit_usd,
        }
        return amounts[goal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change and what it buys: `gains` are before / after per goal, so that more than 1 is better."""

    kind: str  # dtype weights kv attention stack layout offload batch device machine together
    name: str
    outcome: Outcome
    gains: Mapping[str, float | None]
    relieves: str | None  # the part of the time (per unit) that shrinks most
    before_s: float  # of that part, for as many units as after the step
    after_s: float
    reason: str
    warnings: tuple[str, ...] = ()

    def gain(self, goal: str) -> float:
        """0 where it is not known."""
        return self.gains[goal] or 0.0

    @property
    def matters(self) -> bool:
        """Whether anything changes that one would notice."""
        return any(gain is not None and abs(np.log(gain)) > NOTICED for gain in self.gains.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A set-up; its neighbours, ranked by a goal, those that fit first; what a better machine would give."""

    goal: str
    base: Estimate
    now: Outcome
    steps: tuple[Step, ...]
    machine: tuple[Step, ...]
    together: Step | None
    without_effect: tuple[str, ...]
    refused: Mapping[str, str]  # step -> why it cannot be taken

    def best(self, goal: str) -> Step | None:
        """The step that gains most for a goal, of those that fit; None where none gains."""
        fitting = [s for s in self.steps if s.outcome.fits and s.gain(goal) > 1 + NOTICED]
        return max(fitting, key=lambda step: step.gain(goal), default=None)

    def to_dict(self) -> dict[str, Any]:
        """The document `hwsim.advice/1`; absent quantities are None."""
        from hwsim.document import plain

        return {
            "schema": SCHEMA,
            "goal": self.goal,
            "base": self.base.to_dict(ops=False),
            "now": _outcome(self.now),
            "steps": [_step(step) for step in self.steps],
            "together": None if self.together is None else _step(self.together),
            "machine": [_step(step) for step in self.machine],
            "without_effect": list(self.without_effect),
            "refused": plain(self.refused),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)


def _outcome(one: Outcome) -> dict[str, Any]:
    return {
        "latency_s": {"value": one.latency_s, "low": one.low_s, "high": one.high_s},
        "units": one.units,
        "units_per_s": one.units_per_s,
        "energy_per_unit_j": one.energy_per_unit_j,
        "memory_bytes": one.memory_bytes,
        "fits": one.fits,
        "cost_per_unit_usd": one.cost_per_unit_usd,
        "breakdown_s": dict(one.breakdown_s),
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "kind": step.kind,
        "name": step.name,
        "gains": dict(step.gains),
        "relieves": step.relieves,
        "part_s": {"before": step.before_s, "after": step.after_s},
        "reason": step.reason,
        "outcome": _outcome(step.outcome),
        "warnings": list(step.warnings),
    }
