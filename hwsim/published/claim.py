"""What a claim is: the printed figure on one side, the recipe that computes it again on the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

NUMBER, RANGE, WORDS, DERIVED, NOTHING = "number", "range", "words", "derived", "null"
KINDS = (NUMBER, RANGE, WORDS, DERIVED, NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One model in one workload, and what is taken from it; `at` are sizes, `set` device and stack paths.

    A size with several values makes a grid, over which the formula works point by point.

    `within` keeps the operators of one module template, such as `stages.*.attention`; `generate` asks for a
    whole request of that many tokens; `link` is over which class of links the inputs come to the device.
    """

    take: str
    model: str
    phase: str = "forward"
    at: tuple[tuple[str, float | tuple[float, ...]], ...] = ()
    device: str = ""
    dtype: str | None = None
    weights: str | None = None
    kv: str | None = None
    stack: str = "compiled"
    generate: int | None = None
    within: str = ""
    link: str = ""
    set: tuple[tuple[str, Any], ...] = ()

    def changed(self, change: Mapping[str, Any]) -> Run:
        """The run with some of its fields replaced; sizes and paths are merged."""
        merged = {name: value for name, value in change.items() if name not in ("at", "set")}
        for name in ("at", "set"):
            if name in change:
                merged[name] = tuple({**dict(getattr(self, name)), **change[name]}.items())
        return replace(self, **merged)


RUN_FIELDS = tuple(field.name for field in fields(Run))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Runs by name and the arithmetic over them that gives the claimed quantity in SI units.

    `over` says what is told of runs over a grid: their `mean` or their `max`.
    """

    runs: tuple[tuple[str, Run], ...]
    formula: str
    over: str = "mean"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instead:
    """The same question with something changed, to show what a difference comes from."""

    say: str
    recipe: Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One printed figure with its context, as the source words it, and how to compute it again.

    `published` is a number in `unit`, a (low, high) pair, or None where no number was printed; `says` holds
    a claim in words, `bounds` what the words stand for, in SI units, or what a printed capacity allows, in
    its unit. `device_assumed` tells whose choice the device is: "variant" of a named family, "device"
    altogether. `not_checkable` names the missing fact.
    """

    system: str
    title: str
    year: int
    identifier: str = ""
    quantity: str
    configuration: str
    baseline: str | None
    published: float | tuple[float, float] | None
    says: str
    unit: str | None
    kind: str
    convention: str | None
    workload: str | None
    device: str | None
    device_assumed: str
    source: str
    inferred: bool = False
    not_checkable: str = ""
    bounds: tuple[float, float] | None = None
    note: str = ""
    recipe: Recipe | None = None
    instead: tuple[Instead, ...] = field(default=())

    @property
    def from_memory(self) -> bool:
        """Whether the value itself was written down from memory."""
        return "from memory" in self.source
