"""A sweep's directory: `spec.json`, and one Parquet file for each chunk, written aside and renamed when
whole.

What is there under its name is complete, whatever happened to the process that wrote it; everything else is
written again on `--resume`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hwsim.errors import HwsimError
from hwsim.sweeps.batch import Batch, Words
from hwsim.sweeps.conditions import condition, objective
from hwsim.sweeps.result import SweepResult, Table

SCHEMA = "hwsim.sweep/1"
SPEC = "spec.json"
BOOLEANS = ("fits", "feasible")
ROWS = b"hwsim.rows"


def part_path(folder: Path, number: int) -> Path:
    return folder / f"part-{number:07d}.parquet"


def written(folder: Path) -> set[int]:
    """Numbers of the chunks that are there."""
    return {int(path.stem.removeprefix("part-")) for path in folder.glob("part-*.parquet")}


def write_part(folder: Path, number: int, batch: Batch, table: Table, notes: Mapping[str, str]) -> None:
    """Write a batch under its number, whole or not at all."""
    from pyarrow import parquet

    path = part_path(folder, number)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    columns = arrow_table([batch], table, notes)
    constant = [name for name, value in batch.numbers.items() if value is None or not value.ndim]
    try:
        parquet.write_table(
            columns,
            aside,
            compression="none",  # digits of time and energy do not compress
            use_dictionary=[*table.labels, *constant],
            write_statistics=False,
            row_group_size=1 << 20,
        )
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def arrow_table(batches: Iterable[Batch], table: Table, notes: Mapping[str, str] | None = None) -> Any:
    """Batches as one `pyarrow.Table`: text columns as dictionaries, absent numbers as nulls."""
    import pyarrow

    types = {name: pyarrow.dictionary(pyarrow.int16(), pyarrow.string()) for name in table.labels}
    types |= {name: pyarrow.bool_() if name in BOOLEANS else pyarrow.float64() for name in table.numbers}
    schema = pyarrow.schema(list(types.items()), metadata=dict(notes or {}))
    found = [
        pyarrow.Table.from_arrays([_arrow(batch, name, types[name]) for name in types], schema=schema)
        for batch in batches
    ]
    return pyarrow.concat_tables(found).unify_dictionaries() if found else schema.empty_table()


def _arrow(batch: Batch, name: str, kind: Any) -> Any:
    import pyarrow

    if name in batch.words:
        word = batch.words[name]
        codes = np.zeros(batch.rows, dtype=np.int16) if word.codes is None else word.codes.astype(np.int16)
        return pyarrow.DictionaryArray.from_arrays(pyarrow.array(codes), list(word.names))
    value = batch.numbers[name]
    if value is None:
        return pyarrow.nulls(batch.rows, kind)
    full = np.ascontiguousarray(np.broadcast_to(value, (batch.rows,)))
    return pyarrow.array(full if kind == pyarrow.bool_() else full.astype(np.float64, copy=False))


def begin(folder: Path, document: Mapping[str, Any], *, resume: bool) -> None:
    """Write what the sweep is, or check that what is there is the same sweep."""
    path = folder / SPEC
    if path.is_file():
        _same(folder, document, resume=resume)
        return
    if written(folder):
        raise HwsimError(f"{folder} holds Parquet files of something else; choose another --out")
    aside = path.with_name(f".{SPEC}.{os.getpid()}")
    try:
        aside.write_text(json.dumps(document, indent=1), encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _same(folder: Path, document: Mapping[str, Any], *, resume: bool) -> None:
    found = read_document(folder)
    if not resume:
        raise HwsimError(f"{folder} already holds a sweep; --resume goes on with it, or choose another --out")
    if found.get("fingerprint") == document["fingerprint"]:
        return
    for name, words in (
        ("spec", "another spec"),
        ("search", "another search"),
        ("tool", "another version of hwsim or of its data"),
        ("versions", "other library versions"),
    ):
        if found.get(name) != json.loads(json.dumps(document.get(name))):
            raise HwsimError(
                f"{folder} was begun with {words}, so the rest would not match; choose another --out"
            )
    raise HwsimError(f"{folder} was begun with other devices, models or coefficients; choose another --out")


def clear_aside(folder: Path) -> None:
    """Remove what killed processes left half written."""
    for path in folder.glob(".part-*.parquet.*"):
        path.unlink(missing_ok=True)


def read_document(folder: Path) -> dict[str, Any]:
    """The `spec.json` of a sweep."""
    path = folder / SPEC
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HwsimError(
            f"{folder} holds no sweep ({SPEC}: {type(error).__name__}); name what --out named"
        ) from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise HwsimError(f"{path} is no {SCHEMA} document; name a directory that --out named")
    return document


def open_result(folder: Path) -> SweepResult:
    """What is written of a sweep so far, and whether that is all of it."""
    document = read_document(folder)
    table = Table(**{name: tuple(names) for name, names in document["table"].items()})
    spec = document["spec"]

    def texts(name: str) -> list[str]:
        value = spec.get(name, [])
        return [value] if isinstance(value, str) else value

    parts = Parts(folder, table)
    missing = document["chunks"] - len(parts.numbers)
    gap = (
        ()
        if missing <= 0
        else (f"{missing} of {document['chunks']} chunks are not there; --resume adds them",)
    )
    return SweepResult(
        spec=spec,
        table=table,
        points=sum(parts.sizes),
        objectives=(
            *(objective(text, table.numbers, largest=False) for text in texts("minimize")),
            *(objective(text, table.numbers, largest=True) for text in texts("maximize")),
        ),
        where=tuple(condition(text, table.numbers) for text in texts("where")),
        warnings=(*document["warnings"], *gap),
        folder=folder,
        source=parts,
    )


class Parts:
    """The Parquet files of a directory as batches."""

    def __init__(self, folder: Path, table: Table) -> None:
        self.folder, self.table = folder, table
        self.numbers = sorted(written(folder))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        from pyarrow import parquet

        return tuple(
            parquet.read_metadata(part_path(self.folder, number)).num_rows for number in self.numbers
        )

    def batch(self, number: int, columns: Sequence[str] | None) -> Batch:
        return read_part(self.folder, self.numbers[number], self.table, columns)


def read_part(folder: Path, number: int, table: Table, columns: Sequence[str] | None) -> Batch:
    """The batch of a part, with some of its columns or all."""
    from pyarrow import parquet

    wanted = list(table.columns if columns is None else columns)
    with parquet.ParquetFile(part_path(folder, number), memory_map=True) as file:
        read = file.read(columns=wanted, use_threads=False)
    words = {name: _words(read[name]) for name in wanted if name in table.labels}
    numbers = {name: _number(read[name]) for name in wanted if name not in words}
    return Batch(rows=read.num_rows, words=words, numbers=numbers)


def _words(column: Any) -> Words:
    column = column.combine_chunks()
    return Words(names=tuple(column.dictionary.to_pylist()), codes=column.indices.to_numpy())


def _number(column: Any) -> Any:
    return None if column.null_count == len(column) and len(column) else column.to_numpy()


def is_whole(folder: Path, number: int) -> bool:
    """Whether a part can be read; one that a power cut spoiled cannot."""
    from pyarrow import ArrowException, parquet

    try:
        parquet.read_metadata(part_path(folder, number))
    except (OSError, ArrowException):
        return False
    return True
