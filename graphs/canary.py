"""A fixed piece of work whose time tells how busy the machine is while something else is timed."""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Iterable

from graphs.threads import WAITING, Team

LIMIT = 1.15  # of the best canaries; above it, what stands beside a canary does not count
_SIDE = 1024
_LEAST_S = 0.010
PAUSE_S = 0.02  # before the next look; threads that have slept are given a core sooner
_SEED = 0
_ATTEMPTS = 5


class Canary:
    """A matrix product of about 10 ms (or `least_s`) on all of torch's threads, and the times it took."""

    def __init__(self, team: Team, least_s: float = _LEAST_S, side: int = _SIDE) -> None:
        import torch

        self._team = team
        generator = torch.Generator().manual_seed(_SEED)
        shape = (side, side)
        self._left, self._right = (
            torch.randn(shape, generator=generator, dtype=torch.float32).to(team.on) for _ in range(2)
        )
        self._repeats = 1
        self._times: list[float] = []
        once = min(self.time() for _ in range(10))
        self._repeats = max(1, round(least_s / once))
        self._flop = 2.0 * side**3 * self._repeats
        self.know(self.time() for _ in range(5))

    def know(self, times: Iterable[float]) -> None:
        """Forget the canaries so far for these."""
        self._times = sorted(times)

    @property
    def best_s(self) -> float:
        """The lower decile of the canaries: the very best may be a moment that never comes again."""
        return self._times[len(self._times) // 10]

    @property
    def flop_per_s(self) -> float:
        """What the best canary reached: how fast the machine was at its best."""
        return self._flop / self.best_s

    def time(self) -> float:
        """Seconds of one canary, of several the first in which no thread waited for a core."""
        for _ in range(_ATTEMPTS):
            seconds, waiting = self._team.watched(self._multiply)
            if waiting <= WAITING:
                break
            time.sleep(PAUSE_S)
        insort(self._times, seconds)
        return seconds

    def quiet(self, seconds: float) -> bool:
        """Whether a canary of `seconds` is near the best so far."""
        return seconds <= LIMIT * self.best_s

    def when_quiet(self, deadline: float) -> float:
        """The canary as soon as the machine is quiet, or at the deadline."""
        while not self.quiet(seconds := self.time()) and time.perf_counter() < deadline:
            time.sleep(PAUSE_S)
        return seconds

    def _multiply(self) -> None:
        for _ in range(self._repeats):
            self._left @ self._right
