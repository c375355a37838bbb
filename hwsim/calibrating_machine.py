"""`hwsim.calibrate(device="local")`: times operators on this machine, fits, and writes the user's file.

What was timed is kept as it comes, so that a calibration that was interrupted is taken up again: by the same
torch on the same CPU within a day. When all is timed it moves beside the file of coefficients, from where it
can be fitted again.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from devices import Device
from devices.detect import unmeasured
from devices.measured import FILE, coefficient_folder
from graphs.benchmarks import Benchmark, benchmarks
from graphs.measuring import Campaign, Point, Timed, measure, points
from graphs.timing import Window
from graphs.trace import cache_folder
from hwsim.calibrating_devices import Calibration
from hwsim.errors import HwsimError
from hwsim.fitted import torch_version
from hwsim.fitting import mean_error, read_entries, write_entries
from hwsim.machine_fit import MachineFit, fit_machine, spreads
from hwsim.version import VERSION

MINUTES = 3.0
DTYPES = ("fp32", "bf16")
_MEASURING = 0.9  # of the time; the fit takes the rest
_CACHES = 3.0  # last caches that the operands of cold points fill
_KEPT_S = 86_400.0
_CONDITIONS = ("threads", "pinned", "canary_flop_per_s", "date")  # of a campaign, kept beside its windows
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRow:
    """One benchmark: points timed on a quiet machine of all, mean absolute error before and after."""

    op: str
    points: int
    timed: int
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineCalibration:
    """What this machine turned out to be: its environment, hardware fields, coefficients, and errors."""

    environment: Mapping[str, Any]
    rows: tuple[MachineRow, ...]
    changes: Mapping[str, float]
    values: Mapping[str, float]
    log_sigma: float
    repeatability: float | None  # middle spread between the rounds of a point
    file: Path
    gpus: tuple[Calibration, ...] = ()  # of this machine
    unknown: tuple[str, ...] = ()  # a line for each that could not be calibrated

    def to_dict(self) -> dict[str, Any]:
        """The document `hwsim.calibration/1`."""
        return {
            "schema": "hwsim.calibration/1",
            "scope": "machine",
            "environment": dict(self.environment),
            "rows": [asdict(row) for row in self.rows],
            "device": dict(self.changes),
            "coefficients": [{"name": name, "where": "local", "value": v} for name, v in self.values.items()],
            "log_sigma": self.log_sigma,
            "repeatability": self.repeatability,
            "files": [str(path) for path in (self.file, *(path for one in self.gpus for path in one.files))],
            "gpus": [one.to_dict() for one in self.gpus],
            "unknown": list(self.unknown),
        }


def calibrate_machine(
    *,
    minutes: float = MINUTES,
    threads: int | None = None,
    out: str | Path | None = None,
    grid: Sequence[Benchmark] | None = None,
    refit: bool = False,
    progress: Progress | None = None,
) -> MachineCalibration:
    """Time operators for about `minutes` on this machine's CPU, fit the CPU engine to them, write the file.

    `threads` defaults to the physical cores. `out` is a .toml file or a folder; without it estimates for
    `local` use the result at once. With `refit` nothing is timed: what was timed for the file that is there
    is fitted once more.
    """
    if not minutes > 0:
        raise HwsimError(f"minutes={minutes:g}: give some time, such as 3")
    device = unmeasured()
    cores = int(device.compute.units)
    if threads is not None and not 1 <= threads <= cores:
        raise HwsimError(f"threads={threads}: this machine has {cores} cores")
    chosen = points(benchmarks() if grid is None else grid, DTYPES)
    tell = progress or (lambda done, text: None)
    # under a name of its own, so that no earlier calibration of `local` is found
    machine = replace(device, id="this machine").replace(**{"compute.units": float(threads or cores)})
    path = _path(out)
    stamp = _stamp(device, threads or cores)
    log = Timings(cache_folder() / "calibration-local.jsonl", stamp)
    kept = Timings(path.with_name(f"{path.stem}-timings.jsonl"), stamp)
    if refit:
        campaign = kept.campaign(chosen)
    else:
        cache = machine.memory.last_level_cache
        try:
            campaign = measure(
                chosen,
                beyond_byte=_CACHES * float(cache.capacity_byte) if cache is not None else 0.0,
                budget_s=60 * minutes * _MEASURING,
                threads=threads or cores,
                known=log.begun(),
                keep=log.keep,
                progress=lambda done, text: tell(_MEASURING * done, text),
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped; {log.count()} windows are kept, and the same command goes on with them"
            ) from None
    tell(_MEASURING, "fitting")
    made = fit_machine(campaign.timed, machine)
    environment = _environment(device, campaign, made)
    _write(path, environment, made, campaign.timed)
    if not refit:
        kept.save(campaign)
        log.forget()
    tell(1.0, "calibrated")
    between = spreads(campaign.timed)
    return MachineCalibration(
        environment=environment,
        rows=tuple(_rows(campaign.timed, made)),
        changes=made.changes,
        values=made.values,
        log_sigma=made.log_sigma,
        repeatability=float(np.median(between)) if between else None,
        file=path,
    )


def _stamp(device: Device, threads: int) -> dict[str, Any]:
    """What must be the same for what was timed before to count."""
    return {
        "cpu": device.name,
        "cores": int(device.compute.units),
        "torch": torch_version(),
        "threads": threads,
    }


def _environment(device: Device, campaign: Campaign, made: MachineFit) -> dict[str, Any]:
    governor = _GOVERNOR.read_text().strip() if _GOVERNOR.is_file() else "not told"
    every = np.concatenate(list(made.residuals.values()))
    return {
        **_stamp(device, campaign.threads),
        "pinned": campaign.pinned,
        "governor": governor,
        "system": platform.platform(terse=True),
        "date": campaign.date,
        "hwsim": VERSION,
        "points": int(every.size),
        "error": round(mean_error(every), 4),
    }


def _rows(timed: Sequence[Timed], made: MachineFit) -> list[MachineRow]:
    names = dict.fromkeys(one.point.benchmark.name for one in timed)
    rows = []
    for name in names:
        every = [one for one in timed if one.point.benchmark.name == name]
        before, after = made.before.get(name), made.residuals.get(name)
        rows.append(
            MachineRow(
                op=name,
                points=len(every),
                timed=sum(one.seconds is not None for one in every),
                before=None if before is None else mean_error(before),
                after=None if after is None else mean_error(after),
            )
        )
    return rows


def _path(out: str | Path | None) -> Path:
    path = coefficient_folder() if out is None else Path(out)
    return path if path.suffix == ".toml" else path / FILE


def _write(path: Path, environment: Mapping[str, Any], made: MachineFit, timed: Sequence[Timed]) -> None:
    meanings = read_entries(Path(__file__).with_name("coefficients") / "cpu.toml")
    source = f"hwsim calibrate -d local, {environment['points']} points, {environment['date']}"
    values = {**made.values, "log_sigma": made.log_sigma}
    entries = {
        name: {"value": value, "meaning": meanings[name]["meaning"], "source": source}
        for name, value in values.items()
    }
    write_entries(
        path, "machine", entries,
        fitted_on=f"{environment['points']} of {len(timed)} operators timed here",
        comment="Written by `hwsim calibrate -d local`; delete it to go back to priors.",
    )  # fmt: skip
    residuals = {op: round(mean_error(errors), 4) for op, errors in made.residuals.items()}
    units = {"clock": "Hz", "bandwidth": "B/s"}
    device = {p: f"{value:.6g} {units[p.rpartition('.')[2]]}" for p, value in made.changes.items()}
    tables = {"environment": environment, "device": device, "residuals": residuals}
    lines = []
    for name, table in tables.items():
        lines += [
            "",
            f"[{name}]",
            *(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in table.items()),
        ]
    path.write_text(path.read_text(encoding="utf-8") + "\n".join(lines) + "\n", encoding="utf-8")


class Timings:
    """The windows timed so far, a JSON line each, under a line that says where and with what."""

    def __init__(self, path: Path, stamp: Mapping[str, Any]) -> None:
        self._path, self._stamp = path, dict(stamp)

    def begun(self) -> dict[str, list[Window]]:
        """Windows by key of their point; none of another machine, another torch or another day, and the file
        is made anew for those to come.
        """
        fresh = self._path.is_file() and time.time() - self._path.stat().st_mtime < _KEPT_S
        head, found = self._read() if fresh else ({}, {})
        if head != self._stamp:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._stamp) + "\n", encoding="utf-8")
            return {}
        return found

    def keep(self, point: Point, windows: Sequence[Window]) -> None:
        """Add windows at once, all of a point in one write."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_lines(point, windows))

    def count(self) -> int:
        """Windows kept so far."""
        return sum(map(len, self._read()[1].values()))

    def forget(self) -> None:
        """The calibration is done."""
        self._path.unlink(missing_ok=True)

    def save(self, campaign: Campaign) -> None:
        """All of a campaign."""
        head = json.dumps({**self._stamp, **{name: getattr(campaign, name) for name in _CONDITIONS}})
        text = "".join(_lines(one.point, one.windows) for one in campaign.timed)
        self._path.write_text(f"{head}\n{text}", encoding="utf-8")

    def campaign(self, points: Sequence[Point]) -> Campaign:
        """A saved campaign, of those of its points that are asked for."""
        head, found = self._read() if self._path.is_file() else ({}, {})
        if not head.items() >= self._stamp.items():
            raise HwsimError(
                f"{self._path} holds no timings of this machine with this torch; calibrate without refit"
            )
        timed = tuple(Timed(point=one, windows=tuple(found.get(one.key, ()))) for one in points)
        return Campaign(timed=timed, torch=head["torch"], **{name: head[name] for name in _CONDITIONS})

    def _read(self) -> tuple[dict[str, Any], dict[str, list[Window]]]:
        """The first line, and windows by key of their point."""
        head, *lines = self._path.read_text(encoding="utf-8").splitlines() or ["{}"]
        found: dict[str, list[Window]] = {}
        for line in lines:
            with suppress(ValueError):  # the last line may have been cut off
                entry = json.loads(line)
                found.setdefault(entry.pop("key"), []).append(Window(**entry))
        return json.loads(head), found


def _lines(point: Point, windows: Sequence[Window]) -> str:
    return "".join(json.dumps({"key": point.key, **asdict(one)}) + "\n" for one in windows)
