"""Follows tensors of few different values, so that questions about them have an answer without data.

Models make masks of all ones, or are given them, pad them, and then ask: is any position hidden, how many are
not, how long is the longest sequence. Of such a tensor it is known which values it can hold, whatever its
size; where that is one value, numbers or, where ones were counted, sizes, questions are answered.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Iterator
from itertools import product
from math import prod
from typing import Any

import torch

from graphs.tracing.torch_private import (
    TorchDispatchMode,
    constant_of,
    is_fake,
    known_equal,
    storage_key,
    with_real_tensors,
)

MOST = 4  # values a tensor may hold
_ANY_BOOL = (False, True)
# ops that fill a tensor -> the value, or where it stands among the arguments
_FILLS = {"ones": 1, "ones_like": 1, "new_ones": 1, "zeros": 0, "zeros_like": 0, "new_zeros": 0, "zero_": 0}
_FILLS_WITH = {"full": 1, "new_full": 2, "full_like": 1, "scalar_tensor": 0, "fill_": 1}
# ops whose result holds what these arguments hold; those of one argument keep a single value only
_TOGETHER = {
    "clone": (0,), "_to_copy": (0,), "cat": (0,), "stack": (0,), "repeat": (0,), "index_select": (0,),
    "gather": (0,), "flip": (0,), "roll": (0,), "index": (0,), "constant_pad_nd": (0, 2), "copy_": (0, 1),
    "where": (1, 2), "masked_fill": (0, 2), "masked_fill_": (0, 2), "index_put_": (0, 2), "index_put": (0, 2),
    "tril": (0, None), "triu": (0, None), "fill_": (0, 1), "zero_": (0, None),
    "amax": (0,), "amin": (0,), "max": (0,), "min": (0,),
}  # fmt: skip
# op -> its mask, what it takes where that is true, and where not
_CHOSEN = {
    "where": (0, 1, 2), "masked_fill": (1, 2, 0), "masked_fill_": (1, 2, 0), "index_put": (1, 2, 0),
    "index_put_": (1, 2, 0),
}  # fmt: skip
_TESTS: dict[str, Callable[[tuple[Any, ...]], tuple[bool, ...]]] = {
    "any": lambda held: (True,) if all(held) else _ANY_BOOL if any(held) else (False,),
    "all": lambda held: (True,) if all(held) else _ANY_BOOL if any(held) else (False,),
}
_OF_SIZES: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "floor_divide": operator.floordiv,
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt,
    "ge": operator.ge,
}  # fmt: skip
_SIZES = (torch.SymInt, torch.SymBool)
Values = tuple[Any, ...]


class KnownValues(TorchDispatchMode):
    """A dispatch mode above the fake tensors; what it knows of a storage holds for every view of it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._held: dict[int, Values] = {}
        self._highest: dict[int, Any] = {}  # of storages that count up from 0 along their last dimension
        self._watch: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        answer = getattr(self, f"_answer_{name}", None)
        if answer is not None and any(constant_of(tensor) is not None for tensor in _tensors(args)):
            answer = None  # its data is followed
        if answer is not None and (found := answer(*args, **kwargs)) is not None:
            return found
        values = self._made(func, name, args, kwargs)
        out = func(*args, **kwargs)
        if isinstance(out, torch.Tensor) and is_fake(out):
            if (highest := self._counted(func, name, args)) is not None:
                self._keep(out, None, highest)
            elif values is not None:
                self._keep(out, values)
            elif func._schema.is_mutable:
                self._forget(storage_key(out)[0])
        return out

    def values(self, tensor: Any) -> Values | None:
        """What elements can be; None where that is not known."""
        if not isinstance(tensor, torch.Tensor):
            return (tensor,) if isinstance(tensor, (bool, int, float, *_SIZES)) else None
        held = self._held.get(storage_key(tensor)[0])
        if held is None and (data := constant_of(tensor)) is not None and data.numel() <= MOST:
            with with_real_tensors():
                held = tuple(dict.fromkeys(data.flatten().tolist()))
        return _ANY_BOOL if held is None and tensor.dtype == torch.bool else held

    def _one(self, tensor: Any) -> Any:
        held = self.values(tensor)
        return held[0] if held is not None and len(held) == 1 else None

    def _keep(self, tensor: torch.Tensor, values: Values | None, highest: Any = None) -> None:
        key, storage = storage_key(tensor)
        self._forget(key)
        if values is not None:
            self._held[key] = values
        if highest is not None:
            self._highest[key] = highest
        self._watch[key] = weakref.ref(storage, lambda _: self._forget(key))

    def _forget(self, key: int) -> None:
        self._held.pop(key, None)
        self._highest.pop(key, None)
        self._watch.pop(key, None)

    # -- what ops make --

    def _made(self, func: Any, name: str, args: Any, kwargs: Any) -> Values | None:
        """Values of the result, which may be the first argument, written to."""
        if name in _FILLS and not func._schema.is_mutable:
            return (_FILLS[name],)
        if name in _FILLS_WITH and not func._schema.is_mutable:
            return self.values(args[_FILLS_WITH[name]])
        given = list(_tensors(args))
        if name == "max" and len(args) == 1:
            highest = self._highest.get(storage_key(args[0])[0])
            if highest is not None:
                return (highest,) if known_equal(args[0].shape[-1], highest + 1) else None
        if not any(storage_key(tensor)[0] in self._held for tensor in given):
            return None
        if name in _TOGETHER:
            return self._together(name, args, kwargs)
        held = self.values(args[0])
        if name in _TESTS:
            return None if held is None else _TESTS[name](held)
        if name == "sum":
            return self._summed(*args, **kwargs)
        if torch.Tag.pointwise in func.tags and not func._schema.is_mutable:
            return self._computed(func, name, args, kwargs)
        return None

    def _counted(self, func: Any, name: str, args: Any) -> Any:
        """The highest number of a range from 0, and of its copies one above the other."""
        if name == "arange" and func._overloadname in ("", "default"):
            return args[0] - 1
        if (name == "repeat" and args[1][-1] == 1) or name in ("clone", "_to_copy"):
            return self._highest.get(storage_key(args[0])[0])
        return None

    def _together(self, name: str, args: Any, kwargs: Any) -> Values | None:
        places = _TOGETHER[name]
        if name in _CHOSEN and (chosen := self._chosen(*_CHOSEN[name], args)) is not None:
            places = (chosen,)
        found: dict[Any, None] = {}
        for place in places:
            value = 0 if place is None or place >= len(args) else args[place]
            for one in value if isinstance(value, list | tuple) else [value]:
                held = self.values(one)
                if held is None:
                    return None
                if any(isinstance(v, _SIZES) for v in held):
                    return held if value is one and len(places) == 1 else None
                found |= dict.fromkeys(_as_dtype(v, args[places[0]], kwargs.get("dtype")) for v in held)
        return tuple(found) if len(found) <= MOST else None

    def _chosen(self, mask: int, if_true: int, if_false: int, args: Any) -> int | None:
        """Which argument the result is taken from, where the mask is the same everywhere."""
        by = args[mask]
        if isinstance(by, list | tuple):  # of index_put: one mask over all
            if len(by) != 1 or by[0] is None or by[0].dtype != torch.bool:
                return None
            by = by[0]
        value = self._one(by)
        return None if value is None else if_true if value else if_false

    def _summed(self, tensor: torch.Tensor, dim: Any = None, *_: Any, **__: Any) -> Values | None:
        value = self._one(tensor)
        if value is None or isinstance(value, float):
            return None
        dims = [dim] if isinstance(dim, int) else dim or range(tensor.dim())
        count = prod(tensor.shape[place] for place in dims)
        return (count * (int(value) if isinstance(value, bool) else value),)

    def _computed(self, func: Any, name: str, args: Any, kwargs: Any) -> Values | None:
        """The op on one element of each tensor, for every combination of their values."""
        held = [self.values(a) if isinstance(a, torch.Tensor) else (a,) for a in args]
        if any(values is None for values in held) or any(map(_is_tensor, kwargs.values())):
            return None
        found: dict[Any, None] = {}
        for values in product(*(h for h in held if h is not None)):
            one = self._of_one(func, name, args, values, kwargs)
            if one is None:
                return None
            if isinstance(one, _SIZES):
                return (one,) if all(h is not None and len(h) == 1 for h in held) else None
            found[one] = None
        return tuple(found) if len(found) <= MOST else None

    def _of_one(self, func: Any, name: str, args: Any, values: Values, kwargs: Any) -> Any:
        if any(isinstance(value, _SIZES) for value in values):
            if name == "div" and kwargs.get("rounding_mode") in ("floor", "trunc"):  # sizes are not negative
                return values[0] // values[1]
            if name not in _OF_SIZES or len(values) != 2 or kwargs:
                return None
            return _OF_SIZES[name](*values)
        with with_real_tensors():
            ones = [
                torch.tensor(value, dtype=a.dtype) if isinstance(a, torch.Tensor) else a
                for a, value in zip(args, values, strict=True)
            ]
            try:
                return func(*ones, **{k: v for k, v in kwargs.items() if k != "device"}).item()
            except RuntimeError:  # no such op for single numbers
                return None

    # -- questions that a tensor without data cannot answer --

    def _answer__local_scalar_dense(self, tensor: torch.Tensor) -> Any:
        value = self._one(tensor)
        return value if value is None or isinstance(value, _SIZES) else _as_dtype(value, tensor, None)

    def _answer_equal(self, one: torch.Tensor, other: torch.Tensor) -> Any:
        values = self._one(one), self._one(other)
        if None in values:
            return None
        return tuple(one.shape) == tuple(other.shape) and bool(values[0] == values[1])

    def _answer_nonzero(self, tensor: torch.Tensor) -> Any:
        value = self._one(tensor)
        if value is None:
            return None
        return torch.empty((tensor.numel() if value else 0, tensor.dim()), dtype=torch.int64)

    def _answer_masked_select(self, tensor: torch.Tensor, mask: torch.Tensor) -> Any:
        value = self._one(mask)
        if value is None:
            return None
        return tensor.new_empty(prod(torch.broadcast_shapes(tensor.shape, mask.shape)) if value else 0)

    def _answer_index(self, tensor: torch.Tensor, indices: Any) -> Any:
        """A mask of all ones takes everything."""
        places = [place for place, index in enumerate(indices) if index is not None]
        mask = indices[places[0]]
        if len(places) != 1 or mask.dtype != torch.bool or (value := self._one(mask)) is None:
            return None
        start, end = places[0], places[0] + mask.dim()
        return tensor.new_empty((*tensor.shape[:start], mask.numel() if value else 0, *tensor.shape[end:]))

    def _answer_repeat_interleave(self, repeats: torch.Tensor, *rest: Any, output_size: Any = None) -> Any:
        value = self._one(repeats)
        if value is None or rest or output_size is not None:
            return None
        return torch.empty((repeats.shape[0] * value,), dtype=torch.int64)


def _as_dtype(value: Any, tensor: Any, dtype: Any) -> Any:
    while isinstance(tensor, list | tuple):
        tensor = tensor[0]
    dtype = dtype or tensor.dtype
    if isinstance(value, _SIZES):
        return value
    if dtype == torch.bool:
        return bool(value)
    return float(value) if dtype.is_floating_point else int(value)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
