"""`hwsim.calibrate`: fits coefficients to the user's own measurements and writes them where they are found.

A file names its devices; what is free is a device's own, its generation's, or everybody's (`scope`). Values
are pulled to those that ship, and only those that moved are written.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from devices import Device
from hwsim.calibrating_machine import MINUTES, MachineCalibration, Progress, calibrate_machine
from hwsim.errors import HwsimError
from hwsim.fitted import coefficients_for, user_folder
from hwsim.fitting import Fitted, Key, Sample, fit, mean_error, read_entries, samples_of, write_entries
from hwsim.fitting_gpus import FREE

Scope = Literal["device", "generation", "engine"]
HERE = "local"
SEED = 1
ROWS = 400  # of a device and operator that a fit looks at
ITERATIONS = 12
MOVED = 0.005  # relative change below which a value counts as unmoved


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRow:
    """One device and operator: rows used, and the mean absolute error before and after."""

    device: str
    op: str
    rows: int
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What `hwsim.calibrate` did: errors by device and operator, and the coefficient files it wrote."""

    scope: str
    rows: tuple[CalibrationRow, ...]
    values: dict[Key, float]
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, object]:
        """The document `hwsim.calibration/1`."""
        return {
            "schema": "hwsim.calibration/1",
            "scope": self.scope,
            "rows": [
                {"device": r.device, "op": r.op, "rows": r.rows, "before": r.before, "after": r.after}
                for r in self.rows
            ],
            "coefficients": [{"name": n, "where": w, "value": v} for (n, w), v in self.values.items()],
            "files": [str(path) for path in self.files],
        }


def calibrate(
    sources: str | Path | Sequence[str | Path] = (),
    *,
    device: str = "",
    scope: Scope = "device",
    out: str | Path | None = None,
    minutes: float = MINUTES,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Calibration | MachineCalibration:
    """Fit coefficients to measurement files, or time operators on this `device` ("local") and fit to these.

    They are written to `out`, or to the user's own folder. `out` is a file when one device (or generation)
    was measured, else a folder. `minutes` and `threads` are for this machine.
    """
    if device and sources:
        raise HwsimError(f"a file names its devices, so device {device!r} has no place beside it; give one")
    if device:
        if device != HERE:
            raise HwsimError(f"device '{device}' is not this machine, so nothing can be timed; use -d {HERE}")
        return calibrate_machine(minutes=minutes, threads=threads, out=out, progress=progress)
    if not sources:
        raise HwsimError("nothing to calibrate from; give -d local, or --from FILE")
    return _calibrate_files(sources, scope=scope, out=out)


def _calibrate_files(
    sources: str | Path | Sequence[str | Path], *, scope: Scope, out: str | Path | None
) -> Calibration:
    paths = [sources] if isinstance(sources, str | Path) else list(sources)
    samples = [one for path in paths for one in _samples(path)]
    if not samples:
        raise HwsimError(
            f"{', '.join(str(path) for path in paths)}: no row of a known GPU with a measured time; "
            "see `hwsim validate --layouts` and `hwsim devices`"
        )
    places = {one.device.id: _place(one.device, scope) for one in samples}
    target = _target(out, sorted(set(places.values())))
    start = {
        (name, places[one.device.id]): float(coefficients_for(one.device)[name])
        for one in samples
        for name in FREE
    }
    before = Fitted({}, samples).errors()
    made = fit(samples, start, iterations=ITERATIONS)
    after = made.errors()
    moved = {key: value for key, value in made.values.items() if abs(value / start[key] - 1) > MOVED}
    files = [_write(target, place, scope, moved, samples, paths) for place in sorted(set(places.values()))]
    return Calibration(
        scope=scope,
        rows=tuple(
            CalibrationRow(
                device=device, op=op, rows=error.size, before=mean_error(before[device, op]),
                after=mean_error(error),
            )
            for (device, op), error in sorted(after.items())
        ),
        values=moved,
        files=tuple(files),
    )  # fmt: skip


def _samples(path: str | Path) -> Iterable[Sample]:
    rng = np.random.default_rng(SEED)
    return (one for one in samples_of(path, most=ROWS, rng=rng) if one.device.engine == "simt")


def _place(device: Device, scope: str) -> str:
    places = {"device": device.id, "generation": device.generation, "engine": ""}
    if scope not in places:
        raise HwsimError(f"no scope {scope!r}; scopes are {', '.join(places)}")
    return places[scope]


def _target(out: str | Path | None, places: Sequence[str]) -> Path:
    """The folder or the one file to write to."""
    if out is None:
        return user_folder()
    path = Path(out)
    if path.suffix == ".toml" and len(places) > 1:
        raise HwsimError(
            f"--out {path} is one file, and {', '.join(places)} were measured; give a folder instead"
        )
    return path


def _write(
    target: Path, place: str, scope: str, values: dict[Key, float], samples: Sequence[Sample],
    sources: Sequence[str | Path],
) -> Path:  # fmt: skip
    name = f"{(place or 'simt').replace('/', '_').replace(' ', '-')}.toml"
    path = target if target.suffix == ".toml" else target / name
    used = [one for one in samples if _place(one.device, scope) == place]
    rows = sum(one.at.size for one in used)
    meanings = read_entries(Path(__file__).with_name("coefficients") / "simt.toml")
    entries = read_entries(path)
    for (coefficient, where), value in values.items():
        if where == place:
            entries[coefficient] = {
                "value": value,
                "meaning": meanings[coefficient]["meaning"],
                "source": f"hwsim calibrate on {rows} rows",
            }
    told = ", ".join(Path(source).name for source in sources)
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    write_entries(
        path, scope, entries, fitted_on=f"{told}; {today}", comment="Written by `hwsim calibrate --from`."
    )
    return path
