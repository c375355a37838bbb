"""Hears which operators a real run sends through torch's dispatcher, and names our kind of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from graphs.expressions import number
from graphs.ir import ACTIVATION, TensorSpec
from graphs.profiling import UNMAPPED, VIEWS
from graphs.tracing.recorder import TENSOR
from graphs.tracing.torch_private import TorchDispatchMode
from graphs.work import Call, Operand, aten_rule, is_free


def kinds_reached(run: Callable[[], object]) -> dict[str, str]:
    """Name (`aten::addmm`) -> our kind, of the operators that `run` sends through torch's dispatcher.

    Each call is read by the rule that would read it in a trace.
    """
    kinds: dict[str, str] = {}

    class Listener(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            name = func._schema.name
            if name not in kinds:
                kinds[name] = _kind(name, func._overloadname, args, kwargs or {}, out)
            return out

    with Listener():  # type: ignore[no-untyped-call]
        run()
    return kinds


def _kind(name: str, overload: str, args: Any, kwargs: Mapping[str, Any], out: Any) -> str:
    name = name.replace("::", ".")
    rule = aten_rule(f"{name}.{overload}") or aten_rule(name)
    if is_free(name):
        return VIEWS
    if rule is None:
        return UNMAPPED
    inputs, outputs = (tuple(map(_operand, _tensors(value))) for value in ((args, kwargs), out))
    keywords = {key: _plain(value) for key, value in kwargs.items()}
    return rule(Call(name, inputs, outputs, tuple(map(_plain, args)), keywords)).kind


def _operand(tensor: torch.Tensor) -> Operand:
    """Shape is all that a rule reads to tell kind and dims."""
    elements = number(tensor.numel())
    return Operand(TensorSpec(tuple(map(number, tensor.shape)), "fp32", ACTIVATION, elements), 0)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, torch.Tensor):
        yield value


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return TENSOR if isinstance(value, torch.Tensor) else value
