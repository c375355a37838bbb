"""What a model is called with, described without torch: shapes over named sizes, for traces and real runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Size = str | int


@dataclass(frozen=True, slots=True)
class Input:
    """One tensor argument; a text in `shape` is a size symbol or arithmetic over symbols.

    `dtype` is a torch name such as "int64", or "model" for the model's own dtype. Integers of a real run are
    drawn from [low, high). `values`, nested as the shape, are known while tracing: a model may make counts of
    them, as of the grid of patches of an image.
    """

    shape: tuple[Size, ...]
    dtype: str
    role: Literal["input", "kv"] = "input"
    low: int = 0
    high: int | None = None
    values: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True)
class SymbolValue:
    """The value of a size symbol passed as a plain argument: an int in a real run, symbolic when traced."""

    name: str


@dataclass(frozen=True, slots=True)
class Example:
    """The arguments of one call: nested tuples, lists and dicts with `Input` and `SymbolValue` leaves."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None

    def map(self, leaf: Callable[[Input | SymbolValue], Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same arguments with every leaf replaced, each call making its own containers."""
        args = tuple(_map(value, leaf) for value in self.args)
        return args, {name: _map(value, leaf) for name, value in (self.kwargs or {}).items()}

    def leaves(self) -> tuple[Input | SymbolValue, ...]:
        """Every leaf, in argument order."""
        found: list[Input | SymbolValue] = []
        self.map(found.append)
        return tuple(found)


def _map(value: Any, leaf: Callable[[Input | SymbolValue], Any]) -> Any:
    if isinstance(value, Input | SymbolValue):
        return leaf(value)
    if isinstance(value, tuple | list):
        return type(value)(_map(item, leaf) for item in value)
    if isinstance(value, Mapping):
        return {name: _map(item, leaf) for name, item in value.items()}
    return value


def known(values: tuple[Any, ...]) -> Input:
    """Whole numbers that a trace knows."""
    shape: list[int] = []
    inner: Any = values
    while isinstance(inner, tuple):
        shape.append(len(inner))
        inner = inner[0]
    return Input(tuple(shape), "int64", values=values)


def token_ids(batch: Size, length: Size, vocab: int) -> Input:
    """Token ids below `vocab`, [batch, length]."""
    return Input((batch, length), "int64", high=vocab)


def key_value_cache(
    layers: int, batch: Size, heads: int, length: Size, head_dim: int
) -> list[tuple[Input, Input]]:
    """Cached keys and values of every layer, each [batch, heads, length, head_dim]."""
    one = Input((batch, heads, length, head_dim), "model", role="kv")
    return [(one, one) for _ in range(layers)]
