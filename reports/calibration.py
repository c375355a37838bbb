"""What a calibration changed, as a table of 80 columns."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from hwsim.calibrating_devices import Calibration
from hwsim.calibrating_machine import MachineCalibration
from reports.numbers import percent, quantity
from reports.table import plain_table

_NAME = 34
_UNITS = {"clock": "Hz", "bandwidth": "B/s"}


def calibration_table(found: Calibration | MachineCalibration) -> RenderableType:
    """Errors by operator before and after, what was fitted, and the files written."""
    return _of_machine(found) if isinstance(found, MachineCalibration) else _of_files(found)


def _of_machine(found: MachineCalibration) -> RenderableType:
    here = found.environment
    table = plain_table("operator", ">points", ">timed", ">before", ">after")
    for row in found.rows:
        table.add_row(row.op, str(row.points), str(row.timed), percent(row.before), percent(row.after))
    pinned = "one to a core" if here["pinned"] else "not pinned"
    return Group(
        Text(f"{here['cpu']}, {here['threads']} threads of torch {here['torch']}, {pinned}"),
        Text("mean absolute error of operators timed on a quiet machine, with priors and fitted"),
        table,
        *_thin(found),
        Text(f"spread of a point between rounds, middle of all: {percent(found.repeatability)}"),
        *(
            Text(f"{path} = {quantity(value, _UNITS[path.rpartition('.')[2]])}")
            for path, value in found.changes.items()
        ),
        *(Text(f"{name} = {value:.4g}") for name, value in found.values.items()),
        Text(f"wrote {found.file}"),
        *(part for one in found.gpus for part in (Text(), _of_files(one))),
        *(Text(line) for line in found.unknown),
    )


def _thin(found: MachineCalibration) -> list[Text]:
    """A word where the machine was too busy for most points."""
    timed, every = (sum(getattr(row, name) for row in found.rows) for name in ("timed", "points"))
    if timed > every / 2:
        return []
    return [Text(f"only {timed} of {every} points saw a quiet machine: stop other programs, add --minutes")]


def _of_files(found: Calibration) -> RenderableType:
    near = any(row.neighbours is not None for row in found.rows)
    table = plain_table(
        "device", "operator", ">rows", ">before", ">after", *([">neighbours"] if near else [])
    )
    for row in found.rows:
        beside = [percent(row.neighbours) if row.neighbours is not None else ""] if near else []
        cells = (str(row.rows), percent(row.before), percent(row.after), *beside)
        table.add_row(row.device, row.op[: _NAME - 4], *cells)
    moved = [
        f"{name}{f' ({where})' if where else ''} = {value:.4g}"
        for (name, where), value in found.values.items()
    ]
    return Group(
        Text("mean absolute error of the rows fitted"),
        *([Text("neighbours: of each measured kernel, predicted from the others beside it")] if near else []),
        table,
        *(Text(line) for line in moved),
        *(Text(f"wrote {path}") for path in found.files),
    )
