"""`hwsim.validate`: runs models on this machine with torch, and puts estimates beside measurements."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from devices import Device
from devices import device as find_device
from devices import stack as find_stack
from devices.detect import unmeasured
from graphs.canary import LIMIT
from graphs.meter import GPU, PROCESSOR
from graphs.profiling import NOT_WORK
from graphs.running import COMPILED, EAGER, ROUNDS, Job, Measurement, Session, job_of, run_plan
from graphs.sources.source import find as find_source
from hwsim.errors import HwsimError
from hwsim.estimating import estimate
from hwsim.fitted import TIERS
from hwsim.result import Estimate
from hwsim.tracing import trace
from hwsim.validation import Host, KindRow, OperatorRow, Protocol, Validation, ValidationRow

if TYPE_CHECKING:
    from graphs.profiling import OperatorTime
    from hwsim.result import GroupRow, OpRow

HERE = "local"
MINUTES = 1.5
_TRACED = 0.1  # of the progress; the rest is running
_BUSY = 0.1  # share of the CPU that other programs may take without a word
_LOOPS = ("pointwise", "reduce")  # kinds of many operators
_ROOM_BYTE = 1e9  # torch itself, and what allocators hold back

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One thing to run and to predict: a model spec in a phase at sizes; others take their defaults."""

    model: str
    phase: str = "forward"
    sizes: Mapping[str, Any] = field(default_factory=dict)
    dtype: str | None = None


def validate(
    models: str | Sequence[str],
    device: str | Device = HERE,
    *,
    phase: str = "forward",
    batch: int | None = None,
    seq: int | None = None,
    context: int | None = None,
    dtype: str | None = None,
    stack: str = EAGER,
    rounds: int = ROUNDS,
    minutes: float = MINUTES,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    **symbols: Any,
) -> Validation:
    """Run `models` on this machine with random weights, and compare with their estimates.

    A size is given to the models that have it. The `stack` is eager or compiled. `minutes` is about how long
    it takes; `progress` is told the fraction done and what comes next.
    """
    names = [models] if isinstance(models, str) else list(models)
    given = {"batch": batch, "seq": seq, "context": context, **symbols, **(overrides or {})}
    asked = {name: value for name, value in given.items() if value is not None}
    warnings: list[str] = []
    chosen = _given_to_those_that_have_it(list(dict.fromkeys(names)), phase, asked, warnings)
    workloads = [Workload(model=name, phase=phase, sizes=sizes, dtype=dtype) for name, sizes in chosen]
    return validate_workloads(
        workloads, device, stack=stack, rounds=rounds, minutes=minutes, warnings=warnings, progress=progress
    )


def validate_workloads(
    workloads: Sequence[Workload],
    device: str | Device = HERE,
    *,
    stack: str = EAGER,
    rounds: int = ROUNDS,
    minutes: float = MINUTES,
    warnings: Sequence[str] = (),
    progress: Progress | None = None,
) -> Validation:
    """Run any mixture of workloads in one session, interleaved, as `validate`."""
    machine = _this_machine(device)
    if stack not in (EAGER, COMPILED):
        raise HwsimError(f"stack {stack!r} cannot be run here; use {EAGER} or {COMPILED}")
    tell = progress or (lambda done, text: None)
    start = time.perf_counter()
    for one in workloads:
        _check_runnable(one.model)
    if not workloads or not minutes > 0:
        raise HwsimError(f"{len(workloads)} models in {minutes:g} minutes: give at least one and some time")
    told = list(warnings)
    predicted, before, jobs = [], [], []
    untouched = replace(unmeasured(), id="uncalibrated")
    for index, one in enumerate(workloads):
        tell(_TRACED * index / len(workloads), f"{one.model}: tracing")
        found = _estimate(one, machine, stack)
        told += [text for text in found.warnings if text not in told]
        calibrated = found.provenance["tier"] == TIERS["machine"]
        before.append(float(_estimate(one, untouched, stack).latency_s) if calibrated else None)
        jobs.append(_job(one, found, stack))
        predicted.append(found)
    _check_memory(predicted)
    load = _Load()
    session = run_plan(
        jobs,
        rounds=rounds,
        budget_s=60 * minutes - (time.perf_counter() - start),
        threads=int(machine.compute.units),
        progress=lambda done, text: tell(_TRACED + (1 - _TRACED) * done, text),
    )
    others = load.others_share()
    if others > _BUSY:
        told.append(f"other programs took {100 * others:.0f} % of the CPU; stop them and measure again")
    return Validation(
        device=machine.id,
        stack=stack,
        tier=str(predicted[0].provenance["tier"]),
        host=_host(machine, session),
        protocol=_protocol(session, others),
        rows=tuple(map(_row, predicted, session.measurements, before)),
        warnings=tuple(told),
    )


