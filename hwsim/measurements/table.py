"""A measurement file as columns of text, plain or gzip."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Table:
    """Columns by name, all of one length; `path` names the file, `broken` what is wrong with which row."""

    path: str
    names: tuple[str, ...]
    columns: dict[str, list[str]]
    length: int
    broken: dict[int, str] = field(default_factory=dict)

    def has(self, *names: str) -> bool:
        return all(name in self.columns for name in names)

    def text(self, name: str, default: str = "") -> list[str]:
        """A column as text without spaces round it; `default` everywhere when the file has none."""
        if name not in self.columns:
            return [default] * self.length
        return [text.strip() for text in self.columns[name]]

    def number(self, name: str, default: float = np.nan) -> NDArray[np.float64]:
        """A column as numbers; what is empty or no number becomes `default`."""
        try:  # the usual case, at once
            return np.array(self.columns[name], dtype=np.float64)
        except (KeyError, ValueError):
            found = np.full(self.length, default)
        for index, text in enumerate(self.columns.get(name, ())):
            try:
                found[index] = float(text)
            except ValueError:
                continue
        return found

    def groups(self, *names: str, where: NDArray[np.bool_] | None = None) -> dict[tuple[str, ...], Rows]:
        """Row indices of every distinct combination of text columns, in order of first row."""
        keys: dict[tuple[str, ...], list[int]] = {}
        columns = [self.text(name) for name in names]
        chosen = range(self.length) if where is None else np.flatnonzero(where).tolist()
        for index in chosen:
            keys.setdefault(tuple(column[index] for column in columns), []).append(index)
        return {key: np.array(rows, dtype=np.intp) for key, rows in keys.items()}


def read_table(path: str | Path) -> Table:
    """Read a CSV file (`.gz` or plain) with a header; lines cut short or too long are kept and marked.

    A Chrome trace of torch.profiler becomes a table of its operators.
    """
    from hwsim.measurements.torch_trace import is_trace, trace_table

    try:
        content = Path(path).read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        if is_trace(content):
            return trace_table(str(path), content)
        lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        header = next(lines, None)
        rows = [row for row in lines if row]
    except OSError as error:
        reason = error.strerror or str(error)
        raise HwsimError(
            f"measurement file {str(path)!r} cannot be read: {reason}; check the path"
        ) from error
    except (EOFError, zlib.error) as error:
        raise HwsimError(f"measurement file {str(path)!r} is cut off: {error}; copy it again") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise HwsimError(f"measurement file {str(path)!r} is not a CSV file in UTF-8: {error}") from error
    if not header or len({name.strip() for name in header}) != len(header):
        raise HwsimError(f"measurement file {str(path)!r} needs a header line of distinct column names")
    return _table(str(path), [name.strip() for name in header], rows)


def _table(path: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    width = len(header)
    broken = {
        index: f"line has {len(row)} values for {width} columns"
        + ("; is the file cut off?" if len(row) < width else "; the last are left out")
        for index, row in enumerate(rows)
        if len(row) != width
    }
    padded = [[*row, *[""] * (width - len(row))] for row in rows] if broken else rows
    turned = map(list, zip(*padded, strict=False)) if padded else ([] for _ in header)
    columns = dict(zip(header, turned, strict=False))
    return Table(path, tuple(header), columns, len(rows), broken)
