"""Devices as people type them in tables: without a maker, with a memory size or a number of cores behind.

Nothing is guessed: what is left after these words are taken away must be a whole name of the catalogue,
only one device may have it, and a memory size that is given must be its own.
"""

from __future__ import annotations

import re
from functools import cache

from devices import Device, devices

_SIZE = re.compile(r"\b(\d+) ?gi?b\b")
_NEAR = 0.12  # of the stated size: GB and GiB, and what a driver keeps for itself
_NOISE = (
    r"\b(?:nvidia|geforce|amd|intel|apple|radeon|tesla|google)\b", r"\(\d[^)]*\)", r"\b\d+-core gpu\b",
    r"\b\d+ ?gi?b\b", r"\bgpu\b", r"\bcpu\b",
)  # fmt: skip


def device_called(text: str, *, cpu: bool = False) -> str:
    """The id of the one device that is called so, or the text itself, for the catalogue to refuse.

    A chip with a CPU and a GPU profile is its GPU unless the CPU is asked for.
    """
    found = _index(cpu).get(_bare(text), {})
    size = _SIZE.search(text.lower())
    fitting = [id for id, one in found.items() if size is None or _holds(one, 1e9 * float(size[1]))]
    return fitting[0] if len(fitting) == 1 else text


def _holds(one: Device, size_byte: float) -> bool:
    """Whether the device has this much memory; one that shares a machine's has any."""
    held = one.memory.dram.capacity_byte if one.memory.dram is not None else None
    return one.vendor == "Apple" or held is None or abs(float(held) / size_byte - 1) < _NEAR


@cache
def _index(cpu: bool) -> dict[str, dict[str, Device]]:
    """Bare names of all CPUs, or of all other devices; a GeForce may go without its RTX."""
    found: dict[str, dict[str, Device]] = {}
    for one in devices():
        if (one.kind == "cpu") != cpu:
            continue
        for name in (one.id.replace("-", " "), *one.aliases):
            bare = _bare(name)
            for key in {bare, re.sub(r"^(?:rtx|rx|gtx) (?=\d{4})", "", bare)}:
                found.setdefault(key, {})[one.id] = one
    return found


def _bare(name: str) -> str:
    text = name.lower()
    for pattern in _NOISE:
        text = re.sub(pattern, " ", text)
    return " ".join(text.replace("-", " ").split())
