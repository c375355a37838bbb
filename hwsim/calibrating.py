"""`hwsim.calibrate`: fits coefficients to measurements, of the user's own files or taken on this machine.

A file names its devices. On this machine operators are timed on the CPU and on every GPU that torch sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hwsim.calibrating_accelerators import accelerators, calibrate_accelerator
from hwsim.calibrating_devices import Calibration, Scope, fit_devices
from hwsim.calibrating_machine import MINUTES, MachineCalibration, Progress, calibrate_machine
from hwsim.errors import HwsimError
from hwsim.fitting import Sample, samples_of
from hwsim.fitting_surface import ROWS as KEPT
from hwsim.measurements.predicting import questions_of

HERE = "local"
SEED = 1
ROWS = 400  # of a device and operator that a fit looks at


def calibrate(
    sources: str | Path | Sequence[str | Path] = (),
    *,
    device: str = "",
    scope: Scope = "device",
    out: str | Path | None = None,
    surface: bool = True,
    minutes: float = MINUTES,
    threads: int | None = None,
    refit: bool = False,
    progress: Progress | None = None,
) -> Calibration | MachineCalibration:
    """Fit coefficients to measurement files, or time operators on this `device` ("local") and fit to these.

    They are written to `out`, or to the user's own folder. `out` is a file when one device (or generation)
    was measured, else a folder. Without `surface`, and in a scope wider than a device, coefficients are all
    that files teach. `minutes` and `threads` are for this machine's CPU, as is `refit`: fit what
    was timed last once more. Each GPU that torch sees takes as many minutes again.
    """
    if device and sources:
        raise HwsimError(f"a file names its devices, so device {device!r} has no place beside it; give one")
    if device:
        if device != HERE:
            raise HwsimError(f"device '{device}' is not this machine, so nothing can be timed; use -d {HERE}")
        here = calibrate_machine(minutes=minutes, threads=threads, out=out, refit=refit, progress=progress)
        # a file is that of the CPU, and of the GPUs no timings are kept
        one_file = out is not None and Path(out).suffix == ".toml"
        return here if refit or one_file else _with_gpus(here, minutes=minutes, out=out, progress=progress)
    if refit:
        raise HwsimError("refit is for what was timed here; give -d local")
    if not sources:
        raise HwsimError("nothing to calibrate from; give -d local, or --from FILE")
    return _calibrate_files(sources, scope=scope, out=out, surface=surface and scope == "device")


def _with_gpus(
    here: MachineCalibration, *, minutes: float, out: str | Path | None, progress: Progress | None
) -> MachineCalibration:
    """The calibration of this machine with those of its GPUs."""
    found, unknown = accelerators()
    made = []
    for one in found:
        try:
            made.append(calibrate_accelerator(one, minutes=minutes, out=out, progress=progress))
        except HwsimError as error:
            unknown.append(str(error))
    return replace(here, gpus=tuple(made), unknown=tuple(unknown))


def _calibrate_files(
    sources: str | Path | Sequence[str | Path], *, scope: Scope, out: str | Path | None, surface: bool
) -> Calibration:
    paths = [sources] if isinstance(sources, str | Path) else list(sources)
    samples = [one for path in paths for one in _samples(path, ROWS)]
    if not samples:
        raise HwsimError(
            f"{', '.join(str(path) for path in paths)}: no row of a known GPU with a measured time; "
            "see `hwsim validate --layouts` and `hwsim devices`"
        )
    more = [one for path in paths for one in _samples(path, KEPT)] if surface else []
    told = ", ".join(Path(path).name for path in paths)
    return fit_devices(samples, told=told, scope=scope, out=out, kernels=more)


def _samples(path: str | Path, most: int) -> Iterable[Sample]:
    rng = np.random.default_rng(SEED)
    return (one for one in samples_of(questions_of(path), most=most, rng=rng) if one.device.engine == "simt")
