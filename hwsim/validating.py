"""`hwsim.validate`: runs models on this machine with torch, and puts estimates beside measurements."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from devices import Device
from devices import device as find_device
from graphs.canary import LIMIT
from graphs.catalog import VariantEntry, find, size_symbols
from graphs.profiling import NOT_WORK
from graphs.running import ROUNDS, Job, Measurement, Session, job, run_plan
from hwsim.errors import HwsimError
from hwsim.estimating import estimate
from hwsim.result import Estimate
from hwsim.validation import Host, KindRow, Protocol, Validation, ValidationRow

if TYPE_CHECKING:
    from hwsim.result import GroupRow

HERE = "local"
STACK = "eager"  # what runs: torch, one operator after the other
MINUTES = 1.5
_TRACED = 0.1  # of the progress; the rest is running
_BUSY = 0.1  # share of the CPU that other programs may take without a word
_ROOM_BYTE = 1e9  # torch itself, and what allocators hold back

Progress = Callable[[float, str], None]


def validate(
    models: str | Sequence[str],
    device: str | Device = HERE,
    *,
    phase: str = "forward",
    batch: int | None = None,
    seq: int | None = None,
    context: int | None = None,
    dtype: str | None = None,
    rounds: int = ROUNDS,
    minutes: float = MINUTES,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    **symbols: Any,
) -> Validation:
    """Run built-in `models` on this machine, eager and with random weights, and compare with their estimates.

    A size is given to the models that have it. `minutes` is about how long it takes; `progress` is told the
    fraction done and what comes next.
    """
    machine = _this_machine(device)
    tell = progress or (lambda done, text: None)
    start = time.perf_counter()
    names = [models] if isinstance(models, str) else list(models)
    if not names or not minutes > 0:
        raise HwsimError(f"{len(names)} models in {minutes:g} minutes: give at least one and some time")
    given = {"batch": batch, "seq": seq, "context": context, **symbols, **(overrides or {})}
    asked = {name: value for name, value in given.items() if value is not None}
    entries = [_entry(name) for name in dict.fromkeys(names)]
    warnings: list[str] = []
    predicted = []
    for index, entry in enumerate(entries):
        tell(_TRACED * index / len(entries), f"{entry.name}: tracing")
        taken = _taken(entry, phase, asked, entries, warnings)
        predicted.append(
            estimate(entry.name, machine, phase=phase, dtype=dtype, stack=STACK, overrides=taken)
        )
    for one in predicted:
        warnings += [text for text in one.warnings if text not in warnings]
    _check_memory(predicted)
    jobs = [_job(entry, one, asked) for entry, one in zip(entries, predicted, strict=True)]
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
        warnings.append(f"other programs took {100 * others:.0f} % of the CPU; stop them and measure again")
    return Validation(
        device=machine.id,
        stack=STACK,
        tier=str(predicted[0].provenance["tier"]),
        host=_host(machine, session),
        protocol=_protocol(session, others),
        rows=tuple(_row(*pair) for pair in zip(predicted, session.measurements, strict=True)),
        warnings=tuple(warnings),
    )


def _this_machine(device: str | Device) -> Device:
    found = find_device(device) if isinstance(device, str) else device
    if found.id != HERE:
        raise HwsimError(
            f"device '{found.id}' is not this machine, so nothing can be run on it; use -d {HERE}"
        )
    return found


def _entry(name: str) -> VariantEntry:
    if name.endswith(".json") or ".py:" in name:
        raise HwsimError(f"{name} cannot be run: validate runs built-in models; see `hwsim models`")
    return find(name)


def _taken(
    entry: VariantEntry,
    phase: str,
    asked: Mapping[str, Any],
    entries: Sequence[VariantEntry],
    warnings: list[str],
) -> dict[str, Any]:
    """What was asked and this model knows; a size that no model knows is left for the estimate to refuse."""
    known = size_symbols(entry, phase)
    elsewhere = {name for one in entries if phase in one.phases for name in size_symbols(one, phase)}
    other = [name for name in asked if name in elsewhere - known.keys()]
    warnings += [f"{entry.name} has no size {name!r} and runs without it" for name in other]
    return {name: value for name, value in asked.items() if name not in other}


def _job(entry: VariantEntry, predicted: Estimate, asked: Mapping[str, Any]) -> Job:
    if predicted.shape:
        raise HwsimError(f"{entry.name}: arrays cannot be run; give each size as one number")
    fractional = [name for name in asked if predicted.sizes.get(name, 0) % 1]
    if fractional:
        value = predicted.sizes[fractional[0]]
        raise HwsimError(f"{fractional[0]}={value:g}: a real run of {entry.name} needs a whole number")
    return job(entry, predicted.phase, predicted.sizes, predicted.dtype, asked=tuple(asked))


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
    )


def _row(predicted: Estimate, measured: Measurement) -> ValidationRow:
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
    )


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
