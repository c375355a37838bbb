"""Points per second of one `estimate` call: llama-3-8b decode on an H100, batch, context,
bandwidth random.

Every term is on: latency with tile choice and power-limited clock, energy, peak memory. The baseline,
measured in the same run, is the same evaluator called once per point. Run: python -m benchmarks.points
[points]
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

import hwsim

MODEL, DEVICE = "llama-3-8b", "h100-sxm"


def columns(points: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random design points."""
    draw = np.random.default_rng(seed)
    batch = draw.integers(1, 257, points).astype(float)
    context = draw.integers(1, 8192, points).astype(float)
    return batch, context, draw.uniform(1e12, 8e12, points)


def price(points: int, seed: int) -> tuple[float, float]:
    """Seconds one call takes, and a checksum of its latencies."""
    batch, context, bandwidth = columns(points, seed)
    start = time.perf_counter()
    made = hwsim.estimate(
        MODEL, DEVICE, phase="decode", batch=batch, context=context, stack="engine",
        overrides={"device.memory.dram.bandwidth": bandwidth},
    )  # fmt: skip
    total = float(np.sum(made.latency_s) + np.sum(made.energy_j) + np.sum(made.peak_memory_bytes))
    return time.perf_counter() - start, total


def one_by_one(points: int, seed: int) -> tuple[float, float]:
    """Seconds the same points take as separate calls, and the same checksum."""
    batch, context, bandwidth = columns(points, seed)
    start = time.perf_counter()
    total = 0.0
    for b, c, w in zip(batch, context, bandwidth, strict=True):
        made = hwsim.estimate(
            MODEL, DEVICE, phase="decode", batch=b, context=c, stack="engine",
            overrides={"device.memory.dram.bandwidth": w},
        )  # fmt: skip
        total += made.latency_s + made.energy_j + made.peak_memory_bytes
    return time.perf_counter() - start, total


def main() -> None:
    """Print points per second for one and two processes and the ratio to the loop."""
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    few = 200
    price(few, 1)
    loop_s, loop_sum = one_by_one(few, 1)
    _, array_sum = price(few, 1)
    assert abs(loop_sum - array_sum) <= 1e-9 * abs(loop_sum), (loop_sum, array_sum)
    single_s, _ = price(points, 0)
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(price, [few, few], [2, 3]))
        start = time.perf_counter()
        list(pool.map(price, [points // 2, points - points // 2], [4, 5]))
        double_s = time.perf_counter() - start
    print(f"{points} points of {MODEL} decode on {DEVICE}: latency, energy, peak memory")
    print(f"one process    {points / single_s:12,.0f} points/s")
    print(f"two processes  {points / double_s:12,.0f} points/s")
    print(
        f"one call per point {few / loop_s:8,.0f} points/s; "
        f"arrays are {points / single_s * loop_s / few:,.0f} times faster"
    )


if __name__ == "__main__":
    main()
