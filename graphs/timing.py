"""Timed windows of a call, and which of them count.

Every window has a canary before and after it and waits a while for a quiet machine. A window whose slower
canary took more than `LIMIT` of the best, or in which torch's threads waited for a core, is discarded;
nothing is rescaled. The lower quartile of what is left counts.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from graphs.canary import LIMIT, PAUSE_S, Canary
from graphs.threads import WAITING, Team

WINDOW_S = 0.020  # a shorter run is repeated within its window


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Seconds per run in one window, the slower canary beside it, and whether that was quick enough.

    `waiting` is the share of their time that torch's threads were ready to run and had no core.
    """

    round: int
    seconds: float
    canary_s: float
    valid: bool
    waiting: float = 0.0


def lower_quartile(windows: Sequence[Window]) -> float | None:
    """Seconds that count: the lower quartile of the valid windows; None when the machine was never quiet."""
    valid = [window.seconds for window in windows if window.valid]
    if len(valid) < 2:
        return valid[0] if valid else None
    return statistics.quantiles(valid, n=4, method="inclusive")[0]


def spread(windows: Sequence[Window]) -> float | None:
    """Spread of the medians of the rounds' valid windows: largest less smallest, over the middle one."""
    rounds: dict[int, list[float]] = {}
    for window in windows:
        if window.valid:
            rounds.setdefault(window.round, []).append(window.seconds)
    medians = [statistics.median(seconds) for seconds in rounds.values()]
    return (max(medians) - min(medians)) / statistics.median(medians) if len(medians) > 1 else None


def judged(windows: Sequence[Window], best_s: float) -> tuple[Window, ...]:
    """The windows, each valid or not by the best canary of all."""
    return tuple(
        replace(one, valid=one.canary_s <= LIMIT * best_s and one.waiting <= WAITING) for one in windows
    )


class Timer:
    """Times a call that is warm, in windows."""

    def __init__(
        self, call: Callable[[], object], canary: Canary, team: Team, window_s: float = WINDOW_S
    ) -> None:
        self.call, self.windows = call, list[Window]()
        self._canary, self._team = canary, team
        once_s = min(team.watched(call)[0] for _ in range(2))
        self._repeats = max(1, math.ceil(window_s / max(1e-7, once_s)))

    def sample(self, round: int, deadline: float, *, least: int, most: int) -> None:
        """Time `least` windows or more until the deadline or until `most` count, each between two canaries.

        After a window in which threads waited all sleep for a moment; the canary beside it says nothing.
        """
        before = self._canary.when_quiet(deadline)
        taken, undisturbed, warm = 0, 0, False
        while undisturbed < most and (taken < least or time.perf_counter() < deadline):
            if not warm:
                time.sleep(PAUSE_S if taken else 0.0)
                self.call()  # what ran in between has taken the caches
            if not self._canary.quiet(before):
                before = self._canary.when_quiet(deadline)
            seconds, waiting = self._team.watched(self._repeated)
            taken, warm = taken + 1, waiting <= WAITING
            undisturbed += warm
            after = self._canary.time() if warm else before
            self.windows.append(
                Window(
                    round=round,
                    seconds=seconds / self._repeats,
                    canary_s=max(before, after),
                    valid=True,
                    waiting=waiting,
                )
            )
            before = after

    def valid(self) -> int:
        """How many windows count so far."""
        return sum(window.valid for window in judged(self.windows, self._canary.best_s))

    def _repeated(self) -> None:
        for _ in range(self._repeats):
            self.call()
