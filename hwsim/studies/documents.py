"""Estimates saved as JSON (`hwsim estimate --json`) as the columns of a sweep's table, one row each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.result import SCHEMA

_PLAIN = ("average_power_w", "flops", "dram_bytes", "mfu", "mbu", "cost_usd")
_TEXTS = ("model", "device", "phase", "dtype", "stack", "bound")


def columns_of(path: Path) -> dict[str, NDArray[Any]]:
    """The table of one estimate or of a list of them."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise HwsimError(f"'{path}' is not JSON: {error}") from None
    documents = document if isinstance(document, list) else [document]
    for one in documents:
        if not isinstance(one, dict) or one.get("schema") != SCHEMA:
            raise HwsimError(
                f"'{path}' holds no estimates; write it with `hwsim estimate ... --json > {path.name}`"
            )
        if isinstance(one["latency_s"]["value"], list):
            raise HwsimError(
                f"'{path}' holds arrays; a report of many points is made from a sweep's directory"
            )
    rows = [_row(one) for one in documents]
    return {name: _column(name, [row.get(name) for row in rows]) for row in rows for name in row}


def _column(name: str, values: list[Any]) -> NDArray[Any]:
    if name in _TEXTS:
        return np.array([str(value) for value in values], dtype=object)
    if name == "fits":
        return np.array([bool(value) for value in values])
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _row(one: Mapping[str, Any]) -> dict[str, Any]:
    work, latency, energy, memory = one["workload"], one["latency_s"], one["energy_j"], one["memory_bytes"]
    return {
        "model": one["model"],
        "device": one["device"],
        **{name: work[name] for name in ("phase", "dtype", "stack")},
        **work["sizes"],
        "latency_s": latency["value"],
        "latency_low_s": latency["low"],
        "latency_high_s": latency["high"],
        "energy_j": energy["value"],
        "peak_memory_bytes": memory["total"],
        "capacity_bytes": memory["capacity"],
        "fits": memory["fits"],
        **one["throughput"],
        **{name: one[name] for name in _PLAIN},
        **{f"{name}_s": one["breakdown_s"][name] for name in ("compute", "memory", "overhead", "power")},
        **{f"energy_{name}_j": energy["by"][name] for name in ("compute", "onchip", "dram", "static")},
        "bound": one["bound"],
    }
