"""Tensors inside nested containers and objects, such as a model's own cache: found, and replaced in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

_PLAIN = (str, bytes, int, float, complex, type, torch.dtype, torch.device, torch.SymInt, nn.Module)


def tensors_of(value: Any) -> list[torch.Tensor]:
    """Every distinct tensor within `value`, in order."""
    found: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        found.setdefault(id(tensor), tensor)
        return tensor

    replace_tensors(value, keep)
    return list(found.values())


def replace_tensors(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """`value` with every tensor changed: objects, lists and dicts in place, tuples anew."""
    return _replaced(value, change, set())


def _replaced(value: Any, change: Callable[[torch.Tensor], torch.Tensor], seen: set[int]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if value is None or isinstance(value, _PLAIN) or callable(value) or id(value) in seen:
        return value
    seen.add(id(value))
    if type(value) is tuple:
        return tuple(_replaced(item, change, seen) for item in value)
    if isinstance(value, list):
        value[:] = [_replaced(item, change, seen) for item in value]
    elif isinstance(value, dict):
        for key in list(value):
            value[key] = _replaced(value[key], change, seen)
    else:
        for name, held in list(getattr(value, "__dict__", {}).items()):
            new = _replaced(held, change, seen)
            if new is not held:
                setattr(value, name, new)
    return value
