"""Printed beside computed: units, ratio and verdict. The only place that sees both sides."""

from __future__ import annotations

from hwsim.errors import HwsimError
from hwsim.published.claim import DERIVED, NOTHING, Claim

REPRODUCED, DIRECTION, DIFFERS = "reproduced", "direction", "differs"
BY_CONSTRUCTION, NOT_CHECKABLE = "by construction", "not checkable"
VERDICTS = (REPRODUCED, DIRECTION, DIFFERS, BY_CONSTRUCTION, NOT_CHECKABLE)
FACTOR = 2.0  # how far a value may be off that still has the direction

# first word of a unit -> SI value of one of it; GB is 1e9 bytes, whatever a tool may have meant
_UNITS = {
    "": 1.0,
    "x": 1.0,
    "ratio": 1.0,
    "of": 1.0,
    "percent": 0.01,
    "n/a": 1.0,
    "G": 1e9,
    "M": 1e6,
    "B": 1e9,
    "GMAC": 1e9,
    "TMAC": 1e12,
    "MAC": 1.0,
    "MACs": 1.0,
    "FLOP": 1.0,
    "GFLOPs": 1e9,
    "TFLOP": 1e12,
    "TFLOP/s": 1e12,
    "images": 1.0,
    "prompts": 1.0,
    "weights": 1.0,
    "s": 1.0,
    "ms": 1e-3,
    "hours": 3600.0,
    "bytes": 1.0,
    "MB": 1e6,
    "GB": 1e9,
    "images/s": 1.0,
    "frames/s": 1.0,
    "frames": 1.0,
    "tokens/s": 1.0,
    "tokens": 1.0,
    "steps/s": 1.0,
    "billion": 1e-3,  # of pJ
    "exponent": 1.0,
    "complexity": 1.0,
    "order": 1.0,
    "qualitative": 1.0,
    "occupancy": 1.0,
}


def unit_value(unit: str | None) -> float:
    """One unit in SI."""
    word = (unit or "").partition(" ")[0]
    if word.startswith("O("):
        return 1.0  # the exponent of a printed order
    if word not in _UNITS:
        raise HwsimError(f"unit {unit!r} is not known; units begin with {', '.join(filter(None, _UNITS))}")
    return _UNITS[word]


def neutral(unit: str | None) -> float | None:
    """The value at which a comparison says 'the same': 1 of a ratio, 0 of a saving; None of an amount."""
    words = (unit or "").split()
    if not words:
        return None
    if words[0] in ("x", "ratio", "of"):
        return 1.0
    saving = (
        words[0] == "percent" and "of" not in words[:2] and words[1:2] != ["MFU"] and words[1:2] != ["model"]
    )
    return 0.0 if saving else None


def ratio_of(claim: Claim, ours: float | None) -> float | None:
    """Ours over published; over the nearer end of a range, 1 inside it; None without a published number."""
    if ours is None or claim.published is None:
        return None
    if isinstance(claim.published, tuple):
        low, high = claim.published
        return ours / low if ours < low else ours / high if ours > high else 1.0
    return ours / claim.published if claim.published else None


def verdict(claim: Claim, ours: float | None, tolerance: float) -> str:
    """By the rules of docs/claims.md; `ours` is in the claim's unit."""
    if claim.not_checkable:
        return NOT_CHECKABLE
    if claim.inferred:
        return BY_CONSTRUCTION
    if ours is None or claim.kind == NOTHING:
        return NOT_CHECKABLE
    if claim.bounds is not None:
        met = REPRODUCED if claim.kind == DERIVED else DIRECTION
        return met if claim.bounds[0] <= ours <= claim.bounds[1] else DIFFERS
    ratio = ratio_of(claim, ours)
    if ratio is None:
        return NOT_CHECKABLE
    if abs(ratio - 1) <= tolerance:
        return REPRODUCED
    if 1 / FACTOR <= ratio <= FACTOR and _same_side(claim, ours):
        return DIRECTION
    return DIFFERS


def _same_side(claim: Claim, ours: float) -> bool:
    middle = neutral(claim.unit)
    printed = claim.published
    if middle is None or printed is None:
        return True
    at = printed if isinstance(printed, float | int) else sum(printed) / 2
    return (ours - middle) * (at - middle) > 0
