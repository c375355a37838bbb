"""Predictions as a CSV file: every input row, in order, with value, interval and note behind it."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.measurements.predicting import Predictions


def write_predictions(made: Predictions, path: str | Path) -> None:
    """Write aside, then rename, so that an interruption leaves whole files only."""
    names, columns = added_columns(made)
    temporary = Path(f"{path}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*made.table.names, *names])
            writer.writerows(_lines(made, columns))
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise HwsimError(
            f"{str(path)!r} cannot be written: {error.strerror}; choose another place for --out"
        ) from error


def added_columns(made: Predictions) -> tuple[list[str], list[NDArray[np.float64]]]:
    """Names of the added columns, note last, and the numbers of all but the note.

    `predicted_us, low_us, high_us` are those of the first target (`predicted_value, low, high` where it is
    no time in microseconds); with several targets, or one of another kind, each has `predicted_<target>`
    too.
    """
    first = next(iter(made.values))
    in_us = re.search(r"(^|_)us($|_)", first) is not None
    names = ["predicted_us", "low_us", "high_us"] if in_us else ["predicted_value", "low", "high"]
    columns = [made.values[first], made.low[first], made.high[first]]
    if len(made.values) > 1 or first != "latency_us":
        for target in made.values:
            names += [f"{word}_{target}" for word in ("predicted", "low", "high")]
            columns += [made.values[target], made.low[target], made.high[target]]
    taken = set(made.table.names)
    return [f"hwsim_{name}" if name in taken else name for name in (*names, "note")], columns


def _lines(made: Predictions, columns: list[NDArray[np.float64]]) -> Iterator[list[str]]:
    texts = list(made.table.columns.values())
    numbers = [[f"{v:.6g}" if v == v else "" for v in column.tolist()] for column in columns]
    for row in range(made.table.length):
        yield [*(column[row] for column in texts), *(column[row] for column in numbers), made.notes[row]]
