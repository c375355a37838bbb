"""Times the operators of `graphs.benchmarks` on this machine, round by round; it can be taken up again.

Rounds go over all points in an order of their own each, so that a slow minute does not fall on one family.
"""

from __future__ import annotations

import datetime
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from graphs.benchmarks import Benchmark, Pool, runner
from graphs.canary import Canary
from graphs.running import RUNNABLE, Progress
from graphs.threads import Team, team
from graphs.timing import Timer, Window, judged, lower_quartile, spread

ROUNDS = 6
_ATTEMPTS = 3  # rounds of a point without a valid window that count as one
_CANARY_S = 0.001  # shorter than beside models, as the windows are: a quiet moment is soon found
_CANARY_SIDE = 512
_WINDOW_S = 0.002
_WINDOWS = 3  # most in one round
_LEAST_POOL_BYTE = 6.4e7
_PATIENCE_S = 0.1  # for a quiet machine, per point and round
_CANARIES = 50


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
    canary_flop_per_s: float  # the best of the campaign
    date: str


def accelerators_of_torch() -> list[tuple[str, str]]:
    """What torch sees beside the CPU: devices such as `cuda:0`, and their names, empty where it has none."""
    import torch

    kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if kind is None:
        return []
    named = getattr(torch.get_device_module(kind), "get_device_name", lambda index: "")
    return [(f"{kind.type}:{at}", str(named(at))) for at in range(torch.accelerator.device_count())]


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
    on: str = "cpu",
    known: Mapping[str, Sequence[Window]] | None = None,
    keep: Callable[[Point, Sequence[Window]], None] | None = None,
    progress: Progress | None = None,
) -> Campaign:
    """Time every point in every round, while there is time; points that lack valid windows come first.

    `known` windows by key of a point count as timed; `keep` is told of new ones as
    they come. On a busy machine time may be up before every point was timed. Operands of cold points exceed
    `beyond_byte`, and all lie `on` a device of torch.
    """
    import torch

    deadline = time.perf_counter() + budget_s

    def tell(text: str) -> None:
        if progress is not None:
            progress(min(1.0, max(0.0, 1 - (deadline - time.perf_counter()) / budget_s)), text)

    windows = {point.key: list((known or {}).get(point.key, ())) for point in points}
    with team(threads, on) as workers, torch.no_grad():
        canary = Canary(workers, _CANARY_S, _CANARY_SIDE)
        before = [window.canary_s for found in windows.values() for window in found]
        canary.know(before or [canary.time() for _ in range(_CANARIES)])
        pool = Pool(max(beyond_byte, _LEAST_POOL_BYTE), on)
        number = max((w.round + 1 for found in windows.values() for w in found), default=0)
        while todo := _todo(points, windows, number, rounds, canary.best_s):
            for point in todo:
                if time.perf_counter() > deadline:
                    break
                tell(f"{point.benchmark.name}: round {number + 1}")
                new = _sample(point, number, canary, workers, pool, deadline)
                windows[point.key] += new
                if keep is not None:
                    keep(point, new)
            if time.perf_counter() > deadline:
                break
            number += 1
        if progress is not None:
            progress(1.0, "measured")
        return Campaign(
            timed=tuple(Timed(point=one, windows=judged(windows[one.key], canary.best_s)) for one in points),
            threads=workers.count,
            pinned=workers.pinned,
            torch=torch.__version__,
            canary_flop_per_s=canary.flop_per_s,
            date=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        )


def _todo(
    points: Sequence[Point], windows: Mapping[str, Sequence[Window]], number: int, rounds: int, best_s: float
) -> list[Point]:
    """The points furthest behind, in an order of its own each time; none when all have had `rounds`.

    Rounds without a valid window count a little, so that a point that never has any ends, too.
    """

    def done(point: Point) -> int:
        found = judged(windows[point.key], best_s)
        valid = len({window.round for window in found if window.valid})
        return valid + (len({window.round for window in found}) - valid) // _ATTEMPTS

    rank = {point.key: done(point) for point in points}
    fewest = min(rank.values(), default=rounds)
    todo = [point for point in points if rank[point.key] == fewest < rounds]
    random.Random(number).shuffle(todo)
    return todo


def _sample(
    point: Point, number: int, canary: Canary, workers: Team, pool: Pool, deadline: float
) -> list[Window]:
    import torch

    dtype = getattr(torch, RUNNABLE[point.dtype])
    timer = Timer(runner(point.benchmark, point.sizes, dtype, pool), canary, workers, _WINDOW_S)
    timer.sample(number, min(deadline, time.perf_counter() + _PATIENCE_S), least=1, most=_WINDOWS)
    return timer.windows
