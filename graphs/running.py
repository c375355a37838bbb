"""Runs built-in models for real on this machine's CPU and times them so that its noise is seen.

Rounds go over all models in turn, so that a slow minute does not fall on one of them. Every timed window has
a canary before and after it, and waits a while for a quiet one. A window whose canary took more than `LIMIT`
of the best is discarded, nothing is rescaled, and the lower quartile of what is left counts. At the end each
model runs under torch's profiler.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from graphs import catalog
from graphs.canary import LIMIT, Canary, seconds_of
from graphs.errors import GraphError
from graphs.expressions import as_expr
from graphs.inputs import Example, SymbolValue
from graphs.losses import SUM
from graphs.profiling import Profile, profile

if TYPE_CHECKING:
    import torch
    from torch import nn

ROUNDS = 3
RUNNABLE = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp64": "float64"}  # ours -> torch's
_WINDOW_S = 0.020  # a shorter run is repeated within its window
_WINDOWS = 7  # most windows of a job in one round
_ENOUGH = 5  # valid windows of a job after which no further round is added
_PATIENCE_S = 3.0  # for a quiet machine, per job of a further round
_PROFILES = 3
_SHARES = {"build": 0.2, "rounds": 0.9}  # of the time budget, cumulative; profiles take the rest
_SEED = 0

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One thing to time: how the module is built and called, at which sizes, in which dtype of ours."""

    name: str
    phase: str
    dtype: str
    sizes: Mapping[str, int]
    build: Callable[[], nn.Module]
    example: Example
    loss: str = SUM


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Seconds per run in one window, the slower canary beside it, and whether that was quick enough."""

    round: int
    seconds: float
    canary_s: float
    valid: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """All windows of one job and the profile of one of its runs, with the slower canary beside that."""

    job: Job
    windows: tuple[Window, ...]
    profile: Profile
    profile_canary_s: float
    profile_valid: bool

    @property
    def seconds(self) -> float | None:
        """Lower quartile of the valid windows; None when the machine was never quiet."""
        valid = [window.seconds for window in self.windows if window.valid]
        if len(valid) < 2:
            return valid[0] if valid else None
        return statistics.quantiles(valid, n=4, method="inclusive")[0]

    @property
    def repeatability(self) -> float | None:
        """Spread of the medians of the rounds' valid windows: largest less smallest, over the middle one."""
        rounds: dict[int, list[float]] = {}
        for window in self.windows:
            if window.valid:
                rounds.setdefault(window.round, []).append(window.seconds)
        medians = [statistics.median(seconds) for seconds in rounds.values()]
        return (max(medians) - min(medians)) / statistics.median(medians) if len(medians) > 1 else None

    @property
    def discarded(self) -> int:
        return sum(not window.valid for window in self.windows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What one `run_plan` measured, and under which conditions."""

    measurements: tuple[Measurement, ...]
    rounds: int
    threads: int
    canary_s: float  # the best of the session
    torch: str


def job(
    entry: catalog.VariantEntry,
    phase: str,
    sizes: Mapping[str, float],
    dtype: str,
    *,
    asked: Sequence[str] = (),
) -> Job:
    """The call of a built-in model.

    A size that no input shape has (how many experts are active) is left to the module unless `asked`.
    """
    if dtype not in RUNNABLE:
        raise GraphError(f"{entry.name} cannot be run in {dtype} here; use {', '.join(RUNNABLE)}")
    module = catalog.load(entry)
    example = module.example(entry.config, catalog.call_phase(phase))
    wanted = {*_shape_sizes(example), *asked}
    return Job(
        name=entry.name,
        phase=phase,
        dtype=dtype,
        sizes={name: int(value) for name, value in sizes.items() if name in wanted},
        build=lambda: module.build(entry.config),
        example=example,
        loss=entry.loss,
    )


def _shape_sizes(example: Example) -> set[str]:
    shapes = [leaf.shape for leaf in example.leaves() if not isinstance(leaf, SymbolValue)]
    return {name for shape in shapes for size in shape for name in as_expr(size).symbols}


def run_plan(
    jobs: Sequence[Job],
    *,
    rounds: int = ROUNDS,
    budget_s: float = 75.0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Session:
    """Time every job in `rounds` rounds, and in further ones while one lacks valid windows and time is left.

    Each round has a window of each job at least, and a job without any valid window may take the budget once
    more: too small a budget is exceeded rather than obeyed.
    `threads` pins torch's threads for the time of the session.
    """
    import torch

    if not jobs or rounds < 1:
        raise GraphError(f"{len(jobs)} jobs in {rounds} rounds are nothing to run; give at least one of each")
    deadline = time.perf_counter() + _SHARES["rounds"] * budget_s
    tell = progress or (lambda done, text: None)
    with _threads(threads), torch.no_grad():
        canary = Canary()
        runs = []
        for index, one in enumerate(jobs):
            tell(_SHARES["build"] * index / len(jobs), f"{one.name}: building")
            runs.append(_Run(one, canary))
        used = _timed_rounds(runs, rounds, deadline, deadline + budget_s, tell)
        measurements = []
        for index, run in enumerate(runs):
            tell(
                _SHARES["rounds"] + (1 - _SHARES["rounds"]) * index / len(runs), f"{run.job.name}: profiling"
            )
            measurements.append(run.measured())
        tell(1.0, "measured")
        # judged at the end, when the best canary of the whole session is known
        return Session(
            measurements=tuple(_judged(one, canary.best_s) for one in measurements),
            rounds=used,
            threads=torch.get_num_threads(),
            canary_s=canary.best_s,
            torch=torch.__version__,
        )


def _timed_rounds(runs: Sequence[_Run], rounds: int, deadline: float, overtime: float, tell: Progress) -> int:
    """Fill the windows of all runs; how many rounds it took."""
    slots = [(number, run) for number in range(rounds) for run in runs]
    for index, (number, run) in enumerate(slots):
        done = _SHARES["build"] + (_SHARES["rounds"] - _SHARES["build"]) * index / len(slots)
        tell(done, f"{run.job.name}: round {number + 1} of {rounds}")
        now = time.perf_counter()
        run.sample(number, now + (deadline - now) / (len(slots) - index), least=1, most=_WINDOWS)
    number = rounds
    while lacking := _lacking(runs, deadline, overtime):
        for run in lacking:
            tell(_SHARES["rounds"], f"{run.job.name}: waiting for a quiet machine")
            run.sample(number, time.perf_counter() + _PATIENCE_S, least=0, most=2)
        number += 1
    return number


def _lacking(runs: Sequence[_Run], deadline: float, overtime: float) -> list[_Run]:
    """The runs with too few valid windows; after the deadline those with none."""
    now = time.perf_counter()
    needed = _ENOUGH if now < deadline else 1 if now < overtime else 0
    return [run for run in runs if run.valid() < needed]


def _judged(measurement: Measurement, best_s: float) -> Measurement:
    windows = tuple(replace(one, valid=one.canary_s <= LIMIT * best_s) for one in measurement.windows)
    return replace(measurement, windows=windows, profile_valid=measurement.profile_canary_s <= LIMIT * best_s)


class _Run:
    """A built module with its inputs, warmed up, and its windows so far."""

    def __init__(self, job: Job, canary: Canary) -> None:
        from graphs.tracing.listening import kinds_reached

        self.job = job
        self._canary = canary
        self._call = _call(job)
        self._windows: list[Window] = []
        self._kinds = kinds_reached(self._call)
        self._once_s = seconds_of(self._call)
        self._repeats = max(1, math.ceil(_WINDOW_S / self._once_s))

    def sample(self, round: int, deadline: float, *, least: int, most: int) -> None:
        """Time `least` to `most` windows until the deadline, each between two canaries."""
        before = self._canary.when_quiet(deadline)
        if self._canary.quiet(before):
            self._call()  # what ran in between has taken the caches
        for done in range(most):
            if done >= least and time.perf_counter() >= deadline:
                return
            if not self._canary.quiet(before):
                before = self._canary.when_quiet(deadline)
            seconds = seconds_of(self._repeated) / self._repeats
            after = self._canary.time()
            slower = max(before, after)
            self._windows.append(Window(round=round, seconds=seconds, canary_s=slower, valid=True))
            before = after

    def valid(self) -> int:
        """How many windows stand beside a quick canary."""
        return sum(self._canary.quiet(window.canary_s) for window in self._windows)

    def measured(self) -> Measurement:
        """The windows, and the best of a few profiled runs."""
        profiles = [self._profiled()]
        while len(profiles) < _PROFILES and self._canary.quiet(profiles[-1][0]):
            profiles.append(self._profiled())
        canary_s, best = min(profiles, key=lambda found: (not self._canary.quiet(found[0]), found[1].seconds))
        return Measurement(
            job=self.job,
            windows=tuple(self._windows),
            profile=best,
            profile_canary_s=canary_s,
            profile_valid=True,
        )

    def _profiled(self) -> tuple[float, Profile]:
        """The slower canary beside one profiled run, and its profile."""
        before = self._canary.when_quiet(time.perf_counter() + _PATIENCE_S)
        if self._canary.quiet(before):
            self._call()
        found = profile(self._call, self._kinds)
        return max(before, self._canary.time()), found

    def _repeated(self) -> None:
        for _ in range(self._repeats):
            self._call()


def _call(job: Job) -> Callable[[], object]:
    """The module with random weights and inputs, ready to be called or trained again and again."""
    import torch

    from graphs.layers import materialise

    dtype = getattr(torch, RUNNABLE[job.dtype])
    with _default_dtype(dtype), torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        module = job.build()
        args, kwargs = materialise(job.example, job.sizes, dtype, torch.Generator().manual_seed(_SEED))
    if job.phase == "train":
        return _training_step(module.train(), args, kwargs, job.loss)
    module.eval()
    return lambda: module(*args, **kwargs)


def _training_step(
    module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], loss: str
) -> Callable[[], object]:
    """Forward, backward and a fused AdamW step; gradients are dropped, as a training loop does by default."""
    import torch

    from graphs.tracing.loss import loss_of

    # a rate so small that any number of steps leaves the numbers as they are
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-9, fused=True)

    def targets_of(logits: torch.Tensor) -> torch.Tensor:
        return logits.new_zeros(logits.shape[:-1], dtype=torch.int64)

    def step() -> None:
        with torch.enable_grad():
            loss_of(module(*args, **kwargs), loss, targets_of).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
