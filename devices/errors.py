"""What the devices room says when a value, a name or a file is not acceptable."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DeviceError(ValueError):
    """A value, name or profile the devices room refuses; one line: the value, the rule, the remedy."""


def near(word: str, options: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the closest option, or an empty text when nothing is close."""
    spelled = {option.lower(): option for option in options}
    found = difflib.get_close_matches(word.lower(), spelled, n=1, cutoff=0.5)
    return f"; did you mean '{spelled[found[0]]}'?" if found else ""
