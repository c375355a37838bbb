"""GPUs of this machine that torch sees: operators are timed there and the SIMT engine is fitted to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devices import Device
from devices.detect import survey
from graphs.benchmarks import Benchmark, accelerator_benchmarks
from graphs.measuring import Timed, accelerators_of_torch, measure, points
from graphs.running import Progress
from hwsim.calibrating_devices import Calibration, fit_devices
from hwsim.errors import HwsimError
from hwsim.machine_fit import samples_of_machine

DTYPES = ("fp32", "bf16", "fp16")
FLOOR_S = 20e-6  # three times what a host takes to launch; a shorter kernel says more of the host
_CACHES = 3.0  # last caches that the operands of cold points fill


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One device of torch, such as `cuda:0`, and what it is."""

    on: str
    device: Device


def accelerators() -> tuple[list[Accelerator], list[str]]:
    """One of each GPU that torch sees, CUDA, ROCm or MPS, and a line for each that nothing is known of."""
    seen = accelerators_of_torch()
    if not seen:
        return [], []
    here = survey()
    gpus = [one for one in here.devices if one.kind == "gpu"]
    found: dict[str, Accelerator] = {}
    unknown = list(here.skipped)
    for on, name in seen:
        # Apple has one GPU and torch no name for it
        device = next((one for one in gpus if not name or name in (one.name, *one.aliases)), None)
        if device is None:
            unknown.append(f"torch's {on}, {name}: no driver of this machine tells of it")
        else:
            found.setdefault(device.id, Accelerator(on=on, device=device))
    return list(found.values()), unknown


def calibrate_accelerator(
    one: Accelerator,
    *,
    minutes: float,
    out: str | Path | None = None,
    grid: Sequence[Benchmark] | None = None,
    floor_s: float = FLOOR_S,
    progress: Progress | None = None,
) -> Calibration:
    """Time operators there for at most `minutes`, fit this very device to them, write its file."""
    cache = one.device.memory.last_level_cache
    campaign = measure(
        points(accelerator_benchmarks() if grid is None else grid, DTYPES),
        beyond_byte=_CACHES * float(cache.capacity_byte) if cache is not None else 0.0,
        budget_s=60 * minutes,
        threads=1,  # feed it
        on=one.on,
        progress=progress,
    )
    samples = list(samples_of_machine([t for t in campaign.timed if _told(t, floor_s)], one.device))
    if not samples:
        raise HwsimError(f"nothing on {one.device.id} took longer than its launch; allow more --minutes")
    return fit_devices(samples, told=f"hwsim calibrate -d local on {one.on}", out=out)


def _told(timed: Timed, floor_s: float) -> bool:
    return timed.seconds is not None and timed.seconds >= floor_s
