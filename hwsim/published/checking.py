"""`hwsim.claims`: every published figure computed again, with a verdict, an explanation and the counts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from graphs.errors import GraphError
from hwsim.document import plain
from hwsim.errors import HwsimError
from hwsim.published.claim import NOTHING, NUMBER, RANGE, WORDS, Claim, Recipe, Run
from hwsim.published.reading import read, systems
from hwsim.published.recipes import COUNT, compute, tolerance
from hwsim.published.verdicts import VERDICTS, ratio_of, unit_value, verdict

SCHEMA = "hwsim.claims/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A claim beside what hwsim computes for it, in the claim's unit."""

    claim: Claim
    ours: float | None
    ratio: float | None
    verdict: str
    explanation: str

    @property
    def group(self) -> str:
        """How the row is counted: sourced numbers, numbers from memory, or what is no printed number."""
        if self.claim.kind not in (NUMBER, RANGE):
            return self.claim.kind if self.claim.kind != NOTHING else "nothing printed"
        return "number from memory" if self.claim.from_memory else "number"

    def to_dict(self) -> dict[str, Any]:
        claim = self.claim
        return {
            "system": claim.system,
            "quantity": claim.quantity,
            "configuration": claim.configuration,
            "baseline": claim.baseline,
            "published": plain(claim.published),
            "unit": claim.unit,
            "convention": claim.convention,
            "workload": claim.workload,
            "device": claim.device,
            "source": claim.source,
            "ours": plain(self.ours),
            "ratio": plain(self.ratio),
            "verdict": self.verdict,
            "explanation": self.explanation or None,
            "kind": claim.kind,
            "from_memory": claim.from_memory,
            "says": claim.says or None,
            "device_assumed": claim.device_assumed or None,
            "recomputed": None if claim.recipe is None else spelled(claim.recipe),
        }


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Checked claims of one or several systems."""

    rows: Sequence[Checked]

    @cached_property
    def counts(self) -> dict[str, dict[str, int]]:
        """Rows per group and verdict, `all` first; every row is in exactly one group."""
        groups = dict.fromkeys(row.group for row in self.rows)
        return {"all": _count(self.rows)} | {
            group: _count([row for row in self.rows if row.group == group]) for group in groups
        }

    def to_dict(self) -> dict[str, Any]:
        """The document `hwsim.claims/1`."""
        return {"schema": SCHEMA, "claims": [row.to_dict() for row in self.rows], "counts": self.counts}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)


def claims(which: str | Iterable[str] | None = None) -> Claims:
    """The claims of all systems, of those named, or of claims files of your own, each computed again."""
    names = [which] if isinstance(which, str) else list(which or systems())
    return Claims(rows=tuple(check(claim) for name in names for claim in read(name)))


def check(claim: Claim) -> Checked:
    """One claim computed again; the printed value is looked at only afterwards."""
    measured = claim.recipe is not None and claim.kind != WORDS  # bounds of words are in SI units
    unit = unit_value(claim.unit) if measured else 1.0
    ours = None if claim.recipe is None else _computed(claim, claim.recipe) / unit
    found = verdict(claim, ours, COUNT if claim.recipe is None else tolerance(claim.recipe))
    return Checked(
        claim=claim,
        ours=ours,
        ratio=ratio_of(claim, ours),
        verdict=found,
        explanation="; ".join(_explained(claim, unit)),
    )


def _computed(claim: Claim, recipe: Recipe) -> float:
    try:
        return compute(recipe)
    except (GraphError, HwsimError) as error:
        raise HwsimError(f"{claim.system}, {claim.quantity} of {claim.configuration}: {error}") from error


def _explained(claim: Claim, unit: float) -> Iterable[str]:
    """The missing fact, the note, and what changes would make of the value."""
    yield from filter(None, (claim.not_checkable, claim.note))
    for other in claim.instead:
        ours = _computed(claim, other.recipe) / unit
        ratio = ratio_of(claim, ours)
        yield f"{other.say}: {ours:.4g}" + ("" if ratio is None else f", ratio {ratio:.3g}")


def spelled(recipe: Recipe) -> str:
    """The recipe in one line: `base / new; base = latency_s of swin-t on t4, fp16; ...`."""
    runs = [f"{name} = {_run(run)}" for name, run in recipe.runs]
    grid = any(isinstance(value, tuple) for _, run in recipe.runs for _, value in run.at)
    runs += [f"{recipe.over} over the grid"] * grid
    return (
        _run(recipe.runs[0][1])
        if len(runs) == 1 and recipe.formula == "it"
        else "; ".join([recipe.formula, *runs])
    )


def _run(run: Run) -> str:
    words = [f"{run.take} of {run.model}"]
    words += [f"within {run.within}"] * bool(run.within)
    words += [run.phase] * (run.phase != "forward")
    words += [f"{name} {_spelled(value)}" for name, value in run.at]
    if run.device:
        words += [f"on {run.device}", *filter(None, (run.dtype,)), run.stack]
    words += [f"{run.generate} tokens"] * bool(run.generate)
    words += [f"{path}={value}" for path, value in run.set]
    return ", ".join(words)


def _spelled(value: float | tuple[float, ...]) -> str:
    return " ".join(f"{one:g}" for one in value) if isinstance(value, tuple) else f"{value:g}"


def _count(rows: Sequence[Checked]) -> dict[str, int]:
    return {name: sum(row.verdict == name for row in rows) for name in VERDICTS} | {"claims": len(rows)}
