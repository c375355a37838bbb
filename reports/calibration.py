"""What a calibration changed, as a table of 80 columns."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from hwsim.calibrating import Calibration
from reports.numbers import percent
from reports.table import plain_table

_NAME = 34


def calibration_table(found: Calibration) -> RenderableType:
    """Errors by device and operator before and after, coefficients that moved, and the files written."""
    table = plain_table("device", "operator", ">rows", ">before", ">after")
    for row in found.rows:
        table.add_row(row.device, row.op[:_NAME], str(row.rows), percent(row.before), percent(row.after))
    moved = [
        f"{name}{f' ({where})' if where else ''} = {value:.4g}"
        for (name, where), value in found.values.items()
    ]
    return Group(
        Text("mean absolute error of the rows fitted"),
        table,
        *(Text(line) for line in moved),
        *(Text(f"wrote {path}") for path in found.files),
    )
