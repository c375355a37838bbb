"""Times the operators of `graphs.benchmarks` on this machine, round by round; it can be taken up again.

Rounds go over all points in an order of their own each, so that a slow minute does not fall on one family.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from graphs.benchmarks import Benchmark, Pool, runner
from graphs.canary import Canary
from graphs.running import RUNNABLE, Progress
from graphs.threads import Team, team
from graphs.timing import Timer, Window, judged, lower_quartile, spread

ROUNDS = 3
_CANARY_S = 0.001  # shorter than beside models, as the windows are: a quiet moment is soon found
_CANARY_SIDE = 512
_WINDOW_S = 0.002
_WINDOWS = 3  # most in one round
_LEAST_POOL_BYTE = 6.4e7
_ENOUGH = 4  # valid windows of a point after which no further round needs it
_PATIENCE_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One size of one benchmark in one dtype of ours."""

    benchmark: Benchmark
    sizes: Mapping[str, int]
    dtype: str

    @property
    def key(self) -> str:
        sizes = " ".join(f"{name}={value}" for name, value in self.sizes.items())
        return f"{self.benchmark.name}: {sizes} {self.dtype}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A point and its windows."""

    point: Point
    windows: tuple[Window, ...]

    @property
    def seconds(self) -> float | None:
        """What counts of the windows; None when the machine was never quiet."""
        return lower_quartile(self.windows)

    @property
    def spread(self) -> float | None:
        """Between the rounds."""
        return spread(self.windows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """All points timed, and under which conditions."""

    timed: tuple[Timed, ...]
    threads: int
    pinned: bool
    torch: str


def points(benchmarks: Iterable[Benchmark], dtypes: Sequence[str]) -> list[Point]:
    """Every point of the benchmarks in those of their dtypes that are asked for."""
    return [
        Point(benchmark=one, sizes=sizes, dtype=dtype)
        for one in benchmarks
        for dtype in one.dtypes
        if dtype in dtypes
        for sizes in one.grid
    ]


def measure(
    points: Sequence[Point],
    *,
    beyond_byte: float,
    rounds: int = ROUNDS,
    budget_s: float = 150.0,
    threads: int | None = None,
    known: Mapping[str, Sequence[Window]] | None = None,
    keep: Callable[[Point, Sequence[Window]], None] | None = None,
    progress: Progress | None = None,
) -> Campaign:
    """Time every point in every round, then again those that lack valid windows, while there is time.

    `known` windows by key of a point stand for rounds that were timed before; `keep` is told of new ones as
    they come. On a busy machine time may be up before every point was timed. Operands of cold points
    exceed `beyond_byte`.
    """
    import torch

    start = time.perf_counter()
    tell = progress or (lambda done, text: None)
    windows = {point.key: list((known or {}).get(point.key, ())) for point in points}
    with team(threads) as workers, torch.no_grad():
        canary = Canary(workers, _CANARY_S, _CANARY_SIDE)
        canary.best_s = min([canary.best_s, *(w.canary_s for found in windows.values() for w in found)])
        pool = Pool(max(beyond_byte, _LEAST_POOL_BYTE))
        number = 0
        while todo := _todo(points, windows, number, rounds, canary.best_s):
            for index, point in enumerate(todo):
                spent = time.perf_counter() - start
                if spent > budget_s:
                    break
                tell(min(1.0, max(spent / budget_s, 0.0)), f"{point.benchmark.name}: round {number + 1}")
                share = max(0.0, budget_s - spent) / (len(todo) - index)
                new = _sample(point, number, canary, workers, pool, min(share, _PATIENCE_S))
                windows[point.key] += new
                if keep is not None:
                    keep(point, new)
            if time.perf_counter() - start > budget_s:
                break
            number += 1
        tell(1.0, "measured")
        return Campaign(
            timed=tuple(Timed(point=one, windows=judged(windows[one.key], canary.best_s)) for one in points),
            threads=workers.count,
            pinned=workers.pinned,
            torch=torch.__version__,
        )


def _todo(
    points: Sequence[Point], windows: Mapping[str, Sequence[Window]], number: int, rounds: int, best_s: float
) -> list[Point]:
    """Points of a round in an order of its own: all without windows of it, later those with few valid."""

    def lacks(point: Point) -> bool:
        found = windows[point.key]
        if number < rounds:
            return not any(window.round == number for window in found)
        return sum(window.valid for window in judged(found, best_s)) < _ENOUGH

    todo = [point for point in points if lacks(point)]
    random.Random(number).shuffle(todo)
    return todo


def _sample(
    point: Point, number: int, canary: Canary, workers: Team, pool: Pool, patience_s: float
) -> list[Window]:
    import torch

    dtype = getattr(torch, RUNNABLE[point.dtype])
    timer = Timer(runner(point.benchmark, point.sizes, dtype, pool), canary, workers, _WINDOW_S)
    timer.sample(number, time.perf_counter() + patience_s, least=1, most=_WINDOWS)
    return timer.windows
