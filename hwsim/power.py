"""One clock per point: the fastest at which average power stays under the board's limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hwsim.candidates import Candidates, Choice
from hwsim.engines.demand import Array
from hwsim.groups import Priced
from hwsim.machine import Machine

if TYPE_CHECKING:
    from hwsim.evaluate import Evaluator

ITERATIONS = 60
TOLERANCE = 1e-12
NOTHING = np.zeros(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled:
    """The points that must slow down: their places, relative clocks, and the candidates that suit these."""

    points: NDArray[np.intp]
    clock: Array
    choices: Sequence[Choice]


def throttle(
    evaluator: Evaluator, priced: list[Priced], machine: Machine, sums: Mapping[str, Array], nominal: Array
) -> Throttled | None:
    """Largest relative clock s >= floor with E_dynamic(s) <= (P_limit - P_static) T(s), where it is not 1.

    Core energy falls with the square of s above the voltage knee, DRAM energy does not. T(s) is the time with
    the candidates that are best at s: only then is a better machine never slower. It grows as s falls, so the
    surplus has one root. Candidates held at their nominal choice give a clock that is close and never too
    low.
    """
    from hwsim.evaluate import voltage_energy

    core, fixed, budget = (
        np.broadcast_to(np.asarray(amount, dtype=np.float64), nominal.shape)
        for amount in (
            sums["core_j"] + sums["onchip"] * machine.onchip_j_per_byte,
            sums["dram"] * machine.dram_j_per_byte
            + sums["sent"] * machine.structure.coefficients["link_j_per_byte"],
            machine.limit_w - machine.static_w,
        )
    )
    over = np.flatnonzero(core + fixed > budget * nominal)
    if not over.size:
        return None
    some = machine.at(over)
    free = [one.candidates.some(over) for one in priced]
    held = [one.candidates.held(one.choice.index).some(over) for one in priced]
    core, fixed, budget = core[over], fixed[over], budget[over]
    waited = np.broadcast_to(sums["away"], nominal.shape)[over]

    def surplus(s: Array, candidates: list[Candidates]) -> Array:
        choices = [one.cheapest(NOTHING, s) for one in candidates]
        seconds = evaluator.elapsed(evaluator.device_seconds(choices) + waited, some)
        return np.asarray(budget * seconds - core * voltage_energy(s, some) - fixed)

    floor = np.broadcast_to(np.asarray(some.structure.coefficients["clock_floor"], np.float64), core.shape)
    scale = core + fixed
    clock = _root(lambda s: surplus(s, held), floor, np.ones(core.shape), scale)
    clock = _root(lambda s: surplus(s, free), floor, clock, scale)
    return Throttled(points=over, clock=clock, choices=[one.cheapest(NOTHING, clock) for one in free])


def _root(surplus: Callable[[Array], Array], low: Array, high: Array, scale: Array) -> Array:
    """The largest s in [low, high] with surplus(s) >= 0 by Illinois steps; `low` where there is none."""
    near = TOLERANCE * scale
    f_high = surplus(high)
    if np.all(f_high >= -near):
        return high
    floor, f_low = low, surplus(low)
    settled = (f_high >= -near) | (f_low < 0)
    answer = np.where(f_high >= -near, high, floor)
    side = np.zeros(low.shape)
    for _ in range(ITERATIONS):
        with np.errstate(divide="ignore", invalid="ignore"):
            middle = high - f_high * (high - low) / (f_high - f_low)
        middle = np.where((middle > low) & (middle < high), middle, 0.5 * (low + high))
        f_middle = surplus(middle)
        fits = f_middle >= 0
        f_high = np.where(fits, np.where(side > 0, f_high * 0.5, f_high), f_middle)
        f_low = np.where(fits, f_middle, np.where(side < 0, f_low * 0.5, f_low))
        side = np.where(fits, 1.0, -1.0)
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
        close = np.abs(f_middle) <= near
        answer = np.where(settled, answer, np.where(close, middle, low))
        settled |= close | (high - low <= TOLERANCE)
        if np.all(settled):
            break
    return answer
