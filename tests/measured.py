"""Tables of measurements written down in a test, in the columns of public ones."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hwsim.measurements.predicting import Predictions, predict

GEMM = "device,dtype,m,n,k,latency_us"
A100 = "NVIDIA A100-SXM4-80GB"


def table(folder: Path, header: str, *lines: str, name: str = "anything.csv") -> Path:
    """A file of these lines."""
    path = folder / name
    path.write_text("\n".join((header, *lines)) + "\n", encoding="utf-8")
    return path


def answered(folder: Path, header: str, *lines: str) -> Predictions:
    """The answers to a file of these lines."""
    return predict(table(folder, header, *lines))


def first(made: Predictions) -> np.ndarray:
    """Predictions of the first target."""
    return next(iter(made.values.values()))


def read_back(path: Path) -> list[dict[str, str]]:
    """The lines of a written file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def silent(made: Predictions) -> list[int]:
    """Rows with neither a prediction nor a note."""
    return [row for row in np.flatnonzero(~made.predicted).tolist() if not made.notes[row]]


def failures(made: Predictions) -> Sequence[str]:
    """Notes of questions that failed for no reason a user could mend."""
    return sorted({note for note in made.notes if note.startswith("hwsim failed")})
