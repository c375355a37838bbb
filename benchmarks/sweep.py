"""Design points per second of sweeps: latency, energy and peak memory of whole models at random points on an
H100.

For each model: in memory with one process and with two, written to Parquet with two, and one `estimate` call
per point in the same run. Then the memory of a long sweep while it is written. Random points, every term on:
tile and split choice, power-limited clock, energy, peak memory.

Run: python -m benchmarks.sweep [points, 2 million unless given] [points of the long sweep, 20 million]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import hwsim

BANDWIDTH = "device.memory.dram.bandwidth"
COLUMNS = ("latency_s", "energy_j", "peak_memory_bytes")
BATCH = {"from": 1, "to": 256}
WORKLOADS: dict[str, dict[str, Any]] = {
    "llama-3-8b": {"phase": "decode", "axes": {"batch": BATCH, "context": {"from": 1, "to": 8191}}},
    "bert-base": {"phase": "forward", "axes": {"batch": BATCH, "seq": {"from": 1, "to": 512}}},
    "swin-t": {"phase": "forward", "axes": {"batch": BATCH}},
}
LOOP = 200


def spec(model: str, points: int) -> dict[str, Any]:
    """Random points of a model, bandwidth among what varies."""
    workload = WORKLOADS[model]
    return {
        "model": model,
        "phase": workload["phase"],
        "device": "h100-sxm",
        "stack": "engine",
        "axes": {**workload["axes"], BANDWIDTH: {"from": "1 TB/s", "to": "8 TB/s"}},
        "sample": {"points": points, "seed": 1},
        "columns": COLUMNS,
    }


def timed(model: str, points: int, **how: Any) -> tuple[float, hwsim.SweepResult]:
    """Points per second, the start of processes included."""
    start = time.perf_counter()
    result = hwsim.sweep(spec(model, points), **how)
    return points / (time.perf_counter() - start), result


def loop(model: str, result: hwsim.SweepResult) -> float:
    """Points per second of one call each, which must agree with the sweep."""
    rows = result.rows(np.linspace(0, len(result) - 1, LOOP).astype(int))
    axes = [name for name in result.table.axes if name != BANDWIDTH]
    start = time.perf_counter()
    for row in rows:
        one = hwsim.estimate(
            model,
            "h100-sxm",
            phase=WORKLOADS[model]["phase"],
            stack="engine",
            overrides={BANDWIDTH: row[BANDWIDTH]},
            **{name: row[name] for name in axes},
        )
        for name in COLUMNS:
            expected = getattr(one, name)
            assert abs(row[name] - expected) <= 1e-9 * expected, (model, row, expected)
    return LOOP / (time.perf_counter() - start)


def compare(model: str, points: int, folder: Path) -> None:
    """Print all ways of pricing one model."""
    timed(model, 1000, workers=1)  # the trace is made or read
    one, single = timed(model, points, workers=1)
    two, double = timed(model, points, workers=2)
    written, parquet = timed(model, points, workers=2, out=folder / model)
    for name in COLUMNS:
        assert np.array_equal(single[name], double[name])
        assert np.array_equal(single[name], parquet[name])
    each = loop(model, single)
    speeds = "".join(f"{speed:>14,.0f}" for speed in (one, two, written, each))
    print(f"{model:<12}{speeds}{max(one, two) / each:>10,.0f} x")


def long_sweep(points: int, folder: Path) -> None:
    """Print the memory of this process and its workers while a long sweep is written."""
    told: list[tuple[int, float]] = []
    every = max(1, points // 10)
    me = psutil.Process()

    def watch(done: int, total: int) -> None:
        if done >= len(told) * every:
            family = [me, *me.children(recursive=True)]
            told.append((done, sum(one.memory_info().rss for one in family) / 1e6))

    speed, result = timed("llama-3-8b", points, workers=2, out=folder / "long", progress=watch)
    assert len(result) == points
    for done, megabytes in told:
        print(f"{done / 1e6:>10,.1f} M points {megabytes:>8,.0f} MB in all processes")
    half = [megabytes for done, megabytes in told if done >= points / 2]
    early = [megabytes for done, megabytes in told if every <= done < points / 2]
    print(
        f"{speed:,.0f} points/s; second half {np.mean(half) / np.mean(early):.2f} x the memory of the first"
    )


def main() -> None:
    """Print points per second of all models, then the memory of a long sweep."""
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    many = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000_000
    with tempfile.TemporaryDirectory(prefix="hwsim-sweep-") as folder:
        print(f"{points:,} random points on h100-sxm: points per second of wall-clock time")
        print(f"{'':12}{'one process':>14}{'two':>14}{'two, Parquet':>14}{'a call each':>14}{'ratio':>12}")
        for model in WORKLOADS:
            compare(model, points, Path(folder))
        if many:
            long_sweep(many, Path(folder))


if __name__ == "__main__":
    main()
