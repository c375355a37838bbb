"""Columns of a sweep in words: what an axis or a result is called, and how its numbers are written."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from reports.numbers import UNKNOWN, byte_count, percent, quantity, seconds, significant

_COLUMN = re.compile(r"[\w.]+")  # anything else is a formula over columns
_WORD = re.compile(r"[A-Za-z_][\w.]*")
_NAMES = {
    "latency_s": "latency",
    "energy_j": "energy",
    "average_power_w": "power",
    "peak_memory_bytes": "memory",
    "capacity_bytes": "capacity",
    "fits": "fits",
    "flops": "FLOP",
    "dram_bytes": "DRAM traffic",
    "mfu": "MFU",
    "mbu": "MBU",
    "tokens_per_s": "tokens per second",
    "samples_per_s": "samples per second",
    "cost_usd": "cost",
    "bound": "bound",
    "clock_scale": "clock",
}
_UPPER = {"dram": "DRAM", "l1": "L1", "l2": "L2", "l3": "L3", "kv": "KV", "tdp": "TDP"}
# last word of a path of the device -> unit, and whether parts of one are usual
_PATH_UNITS = {
    "bandwidth": ("B/s", False),
    "capacity": ("B", False),
    "addressable": ("B", False),
    "reserve": ("B", False),
    "clock": ("Hz", False),
    "boost_clock": ("Hz", False),
    "limit": ("W", True),
    "idle": ("W", True),
    "static": ("W", True),
    "latency": ("s", True),
    "dispatch": ("s", True),
    "launch": ("s", True),
    "energy": ("J/B", True),
    "special": ("OP/s", False),
}
_SUFFIXES: tuple[tuple[str, Callable[[float], str]], ...] = (
    ("_per_s", lambda value: quantity(value, "/s")),
    ("_bytes", byte_count),
    ("_usd", lambda value: f"$ {significant(value)}"),
    ("_s", seconds),
    ("_j", lambda value: quantity(value, "J", small=True)),
    ("_w", lambda value: quantity(value, "W", small=True)),
)


def called(name: str) -> str:
    """A column in words: `device.memory.dram.bandwidth` is "DRAM bandwidth"."""
    if name in _NAMES:
        return _NAMES[name]
    if not _COLUMN.fullmatch(name):
        return _WORD.sub(lambda found: called(found[0]), name)
    if "." in name:
        words = [word for word in name.split(".")[1:] if word not in ("memory", "compute")]
        return " ".join(_UPPER.get(word, word.replace("_", " ")) for word in words)
    for suffix in ("_per_s", "_bytes", "_usd", "_s", "_j", "_w"):
        if name.endswith(suffix):
            return name.removesuffix(suffix).replace("_", " ")
    return _UPPER.get(name, name.replace("_", " "))


def shown(name: str, value: Any) -> str:
    """One value of a column as people read it."""
    if isinstance(value, str | bytes):
        return str(value)
    if name == "fits" or isinstance(value, bool | np.bool_):
        return "yes" if value else "NO"
    number = float(value)
    if np.isnan(number):
        return UNKNOWN
    if not _COLUMN.fullmatch(name):
        return plain(number)
    if name in ("mfu", "mbu", "hfu", "clock_scale"):
        return percent(number)
    if name.startswith(("device.", "stack.")):
        return _of_path(name, number)
    if name in ("flops", "flops_executed"):
        return quantity(number, "FLOP")
    return next((write(number) for suffix, write in _SUFFIXES if name.endswith(suffix)), plain(number))


def writer(name: str) -> Callable[[float], str]:
    """`shown` for one column, for the marks of an axis."""
    return lambda value: shown(name, value)


def plain(value: float) -> str:
    """A pure number: whole up to a million, else three digits."""
    if value.is_integer() and abs(value) < 1e6:
        return f"{int(value)}"
    return quantity(value, "") if abs(value) >= 1e3 else significant(value)


def _of_path(name: str, value: float) -> str:
    group, _, last = name.rpartition(".")
    if group.startswith(("device.compute.matrix", "device.compute.vector")):
        return quantity(value, "OP/s" if last.startswith("int") else "FLOP/s")
    if group.startswith("device.energy") and last != "static":
        return quantity(value, "J/OP", small=True)
    if last in _PATH_UNITS:
        unit, small = _PATH_UNITS[last]
        return quantity(value, unit, small=small)
    return plain(value)


def setting(name: str, value: Any) -> str:
    """`batch 16`, `DRAM bandwidth 1.60 TB/s`; a word stands for itself."""
    return str(value) if isinstance(value, str) else f"{called(name)} {shown(name, value)}"
