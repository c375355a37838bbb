"""A sweep over toy machines that needs no torch: a saved GEMM graph, a profile file, and their spec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from graphs.serial import to_json
from hwsim.sweeps.result import SweepResult
from tests.toys import gemm_graph, toy

BANDWIDTH = "device.memory.dram.bandwidth"
RANGES = {
    "m": {"from": 1, "to": 64},
    "n": {"from": 16, "to": 4096, "scale": "log"},
    BANDWIDTH: {"from": "10 GB/s", "to": "1 TB/s", "scale": "log"},
}


def saved_graph(folder: Path, name: str = "gemm") -> str:
    """The path of a saved graph of one matrix product, sizes b m n k."""
    path = folder / f"{name}.json"
    path.write_text(to_json(gemm_graph()))
    return str(path)


def drawn(folder: Path, points: int, **changes: Any) -> dict[str, Any]:
    """A spec of random points of a GEMM on the toy GPU, 512 in a chunk."""
    toy(folder, "simt")
    spec = {
        "model": saved_graph(folder),
        "device": str(folder / "toy-simt.toml"),
        "set": {"k": 256},
        "axes": RANGES,
        "sample": {"points": points, "seed": 7},
        "minimize": ["latency", "energy"],
        "where": ["fits", "latency < 0.1ms"],
        "chunk": 512,
    }
    return {**spec, **changes}


def grid(folder: Path, **changes: Any) -> dict[str, Any]:
    """A spec of 6 x 3 points on two toy machines."""
    toy(folder, "systolic")
    axes = {"m": [1, 2, 4, 8, 16, 32], BANDWIDTH: {"values": [0.5, 1, 2], "times": True}}
    devices = [str(folder / f"toy-{engine}.toml") for engine in ("simt", "systolic")]
    whole = {**drawn(folder, 1), "device": devices, "axes": axes, "set": {"k": 256, "n": 128}}
    del whole["sample"]
    return {**whole, **changes}


def write_toml(path: Path, spec: dict[str, Any]) -> Path:
    """The spec as a TOML file; JSON's inline values are TOML's as far as specs go."""

    def written(value: Any) -> str:
        if isinstance(value, dict):
            inner = ", ".join(f"{json.dumps(key)} = {written(one)}" for key, one in value.items())
            return f"{{{inner}}}"
        return json.dumps(value)

    path.write_text("\n".join(f"{key} = {written(value)}" for key, value in spec.items()))
    return path


def assert_same(left: SweepResult, right: SweepResult) -> None:
    """The same columns with the same bits."""
    assert left.columns == right.columns
    assert len(left) == len(right)
    for name in left.columns:
        mine, theirs = left[name], right[name]
        assert mine.dtype.kind == theirs.dtype.kind, name
        same = (
            mine == theirs if mine.dtype == object else (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
        )
        assert np.all(same), name
