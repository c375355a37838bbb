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
from hwsim.published.answers import Answers, spelled
from hwsim.published.claim import NOTHING, NUMBER, RANGE, WORDS, Claim, Recipe
from hwsim.published.reading import read, systems
from hwsim.published.recipes import COUNT, tolerance
from hwsim.published.verdicts import VERDICTS, ratio_of, unit_value, verdict

SCHEMA = "hwsim.claims/1"


PRINTED = ("number", "number from memory")  # groups that are printed numbers, one each


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A claim beside what hwsim computes for it, and what its changes come to, in the claim's unit."""

    claim: Claim
    ours: float | None
    others: tuple[float, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Ours over published."""
        return ratio_of(self.claim, self.ours)

    @property
    def verdict(self) -> str:
        """By the tolerance of what was taken."""
        recipe = self.claim.recipe
        return verdict(self.claim, self.ours, COUNT if recipe is None else tolerance(recipe))

    @property
    def explanation(self) -> str:
        """The missing fact, the note, and what changes make of the value."""
        parts = [*filter(None, (self.claim.not_checkable, self.claim.note))]
        for other, value in zip(self.claim.instead, self.others, strict=True):
            ratio = ratio_of(self.claim, value)
            parts.append(f"{other.say}: {value:.4g}" + ("" if ratio is None else f", ratio {ratio:.3g}"))
        return "; ".join(parts)

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
            "title": claim.title,
            "year": claim.year,
            "identifier": claim.identifier or None,
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

    @property
    def printed(self) -> tuple[Checked, ...]:
        """The rows that are printed numbers; words, entries without a figure and our own sums are not."""
        return tuple(row for row in self.rows if row.group in PRINTED)

    def to_dict(self) -> dict[str, Any]:
        """The document `hwsim.claims/1`."""
        return {"schema": SCHEMA, "claims": [row.to_dict() for row in self.rows], "counts": self.counts}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)


def claims(which: str | Iterable[str] | None = None, *, answers: Answers | None = None) -> Claims:
    """The claims of all systems, of those named, or of claims files of your own, each computed again.

    `answers` holds values of recipes that need not be computed, and takes up those that were.
    """
    names = [which] if isinstance(which, str) else list(which or systems())
    known = Answers() if answers is None else answers
    return Claims(rows=tuple(check(claim, known) for name in names for claim in read(name)))


def check(claim: Claim, answers: Answers | None = None) -> Checked:
    """One claim computed again; the printed value is looked at only afterwards."""
    known = Answers() if answers is None else answers
    measured = claim.recipe is not None and claim.kind != WORDS  # bounds of words are in SI units
    unit = unit_value(claim.unit) if measured else 1.0
    return Checked(
        claim=claim,
        ours=None if claim.recipe is None else _computed(claim, claim.recipe, known) / unit,
        others=tuple(_computed(claim, other.recipe, known) / unit for other in claim.instead),
    )


def _computed(claim: Claim, recipe: Recipe, answers: Answers) -> float:
    try:
        return answers.of(recipe)
    except (GraphError, HwsimError) as error:
        raise HwsimError(f"{claim.system}, {claim.quantity} of {claim.configuration}: {error}") from error


def _count(rows: Sequence[Checked]) -> dict[str, int]:
    return {name: sum(row.verdict == name for row in rows) for name in VERDICTS} | {"claims": len(rows)}
