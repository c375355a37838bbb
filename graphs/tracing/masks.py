"""Follows constant matrices through a trace, to know a causal mask that a model spells out as a tensor."""

from __future__ import annotations

from typing import Any

from graphs.tracing.sizes import SizeReader
from graphs.work import Operand

# ops that make a matrix of one value -> where that value stands among their arguments (None: it is 1)
_FILLS = {
    "ones": None, "new_ones": None, "ones_like": None, "full": 1, "new_full": 2, "full_like": 1, "fill": 1,
}  # fmt: skip
# (cut, value): True up to the diagonal, or -inf beyond it, hides the future -> offset of the diagonal
_HIDES_THE_FUTURE = {("tril", 1.0): 0, ("triu", float("-inf")): 1}


class Masks:
    """What is known of storages that hold one value everywhere, or such a value cut at a diagonal."""

    def __init__(self, reader: SizeReader) -> None:
        self._reader = reader
        self._value: dict[int, float] = {}
        self._causal: set[int] = set()

    def is_causal(self, mask: Operand) -> bool:
        """Whether the tensor is (a view of) a mask that hides exactly the positions after each query."""
        return mask.storage in self._causal

    def follow(
        self, name: str, inputs: tuple[Operand, ...], outputs: tuple[Operand, ...], args: Any, results: Any
    ) -> None:
        """Take note of one recorded op; whatever it writes is no longer what it was."""
        source = self._value.get(inputs[0].storage) if inputs else None
        for out in outputs:
            self._value.pop(out.storage, None)
            self._causal.discard(out.storage)
        base = name.removeprefix("aten.").rstrip("_")
        if base in _FILLS:
            place = _FILLS[base]
            value = 1 if place is None else args[place]
            if isinstance(value, bool | int | float):
                self._value[outputs[0].storage] = float(value)
        elif source is not None and (base, source) in _HIDES_THE_FUTURE and len(results[0].shape) >= 2:
            diagonal = args[1] if len(args) > 1 else 0
            queries, keys = results[0].shape[-2:]
            offset = _HIDES_THE_FUTURE[base, source]
            if self._reader.size(keys - queries - diagonal + offset).is_zero:
                self._causal.add(outputs[0].storage)
