"""Reads a sweep's directory, a Parquet file or estimates in JSON into a `Study`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.studies.gathering import Columns, Rows, in_memory, study_of
from hwsim.studies.study import Study
from hwsim.sweeps.store import SPEC, read_document, written

_BATCH = 131_072  # rows in memory at once


def read_study(path: str | Path) -> Study:
    """The study of a sweep directory, of one Parquet file, or of estimates in a JSON file."""
    where = Path(path)
    if where.suffix == ".json" and where.is_file():
        from hwsim.studies.documents import columns_of

        return study_of(in_memory(columns_of(where)), name=where.stem)
    spec = _document(where) if where.is_dir() else {}
    return study_of(_parquet(where), name=where.resolve().stem, spec=spec)


def _document(folder: Path) -> dict[str, Any]:
    """What a sweep's directory says of itself, the keys of its spec among them; it may say nothing."""
    if not (folder / SPEC).is_file():
        return {}
    document = read_document(folder)
    wanted, there = document.get("chunks", 0), len(written(folder))
    gap = [f"the sweep is not whole: {there} of {wanted} chunks are there"] if there < wanted else []
    return {**document, **document["spec"], "gap": gap}


def _parquet(path: Path) -> Rows:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError:
        raise HwsimError("reading a sweep needs pyarrow; install hwsim[sweep]") from None
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not path.exists():
        raise HwsimError(f"no '{path}'; give a sweep's directory, its Parquet file, or estimates in JSON")
    if not files:
        raise HwsimError(f"no *.parquet in '{path}'; give the directory that a sweep wrote")

    def read(names: tuple[str, ...]) -> Iterator[Columns]:
        for file in files:
            try:
                with parquet.ParquetFile(file, memory_map=True) as table:
                    for batch in table.iter_batches(batch_size=_BATCH, columns=list(names)):
                        yield {name: _plain(batch.column(name)) for name in names}
            except ArrowInvalid as error:
                raise _no_table(file, error) from error

    try:
        return Rows(columns=tuple(parquet.read_schema(files[0]).names), read=read)
    except ArrowInvalid as error:
        raise _no_table(files[0], error) from error


def _no_table(file: Path, error: Exception) -> HwsimError:
    return HwsimError(f"'{file}' is no sweep's table: {str(error).splitlines()[0]}")


def _plain(column: Any) -> NDArray[Any]:
    """A numpy column: text as objects, numbers as float64 with NaN for what is absent, flags as they are."""
    import pyarrow as arrow

    if arrow.types.is_dictionary(column.type):
        words = np.array(column.dictionary.to_pylist(), dtype=object)
        return np.asarray(words[column.indices.to_numpy(zero_copy_only=False)], dtype=object)
    if arrow.types.is_string(column.type) or arrow.types.is_large_string(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=object)
    if arrow.types.is_boolean(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=bool)
    return np.asarray(column.cast(arrow.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
