"""One clock per point: the fastest at which average power stays under the board's limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from hwsim.engines.demand import Array
from hwsim.groups import Priced
from hwsim.machine import Machine

if TYPE_CHECKING:
    from hwsim.evaluate import Evaluator

ITERATIONS = 60
TOLERANCE = 1e-12


def solve_clock(
    evaluator: Evaluator, priced: list[Priced], machine: Machine, sums: Mapping[str, Array], nominal: Array
) -> Array:
    """Largest relative clock s in [floor, 1] with E_dynamic(s) <= (P_limit - P_static) T(s), per point.

    Core energy falls with the square of s above the voltage knee, DRAM energy does not; T grows as s falls. The
    surplus is monotone in s, so a bracketing iteration finds its only root.
    """
    from hwsim.evaluate import voltage_energy

    core, fixed, budget = (
        np.broadcast_to(np.asarray(amount, dtype=np.float64), nominal.shape)
        for amount in (
            sums["core_j"] + sums["onchip"] * machine.onchip_j_per_byte,
            sums["dram"] * machine.dram_j_per_byte,
            machine.limit_w - machine.static_w,
        )
    )
    clock = np.ones(nominal.shape)
    over = np.flatnonzero(core + fixed > budget * nominal)
    if not over.size:
        return clock
    subset = machine.at(over)
    times = [one.seconds_at(over) for one in priced]
    core, fixed, budget = core[over], fixed[over], budget[over]

    def surplus(s: Array) -> Array:
        seconds = evaluator.elapsed(evaluator.device_seconds(times, subset, s), subset)
        return np.asarray(budget * seconds - core * voltage_energy(s, subset) - fixed)

    floor = np.broadcast_to(
        np.asarray(subset.structure.coefficients["clock_floor"], dtype=np.float64), core.shape
    )
    clock[over] = _root(surplus, floor)
    return clock


def _root(surplus: Callable[[Array], Array], low: Array) -> Array:
    """The largest s with surplus(s) >= 0 by Illinois steps; `low` where even the floor exceeds the budget."""
    floor, high = low, np.ones(low.shape)
    f_low, f_high = surplus(low), surplus(high)
    hopeless = f_low < 0
    scale = np.abs(f_low) + np.abs(f_high)
    side = np.zeros(low.shape)
    for _ in range(ITERATIONS):
        with np.errstate(divide="ignore", invalid="ignore"):
            middle = high - f_high * (high - low) / (f_high - f_low)
        inside = (middle > low) & (middle < high)
        middle = np.where(inside, middle, 0.5 * (low + high))
        f_middle = surplus(middle)
        fits = f_middle >= 0
        f_high = np.where(fits, np.where(side > 0, f_high * 0.5, f_high), f_middle)
        f_low = np.where(fits, f_middle, np.where(side < 0, f_low * 0.5, f_low))
        side = np.where(fits, 1.0, -1.0)
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
        if np.all((high - low <= TOLERANCE) | (np.abs(f_middle) <= TOLERANCE * scale)):
            break
    low = np.where(np.abs(f_middle) <= TOLERANCE * scale, middle, low)
    return np.where(hopeless, floor, low)
