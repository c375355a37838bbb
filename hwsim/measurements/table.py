"""A measurement file as columns of text, plain or gzip."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Table:
    """Columns by name, all of one length; `path` names the file in messages."""

    path: str
    names: tuple[str, ...]
    columns: dict[str, list[str]]
    length: int

    def has(self, *names: str) -> bool:
        return all(name in self.columns for name in names)

    def text(self, name: str, default: str = "") -> NDArray[np.str_]:
        """A column as text; `default` everywhere when the file has none."""
        if name not in self.columns:
            return np.full(self.length, default)
        return np.array(self.columns[name], dtype=np.str_) if self.length else np.array([], dtype=np.str_)

    def number(self, name: str, default: float = np.nan) -> NDArray[np.float64]:
        """A column as numbers; what is empty or no number becomes `default`."""
        if name not in self.columns:
            return np.full(self.length, default)
        found = np.full(self.length, default)
        for index, text in enumerate(self.columns[name]):
            try:
                found[index] = float(text)
            except ValueError:
                continue
        return found

    def groups(self, *names: str, where: NDArray[np.bool_] | None = None) -> dict[tuple[str, ...], Rows]:
        """Row indices of every distinct combination of text columns, in order of first row."""
        keys: dict[tuple[str, ...], list[int]] = {}
        columns = [self.columns.get(name, [""] * self.length) for name in names]
        chosen = range(self.length) if where is None else np.flatnonzero(where).tolist()
        for index in chosen:
            keys.setdefault(tuple(column[index] for column in columns), []).append(index)
        return {key: np.array(rows, dtype=np.intp) for key, rows in keys.items()}


def read_table(path: str | Path) -> Table:
    """Read a CSV file (`.gz` or plain) with a header line."""
    try:
        content = Path(path).read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        lines = csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True)
        header = next(lines, None)
        rows = [row for row in lines if row]
    except (OSError, EOFError, gzip.BadGzipFile) as error:
        raise HwsimError(f"measurement file {str(path)!r} cannot be read: {error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise HwsimError(f"measurement file {str(path)!r} is not a CSV file in UTF-8: {error}") from error
    if not header or len(set(header)) != len(header):
        raise HwsimError(f"measurement file {str(path)!r} needs a header line of distinct column names")
    return _table(str(path), header, rows)


def _table(path: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    for index, row in enumerate(rows):
        if len(row) != len(header):
            raise HwsimError(f"{path} line {index + 2} has {len(row)} values for {len(header)} columns; is it cut off?")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    return Table(path, tuple(header), columns, len(rows))
