"""Fits coefficients of GPUs to samples of theirs, however these came, and writes them where they are found.

What is free is a device's own, its generation's, or everybody's (`scope`). Values are pulled to those that
ship, and only those that moved are written. A device also gets a surface: what its measured kernels say
beyond the coefficients, for sizes near those measured (`hwsim.surface`).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from devices import Device
from hwsim.errors import HwsimError
from hwsim.fitted import coefficients_for, file_of, fingerprint, surface_in, user_folder
from hwsim.fitting import Fitted, Key, Sample, fit, mean_error, read_entries, write_entries
from hwsim.fitting_gpus import FREE
from hwsim.fitting_surface import PHYSICS, Learned, learn
from hwsim.surface import Surface

Scope = Literal["device", "generation", "engine"]
ITERATIONS = 12
MOVED = 0.005  # relative change below which a value counts as unmoved


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRow:
    """One device and operator: rows used, and the mean absolute error before and after.

    `neighbours` is the error with the surface, each row predicted from the others; None without one.
    """

    device: str
    op: str
    rows: int
    before: float
    after: float
    neighbours: float | None = None


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
                {"device": r.device, "op": r.op, "rows": r.rows, "before": r.before, "after": r.after,
                 "neighbours": r.neighbours}
                for r in self.rows
            ],
            "coefficients": [{"name": n, "where": w, "value": v} for (n, w), v in self.values.items()],
            "files": [str(path) for path in self.files],
        }  # fmt: skip


def fit_devices(
    samples: Sequence[Sample],
    *,
    told: str,
    scope: Scope = "device",
    out: str | Path | None = None,
    kernels: Sequence[Sample] = (),
) -> Calibration:
    """Fit to samples, `told` of by files or a program, and write a file per device or generation.

    Of `kernels`, which may be more rows than a fit looks at, surfaces of their devices are learned.
    """
    samples, kernels = ([_physics_alone(one) for one in some] for some in (samples, kernels))
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
    learned = _learn(kernels, moved)
    files = [
        _write(target, place, scope, moved, learned.get(place, ()), samples, told)
        for place in sorted(set(places.values()))
    ]
    beside = {(id, one.op): mean_error(one.after) for id, found in learned.items() for one in found}
    return Calibration(
        scope=scope,
        rows=tuple(
            CalibrationRow(
                device=device, op=op, rows=error.size, before=mean_error(before[device, op]),
                after=mean_error(error), neighbours=beside.get((device, op)),
            )
            for (device, op), error in sorted(after.items())
        ),
        values=moved,
        files=tuple(files),
    )  # fmt: skip


def _physics_alone(sample: Sample) -> Sample:
    """The sample without what measured kernels of its device said before."""
    alone = {f"coefficient.{name}": value for name, value in PHYSICS.items()}
    question = replace(sample.question, settings={**sample.question.settings, **alone})
    return replace(sample, question=question)


def _learn(samples: Sequence[Sample], moved: Mapping[Key, float]) -> dict[str, list[Learned]]:
    """Surfaces by device beside the coefficients that are written."""
    found = {}
    for device in {one.device.id: one.device for one in samples}.values():
        own = {name: _written(value) for (name, where), value in moved.items() if where == device.id}
        now = fingerprint({**coefficients_for(device).values, **own})
        found[device.id] = learn([one for one in samples if one.device.id == device.id], own, now)
    return found


def _written(value: float) -> float:
    """A value as a coefficient file keeps it."""
    return float(f"{value:.5g}")


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
    target: Path, place: str, scope: str, values: dict[Key, float], learned: Sequence[Learned],
    samples: Sequence[Sample], told: str,
) -> Path:  # fmt: skip
    path = target if target.suffix == ".toml" else file_of(target, place or "simt")
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
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    before: Surface = surface_in(path, path.stat().st_mtime_ns) if path.is_file() else {}
    write_entries(
        path, scope, entries, fitted_on=f"{told}; {today}", comment="Written by `hwsim calibrate --from`.",
        surface={**before, **{one.key: one.patch for one in learned}},
    )  # fmt: skip
    return path
