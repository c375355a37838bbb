"""A fixed piece of work whose time tells how busy the machine is while something else is timed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

LIMIT = 1.15  # of the best canary; above it, what stands beside the canary does not count
_SIDE = 1024
_LEAST_S = 0.010
_PAUSE_S = 0.05  # between two looks whether the machine is quiet
_SEED = 0


def seconds_of(run: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


class Canary:
    """A matrix product of about 10 ms on all of torch's threads, and its best time so far."""

    def __init__(self) -> None:
        import torch

        generator = torch.Generator().manual_seed(_SEED)
        shape = (_SIDE, _SIDE)
        self._left, self._right = (
            torch.randn(shape, generator=generator, dtype=torch.float32) for _ in range(2)
        )
        self._repeats = 1
        self.best_s = math.inf
        once = min(self.time() for _ in range(10))
        self._repeats = max(1, round(_LEAST_S / once))
        self.best_s = min(seconds_of(self._multiply) for _ in range(5))

    def time(self) -> float:
        """Seconds of one canary."""
        seconds = seconds_of(self._multiply)
        self.best_s = min(self.best_s, seconds)
        return seconds

    def quiet(self, seconds: float) -> bool:
        """Whether a canary of `seconds` is near the best so far."""
        return seconds <= LIMIT * self.best_s

    def when_quiet(self, deadline: float) -> float:
        """The canary as soon as the machine is quiet, or at the deadline."""
        while not self.quiet(seconds := self.time()) and time.perf_counter() < deadline:
            time.sleep(_PAUSE_S)
        return seconds

    def _multiply(self) -> None:
        for _ in range(self._repeats):
            self._left @ self._right
