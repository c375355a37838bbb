"""Which array, how much SRAM, how much bandwidth, for a chip of 15 W that must see and speak?

A thousand designs of a systolic accelerator, each priced for two workloads in one call per workload. The
power budget is the chip's limit: a design that would draw more runs at a lower clock, so that larger is not
always faster, and one that draws more at the lowest clock is left out.
    python examples/size_accelerator.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hwsim

BASE = Path(__file__).with_name("my_npu.toml")
BUDGET_W = 15.0
SIDES = np.array([32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0])  # of one array; there are four
SRAM_MIB = np.array([2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
BANDWIDTH = np.geomspace(32e9, 512e9, 25)  # bytes per second
# What idles: watts of the rest, per thousand multipliers, per MiB, per 100 GB/s. Assumptions; put yours here.
LEAKS_W = (0.5, 0.02, 0.03, 0.6)
WORKLOADS = {
    "vit-b-16, batch 4": ("vit-b-16", {"batch": 4}),
    "llama-3-8b, a token": ("llama-3-8b", {"phase": "decode", "context": 2048, "weights": "int4:g128"}),
}

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Designs:
    """Designs that stay within the budget; `joules` and `clock` (the lower one) are of both workloads."""

    side: Values
    sram_mib: Values
    bandwidth: Values
    latency: dict[str, Values]
    joules: Values
    clock: Values

    @property
    def score(self) -> Values:
        """Geometric mean of the latencies: neither workload is worth more than the other."""
        return np.exp(np.mean([np.log(one) for one in self.latency.values()], axis=0))

    def cheapest_near_best(self, slack: float = 1.05) -> int:
        """Of the designs within 5 % of the fastest, the one with the least SRAM, array and bandwidth."""
        near = np.flatnonzero(self.score <= slack * self.score.min())
        return int(near[np.lexsort((self.bandwidth[near], self.side[near], self.sram_mib[near]))[0]])


def designs() -> Designs:
    grid = np.meshgrid(SIDES, SRAM_MIB, BANDWIDTH, indexing="ij")
    side, sram, bandwidth = (axis.ravel() for axis in grid)
    chip = hwsim.device(str(BASE))
    assert chip.compute.array is not None
    thousands = chip.compute.array.count * side**2 / 1e3
    rest, per_thousand, per_mib, per_100 = LEAKS_W
    chip = chip.replace(
        **{
            "compute.array.rows": side,  # peak rates follow the array
            "compute.array.columns": side,
            "memory.l1.capacity": sram * 2**20,
            "memory.dram.bandwidth": bandwidth,
            "energy.static": rest + per_thousand * thousands + per_mib * sram + per_100 * bandwidth / 1e11,
            "power.limit": BUDGET_W,
        }
    )
    found = {
        name: hwsim.estimate(model, chip, dtype="bf16", stack="engine", **sizes)
        for name, (model, sizes) in WORKLOADS.items()
    }
    within = np.all([one.average_power_w <= BUDGET_W * (1 + 1e-6) for one in found.values()], axis=0)
    return Designs(
        side=side[within],
        sram_mib=sram[within],
        bandwidth=bandwidth[within],
        latency={name: one.latency_s[within] for name, one in found.items()},
        joules=np.sum([one.energy_j for one in found.values()], axis=0)[within],
        clock=np.min([one.clock_scale for one in found.values()], axis=0)[within],
    )


def main() -> None:
    kept = designs()
    asked = SIDES.size * SRAM_MIB.size * BANDWIDTH.size
    print(f"{kept.side.size} of {asked} designs stay within {BUDGET_W:g} W; four arrays each\n")
    print(f"array      SRAM    bandwidth   clock  {'  '.join(f'{name:>19}' for name in WORKLOADS)}  energy")
    order = np.argsort(kept.score)
    for at in (kept.cheapest_near_best(), *order[:: order.size // 8].tolist()):
        side = int(kept.side[at])
        chip = f"{side:3d} x {side:3d}  {kept.sram_mib[at]:3.0f} MiB  {kept.bandwidth[at] / 1e9:6.0f} GB/s"
        times = "  ".join(f"{1e3 * one[at]:16.2f} ms" for one in kept.latency.values())
        print(f"{chip} {100 * kept.clock[at]:5.0f} %  {times}  {kept.joules[at]:5.2f} J")
    print("\nFirst the smallest design within 5 % of the fastest, then from the fastest to the slowest.")


if __name__ == "__main__":
    main()
