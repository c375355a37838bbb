"""Hears which operators a real run sends through torch's dispatcher: our kind and sizes of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from graphs.expressions import number
from graphs.ir import ACTIVATION, TensorSpec
from graphs.profiling import UNMAPPED, VIEWS
from graphs.tracing.recorder import TENSOR
from graphs.tracing.torch_private import TorchDispatchMode
from graphs.work import Call, Operand, aten_rule, is_free


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """Operators of a run: name (`aten::addmm`) -> our kind; (name, input shapes) -> canonical sizes."""

    kinds: Mapping[str, str]
    dims: Mapping[tuple[str, str], str]


def kinds_reached(run: Callable[[], object]) -> Mapping[str, str]:
    """The kinds of `reached`."""
    return reached(run).kinds


def reached(run: Callable[[], object]) -> Reached:
    """What `run` sends through torch's dispatcher, each call read by the rule that reads it in a trace."""
    kinds: dict[str, str] = {}
    dims: dict[tuple[str, str], str] = {}

    class Listener(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            name, key = func._schema.name, (func._schema.name, _shapes(args))
            if name not in kinds or (key not in dims and kinds[name] not in (VIEWS, UNMAPPED)):
                kinds[name], dims[key] = _kind(name, func._overloadname, args, kwargs or {}, out)
            return out

    with Listener():  # type: ignore[no-untyped-call]
        run()
    return Reached(kinds=kinds, dims=dims)


def _shapes(args: Any) -> str:
    """As the profiler's input shapes are written: those of tensors, and of lists of them as one."""
    found = []
    for value in args:
        if isinstance(value, torch.Tensor) and value.dim():
            found.append("x".join(map(str, value.shape)))
        elif isinstance(value, list | tuple) and value and all(isinstance(v, torch.Tensor) for v in value):
            found.append("x".join(str(list(v.shape)) for v in value))
    return " ".join(found)


def _kind(name: str, overload: str, args: Any, kwargs: Mapping[str, Any], out: Any) -> tuple[str, str]:
    """Our kind of a call, and its canonical sizes as an estimate's operator rows give them."""
    name = name.replace("::", ".")
    rule = aten_rule(f"{name}.{overload}") or aten_rule(name)
    if is_free(name):
        return VIEWS, ""
    if rule is None:
        return UNMAPPED, ""
    inputs, outputs = (tuple(map(_operand, _tensors(value))) for value in ((args, kwargs), out))
    keywords = {key: _plain(value) for key, value in kwargs.items()}
    found = rule(Call(name, inputs, outputs, tuple(map(_plain, args)), keywords))
    sizes = " ".join(f"{size}={float(value.value or 0):g}" for size, value in found.dims)
    if not sizes and outputs:
        sizes = "x".join(f"{float(size.value or 0):g}" for size in outputs[0].shape)
    return found.kind, sizes


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
