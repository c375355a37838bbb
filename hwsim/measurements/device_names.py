"""Devices as people type them in tables: without a maker, with a memory size or a number of cores behind.

Nothing is guessed: what is left after these words are taken away must be a whole name of the catalogue, and
only one device may have it.
"""

from __future__ import annotations

import re
from functools import cache

from devices import devices

_NOISE = (
    r"\b(?:nvidia|geforce|amd|intel|apple|radeon|tesla|google)\b", r"\(\d[^)]*\)", r"\b\d+-core gpu\b",
    r"\b\d+ ?gi?b\b", r"\bgpu\b", r"\bcpu\b",
)  # fmt: skip


def device_called(text: str, *, cpu: bool = False) -> str:
    """The id of the one device that is called so, or the text itself, for the catalogue to refuse.

    A chip with a CPU and a GPU profile is its GPU unless the CPU is asked for.
    """
    found = _index(cpu).get(_bare(text), set())
    return next(iter(found)) if len(found) == 1 else text


@cache
def _index(cpu: bool) -> dict[str, set[str]]:
    """Bare names of all CPUs, or of all other devices; a GeForce may go without its RTX."""
    found: dict[str, set[str]] = {}
    for one in devices():
        if (one.kind == "cpu") != cpu:
            continue
        for name in (one.id.replace("-", " "), *one.aliases):
            bare = _bare(name)
            for key in {bare, re.sub(r"^(?:rtx|rx|gtx) (?=\d{4})", "", bare)}:
                found.setdefault(key, set()).add(one.id)
    return found


def _bare(name: str) -> str:
    text = name.lower()
    for pattern in _NOISE:
        text = re.sub(pattern, " ", text)
    return " ".join(text.replace("-", " ").split())
