"""Runs built-in models for real on this machine's CPU and times them so that its noise is seen.

Rounds go over all models in turn, so that a slow minute does not fall on one of them; what counts of the
windows, `graphs.timing` says. At the end each model runs under torch's profiler.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from graphs import catalog
from graphs.canary import LIMIT, Canary
from graphs.errors import GraphError
from graphs.expressions import as_expr
from graphs.inputs import Example, SymbolValue
from graphs.losses import SUM
from graphs.meter import Meter, meter
from graphs.profiling import Profile, profile
from graphs.threads import Team, team
from graphs.timing import Timer, Window, judged, lower_quartile, spread

if TYPE_CHECKING:
    import torch
    from torch import nn

    from graphs.tracing.symbolic import Subject

ROUNDS = 3
TRAIN, EAGER, COMPILED = "train", "eager", "compiled"
CPP_COMPILERS = ("g++", "clang++", "c++")
RUNNABLE = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp64": "float64"}  # ours -> torch's
_WINDOWS = 7  # most windows of a job in one round
_ENOUGH = 5  # valid windows of a job after which no further round is added
_PATIENCE_S = 3.0  # for a quiet machine, per job of a further round
_PROFILES = 3
_METERED_S = 0.5  # counters of energy move about every millisecond
_SHARES = {"build": 0.2, "rounds": 0.9}  # of the time budget, cumulative; profiles take the rest
_SEED = 0

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One thing to time: how the module is built and called, at which sizes, in which dtype of ours.

    Phase `train` is a step: forward, backward of `loss`, and AdamW as torch fuses it. The `stack` is eager,
    or compiled by torch.
    """

    name: str
    phase: str
    dtype: str
    sizes: Mapping[str, int]
    build: Callable[[], nn.Module]
    example: Example
    loss: str = SUM
    stack: str = "eager"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """All windows of one job and the profile of one of its runs, with the slower canary beside that."""

    job: Job
    windows: tuple[Window, ...]
    profile: Profile
    profile_canary_s: float
    profile_valid: bool
    energy_j: Mapping[str, float] = field(
        default_factory=dict
    )  # of one run, by part of the machine that tells

    @property
    def seconds(self) -> float | None:
        """What counts of the windows; None when the machine was never quiet."""
        return lower_quartile(self.windows)

    @property
    def repeatability(self) -> float | None:
        """Spread of the medians of the rounds' valid windows."""
        return spread(self.windows)

    @property
    def discarded(self) -> int:
        return sum(not window.valid for window in self.windows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What one `run_plan` measured, and under which conditions."""

    measurements: tuple[Measurement, ...]
    rounds: int
    threads: int
    pinned: bool
    canary_s: float  # the best of the session
    torch: str
    unmetered: tuple[str, ...] = ()  # parts of the machine whose energy nobody tells, and why


def job(
    entry: catalog.VariantEntry,
    phase: str,
    sizes: Mapping[str, float],
    dtype: str,
    *,
    asked: Sequence[str] = (),
    stack: str = "eager",
) -> Job:
    """The call of a built-in model; as `job_of`."""
    from graphs.sources.built_in import subject_of

    return job_of(subject_of(entry, phase), sizes, dtype, asked=asked, stack=stack)


def job_of(
    subject: Subject,
    sizes: Mapping[str, float],
    dtype: str,
    *,
    asked: Sequence[str] = (),
    stack: str = "eager",
) -> Job:
    """The call of what a trace would record.

    A size that no input shape has (how many experts are active) is left to the module unless `asked`.
    """
    if dtype not in RUNNABLE:
        raise GraphError(f"{subject.name} cannot be run in {dtype} here; use {', '.join(RUNNABLE)}")
    wanted = {*_shape_sizes(subject.example), *asked}
    return Job(
        name=subject.name,
        phase=subject.phase,
        dtype=dtype,
        sizes={name: int(value) for name, value in sizes.items() if name in wanted},
        build=subject.build,
        example=subject.example,
        loss=subject.loss,
        stack=stack,
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
    with team(threads) as workers, torch.no_grad():
        canary, energy = Canary(workers), meter()
        runs = []
        for index, one in enumerate(jobs):
            tell(_SHARES["build"] * index / len(jobs), f"{one.name}: building")
            runs.append(_Run(one, canary, workers))
        used = _timed_rounds(runs, rounds, deadline, deadline + budget_s, tell)
        measurements = []
        for index, run in enumerate(runs):
            tell(
                _SHARES["rounds"] + (1 - _SHARES["rounds"]) * index / len(runs), f"{run.job.name}: profiling"
            )
            measurements.append(run.measured(energy))
        tell(1.0, "measured")
        # judged at the end, when the best canary of the whole session is known
        return Session(
            measurements=tuple(_judged(one, canary.best_s) for one in measurements),
            rounds=used,
            threads=workers.count,
            pinned=workers.pinned,
            canary_s=canary.best_s,
            torch=torch.__version__,
            unmetered=energy.missing,
        )


def _timed_rounds(runs: Sequence[_Run], rounds: int, deadline: float, overtime: float, tell: Progress) -> int:
    """Fill the windows of all runs; how many rounds it took."""
    slots = [(number, run) for number in range(rounds) for run in runs]
    for index, (number, run) in enumerate(slots):
        done = _SHARES["build"] + (_SHARES["rounds"] - _SHARES["build"]) * index / len(slots)
        tell(done, f"{run.job.name}: round {number + 1} of {rounds}")
        now = time.perf_counter()
        run.timer.sample(number, now + (deadline - now) / (len(slots) - index), least=1, most=_WINDOWS)
    number = rounds
    while lacking := _lacking(runs, deadline, overtime):
        for run in lacking:
            tell(_SHARES["rounds"], f"{run.job.name}: waiting for a quiet machine")
            run.timer.sample(number, time.perf_counter() + _PATIENCE_S, least=0, most=2)
        number += 1
    return number


def _lacking(runs: Sequence[_Run], deadline: float, overtime: float) -> list[_Run]:
    """The runs with too few valid windows; after the deadline those with none."""
    now = time.perf_counter()
    needed = _ENOUGH if now < deadline else 1 if now < overtime else 0
    return [run for run in runs if run.timer.valid() < needed]


def _judged(measurement: Measurement, best_s: float) -> Measurement:
    windows = judged(measurement.windows, best_s)
    return replace(measurement, windows=windows, profile_valid=measurement.profile_canary_s <= LIMIT * best_s)


class _Run:
    """A built module with its inputs, warmed up, and its windows so far."""

    def __init__(self, job: Job, canary: Canary, team: Team) -> None:
        from graphs.tracing.listening import reached

        self.job = job
        self._canary = canary
        call = _call(job)
        self._reached = reached(call)
        self._call = compiled(call) if job.stack == COMPILED else call
        self.timer = Timer(self._call, canary, team)

    def measured(self, energy: Meter) -> Measurement:
        """The windows, and the best of a few profiled runs."""
        deadline = time.perf_counter() + _PATIENCE_S
        profiles = [self._profiled(deadline)]
        while len(profiles) < _PROFILES and time.perf_counter() < deadline:
            profiles.append(self._profiled(deadline))
        canary_s, best = min(profiles, key=lambda found: (not self._canary.quiet(found[0]), found[1].seconds))
        return Measurement(
            job=self.job,
            windows=tuple(self.timer.windows),
            profile=best,
            profile_canary_s=canary_s,
            profile_valid=True,
            energy_j=self._energy_j(energy),
        )

    def _energy_j(self, energy: Meter) -> dict[str, float]:
        seconds = min((window.seconds for window in self.timer.windows), default=None)
        return energy.joules_of(self._call, round(_METERED_S / seconds)) if seconds else {}

    def _profiled(self, deadline: float) -> tuple[float, Profile]:
        """The slower canary beside one profiled run, and its profile."""
        before = self._canary.when_quiet(deadline)
        if self._canary.quiet(before):
            self._call()
        found = profile(self._call, self._reached.kinds, self._reached.dims)
        return max(before, self._canary.time()), found


def _call(job: Job) -> Callable[[], object]:
    """The module with random weights and inputs, ready to be called or trained again and again."""
    import torch

    from graphs.layers import materialise
    from graphs.tracing.symbolic import default_dtype

    dtype = getattr(torch, RUNNABLE[job.dtype])
    with default_dtype(dtype), torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        module = job.build()
        if any(one.dtype != dtype for one in module.parameters()):
            module.to(dtype)
        args, kwargs = materialise(job.example, job.sizes, dtype, torch.Generator().manual_seed(_SEED))
    if job.phase == TRAIN:
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


def compiled(call: Callable[[], object]) -> Callable[[], object]:
    """The call through torch.compile, compiled and warm; refused where no C++ compiler is found."""
    import torch

    if not any(map(shutil.which, CPP_COMPILERS)):
        raise GraphError(
            f"torch.compile needs a C++ compiler, and none of {', '.join(CPP_COMPILERS)} is here"
        )
    found: Callable[[], object] = torch.compile(call, dynamic=False)
    found()
    found()
    return found