def _estimate(one: Workload, machine: Device, stack: str) -> Estimate:
    known = find_stack(stack)
    # what runs here grows its cache by `cat`, which copies it, where a server would write in place
    software = known.replace(passes=("copied_cache", *known.passes))
    found: Estimate = estimate(
        one.model, machine, phase=one.phase, dtype=one.dtype, stack=software, overrides=one.sizes
    )
    return found


def _this_machine(device: str | Device) -> Device:
    found = find_device(device) if isinstance(device, str) else device
    if found.id != HERE:
        raise HwsimError(
            f"device '{found.id}' is not this machine, so nothing can be run on it; use -d {HERE}"
        )
    return found


def _given_to_those_that_have_it(
    models: Sequence[str], phase: str, asked: Mapping[str, Any], warnings: list[str]
) -> list[tuple[str, dict[str, Any]]]:
    """The sizes each model takes; one that no model knows is left for the estimate to refuse."""
    for name in models:
        _check_runnable(name)
    known = {name: {size.name for size in trace(name, phase=phase).symbols} for name in models}
    elsewhere = {size for sizes in known.values() for size in sizes}
    chosen = []
    for name in models:
        other = [size for size in asked if size in elsewhere - known[name]]
        warnings += [f"{name} has no size {size!r} and runs without it" for size in other]
        chosen.append((name, {size: value for size, value in asked.items() if size not in other}))
    return chosen


def _check_runnable(model: str) -> None:
    if model.endswith(".json"):
        raise HwsimError(f"{model} is a graph without its module and cannot be run; name the model itself")


def _job(one: Workload, predicted: Estimate, stack: str) -> Job:
    if predicted.shape:
        raise HwsimError(f"{one.model}: arrays cannot be run; give each size as one number")
    fractional = [name for name in one.sizes if predicted.sizes.get(name, 0) % 1]
    if fractional:
        value = predicted.sizes[fractional[0]]
        raise HwsimError(f"{fractional[0]}={value:g}: a real run of {one.model} needs a whole number")
    if one.model.endswith(".json"):
        raise HwsimError(
            f"{one.model} is a graph without a module, and cannot be run; name what it came from"
        )
    subject = find_source(one.model).subject(one.phase)
    return job_of(subject, predicted.sizes, predicted.dtype, asked=tuple(one.sizes), stack=stack)


def _check_memory(predicted: Sequence[Estimate]) -> None:
    """All models stay loaded, as rounds go over all of them; activations are those of one at a time."""
    import psutil

    held = sum(e.memory_bytes[role] for e in predicted for role in ("weights", "kv_cache", "optimizer"))
    passing = (e.memory_bytes["activations"] + e.memory_bytes["gradients"] for e in predicted)
    needed = held + max(passing) + _ROOM_BYTE
    free = psutil.virtual_memory().available
    if needed > free:
        names = ", ".join(e.model for e in predicted)
        raise HwsimError(
            f"running {names} needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB of RAM are free; "
            "choose fewer or smaller models, or another --dtype"
        )


def _host(machine: Device, session: Session) -> Host:
    dram = machine.memory.dram
    assert dram is not None  # detection always gives RAM
    return Host(
        cpu=machine.name,
        cores=int(machine.compute.units),
        memory_byte=float(dram.capacity_byte or 0.0),
        system=platform.platform(terse=True),
        torch=session.torch,
        threads=session.threads,
        pinned=session.pinned,
    )


class _Load:
    """How much of the CPU other programs take from now on."""

    def __init__(self) -> None:
        self._start = self._now()

    def others_share(self) -> float:
        """Their part of all cores' time, from 0 to 1."""
        whole, others = (now - then for now, then in zip(self._now(), self._start, strict=True))
        return min(1.0, max(0.0, others / whole)) if whole > 0 else 0.0

    @staticmethod
    def _now() -> tuple[float, float]:
        import psutil

        cores, own = psutil.cpu_times(), psutil.Process().cpu_times()
        # guest time is counted in user time already
        whole = sum(cores) - getattr(cores, "guest", 0.0) - getattr(cores, "guest_nice", 0.0)
        idle = cores.idle + getattr(cores, "iowait", 0.0)
        return whole, whole - idle - own.user - own.system


