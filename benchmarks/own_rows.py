"""What rows of a device's own are worth: `python -m benchmarks.own_rows FOLDER` rewrites a table of
docs/validation.md.

A random half of each file goes to `hwsim calibrate --from`, as a user would; the other half is predicted.
No row that counts was in the fit that ships.
"""

from __future__ import annotations

import csv
import gzip
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

import hwsim
from benchmarks.validation_page import PAGE, rewrite
from hwsim.fitting_gpus import fitted_rows
from hwsim.measurements.judging import Pairs, pairs
from hwsim.measurements.predicting import Predictions, predict

BEGIN, END = "<!-- own rows: begin -->", "<!-- own rows: end -->"
SEED = 20261125
# file, operators, and three times the floor of its host and method in us
FILES = (
    ("neusight/gemm_fp32.csv.gz", ("linear", "bmm"), 75.0),
    ("neusight/vector_ops_fp32.csv.gz", ("add", "gelu", "ln", "softmax", "mulu", "tanh", "pow"), 75.0),
    ("aiconfigurator/gemm.csv.gz", ("gemm bfloat16", "gemm fp8", "gemm nvfp4"), 10.0),
    (
        "aiconfigurator/context_attention.csv.gz",
        ("prefill attention bfloat16 kv bfloat16", "prefill attention fp8 kv fp8"),
        10.0,
    ),
    ("aiconfigurator/generation_attention.csv.gz", ("decode attention bfloat16 kv bfloat16",), 10.0),
)


def opened(path: Path) -> TextIO:
    """A table as text, plain or packed."""
    return gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="")


def split(path: Path, folder: Path) -> tuple[Path, Path, list[int]]:
    """Two halves of the rows of a file, drawn at random; which rows the second one holds."""
    with opened(path) as file:
        header, *rows = list(csv.reader(file))
    second = np.random.default_rng(SEED).random(len(rows)) < 0.5
    halves = []
    for name, chosen in (("first", ~second), ("second", second)):
        halves.append(folder / f"{name}.csv")
        with halves[-1].open("w", newline="") as file:
            csv.writer(file).writerows(
                [header, *(row for row, kept in zip(rows, chosen, strict=True) if kept)]
            )
    return halves[0], halves[1], np.flatnonzero(second).tolist()


def table(folder: Path) -> Iterator[str]:
    """The lines of the table."""
    columns = ("file", "operator", "devices", "rows", "shipped", "calibrated", "neighbours", "inside")
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for name, ops, least in FILES:
        with tempfile.TemporaryDirectory() as scratch:
            first, second, rows = split(folder / name, Path(scratch))
            fitted = fitted_rows(folder, name)
            fresh = np.array([row not in fitted for row in rows])
            found = []
            for step, surface in (("shipped", None), ("calibrated", False), ("neighbours", True)):
                os.environ["XDG_CONFIG_HOME"] = str(Path(scratch) / step)
                if surface is not None:
                    hwsim.calibrate(first, surface=surface)
                found.append(predict(second))
        for op in ops:
            yield from _line(name, op, found, fresh, least)


def _line(name: str, op: str, found: list[Predictions], fresh: np.ndarray, least: float) -> Iterator[str]:
    ours = [_chosen(made, op, fresh, least) for made in found]
    size = ours[0].row.size
    if not size:
        return
    devices = len({found[0].devices[row] for row in ours[0].row})
    errors = " | ".join(f"{np.mean(np.abs(one.error)):.1%}" for one in ours)
    last = ours[-1]
    inside = np.mean((last.low <= last.measured) & (last.measured <= last.high))
    yield f"| {name.split('.')[0]} | {op} | {devices} | {size} | {errors} | {inside:.0%} |"


def _chosen(made: Predictions, op: str, fresh: np.ndarray, least: float) -> Pairs:
    every = pairs(made)
    ops = np.array(made.ops, dtype=np.str_)[every.row]
    keep = (ops == op) & fresh[every.row] & (every.measured > least)
    return Pairs(*(part[keep] for part in (every.row, every.measured, every.value, every.low, every.high)))


def main() -> None:
    """Rewrite the table in place."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/measurements")
    rewrite(PAGE, BEGIN, END, "\n".join(table(folder)))


if __name__ == "__main__":
    main()
