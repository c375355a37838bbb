"""Columns of some points, as they pass between processes and into files: constants are kept once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.engines.demand import Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Words:
    """A column of text: `names`, and which of them stands at each point (None: everywhere the only one)."""

    names: tuple[str, ...]
    codes: NDArray[np.integer[Any]] | None = None

    def at(self, rows: int) -> NDArray[np.object_]:
        """The texts themselves."""
        names = np.array(self.names, dtype=object)
        return np.repeat(names[:1], rows) if self.codes is None else names[self.codes]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Some points: text columns, then numbers; an array of no axes is the same at every point, None is
    absent.
    """

    rows: int
    words: Mapping[str, Words]
    numbers: Mapping[str, Array | None]

    def number(self, name: str) -> Array:
        """A numeric column in full; absent numbers are NaN."""
        value = self.numbers[name]
        return np.broadcast_to(np.nan if value is None else value, (self.rows,))

    def column(self, name: str) -> NDArray[Any]:
        """A column of either sort in full."""
        return self.words[name].at(self.rows) if name in self.words else self.number(name)

    def columns(self, names: Iterable[str]) -> dict[str, NDArray[Any]]:
        return {name: self.column(name) for name in names}

    def some(self, keep: NDArray[np.bool_]) -> Batch:
        """Some of the points."""
        if np.all(keep):
            return self
        return Batch(
            rows=int(np.sum(keep)),
            words={
                name: word if word.codes is None else replace(word, codes=word.codes[keep])
                for name, word in self.words.items()
            },
            numbers={
                name: value if value is None or not value.ndim else value[keep]
                for name, value in self.numbers.items()
            },
        )

    def cases(self, names: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Batch]]:
        """The points of each combination of text columns."""
        words = [self.words[name] for name in names]
        codes = np.zeros(self.rows, dtype=np.int64)
        for word in words:
            if word.codes is not None:
                codes = codes * len(word.names) + word.codes
        for code in np.unique(codes):
            keep = codes == code
            first = int(np.argmax(keep))
            yield tuple(w.names[0 if w.codes is None else w.codes[first]] for w in words), self.some(keep)


def joined(batches: Sequence[Batch], order: NDArray[np.intp]) -> Batch:
    """Batches of the same columns as one, its rows in another order."""
    words = {}
    for name in batches[0].words:
        texts = np.concatenate([batch.words[name].at(batch.rows) for batch in batches])[order]
        names, codes = np.unique(texts.astype(str), return_inverse=True)
        words[name] = Words(names=tuple(names.tolist()), codes=codes.astype(np.int16))
    numbers: dict[str, Array | None] = {}
    for name in batches[0].numbers:
        absent = all(batch.numbers[name] is None for batch in batches)
        numbers[name] = None if absent else np.concatenate([batch.number(name) for batch in batches])[order]
    return Batch(rows=order.size, words=words, numbers=numbers)


def slim(value: Any) -> Array | None:
    """An array that repeats one value, as that value."""
    if value is None:
        return None
    array = np.asarray(value)
    return np.asarray(array[0]) if array.ndim and array.size and array.strides[0] == 0 else array