def _protocol(session: Session, others_share: float) -> Protocol:
    return Protocol(
        timing="host clock around whole runs, warm, one after the other, interleaved over models",
        statistic="lower quartile of the windows with a quiet canary",
        canary="fp32 matrix product before and after each window",
        canary_s=session.canary_s,
        canary_limit=LIMIT,
        rounds=session.rounds,
        others_share=others_share,
        unmetered=session.unmetered,
    )


def _row(predicted: Estimate, measured: Measurement, before: float | None) -> ValidationRow:
    return ValidationRow(
        model=predicted.model,
        phase=predicted.phase,
        sizes=dict(predicted.sizes),
        dtype=predicted.dtype,
        measured_s=measured.seconds,
        repeatability=measured.repeatability,
        windows=len(measured.windows),
        discarded=measured.discarded,
        predicted_s=float(predicted.latency_s),
        low_s=float(predicted.latency_low_s),
        high_s=float(predicted.latency_high_s),
        profiled_s=measured.profile.seconds,
        profile_quiet=measured.profile_valid,
        kinds=_kinds(predicted.by("kind"), measured),
        prior_s=before,
        operators=_operators(predicted, measured),
        energy_j=measured.energy_j.get(PROCESSOR),
        predicted_energy_j=float(predicted.energy_j),
        gpu_energy_j=measured.energy_j.get(GPU),
    )


def _operators(predicted: Estimate, measured: Measurement) -> tuple[OperatorRow, ...]:
    """Operators of one kind, name and size on both sides, what takes longest first."""
    ours: dict[tuple[str, str, str], list[OpRow]] = {}
    for row in predicted.ops:
        ours.setdefault((row.kind, _loop(row.kind, row.name), row.dims), []).append(row)
    theirs: dict[tuple[str, str, str], list[OperatorTime]] = {}
    for one in measured.profile.operators:
        if one.dims:
            theirs.setdefault((one.kind, _loop(one.kind, one.name), one.dims), []).append(one)
    found = [
        OperatorRow(
            kind=kind,
            name=(ours.get(key) or theirs[key])[0].name,
            dims=dims,
            measured_s=sum(one.seconds for one in theirs[key]) if key in theirs else None,
            measured_count=sum(one.count for one in theirs.get(key, ())),
            predicted_s=sum(row.latency_s for row in ours[key]) if key in ours else None,
            predicted_count=sum(row.count for row in ours.get(key, ())),
            flops=sum(row.flops for row in ours.get(key, ())),
            bytes=sum(row.onchip_bytes for row in ours.get(key, ())),
            dram_bytes=sum(row.dram_bytes for row in ours.get(key, ())),
            compute_s=sum(row.compute_s for row in ours.get(key, ())),
            memory_s=sum(row.memory_s for row in ours.get(key, ())),
            overhead_s=sum(row.overhead_s for row in ours.get(key, ())),
            bound=ours[key][0].bound if key in ours else "",
            quiet=measured.profile_valid,
        )
        for key in {**ours, **theirs}
        for kind, _, dims in (key,)
    ]
    return tuple(sorted(found, key=lambda one: -(one.measured_s or one.predicted_s or 0.0)))


def _loop(kind: str, name: str) -> str:
    """`gelu` of `aten.gelu` or `aten::gelu_`, where operators of a kind and a size may be very different."""
    if kind not in _LOOPS:
        return ""
    return name.replace("::", ".").partition(".")[2].partition(".")[0].rstrip("_")


def _kinds(predicted: Sequence[GroupRow], measured: Measurement) -> tuple[KindRow, ...]:
    """Every kind of either side, what takes longest first, and last what is no operator's work."""
    groups = {group.label: group for group in predicted}
    profiled = measured.profile.by_kind()
    rows = []
    for kind in {**profiled, **groups}:
        seconds, count = profiled.get(kind, (None, 0))
        group = groups.get(kind)
        rows.append(
            KindRow(
                kind=kind,
                measured_s=seconds,
                measured_count=count,
                predicted_s=None if group is None else group.latency_s,
                predicted_count=0 if group is None else group.count,
                quiet=measured.profile_valid,
            )
        )
    return tuple(sorted(rows, key=lambda row: (row.kind in NOT_WORK, -(row.measured_s or 0.0))))
