"""A model of the user's own: a module and the shapes it is called with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graphs.errors import GraphError
from graphs.expressions import as_expr, number
from graphs.inputs import Example, Input, SymbolValue
from graphs.ir import OperatorGraph, SizeSymbol
from graphs.trace import trace_module

if TYPE_CHECKING:
    from torch import nn

Shapes = Mapping[str, Any]


def trace_own(
    module: nn.Module, inputs: Shapes | Example, *, sizes: Mapping[str, int] | None = None,
    dtype: str | None = None, name: str = "", fixed: Mapping[str, int] | None = None, phase: str = "forward",
) -> OperatorGraph:  # fmt: skip
    """The graph of `module` called with `inputs`: argument name -> shape, where a text is an open size.

    A shape is a tuple, or an `Input` where the dtype is not the model's own (`Input(("batch", "seq"),
    "int64")`). `sizes` are defaults of open sizes (1 otherwise); `dtype` defaults to that of the module's
    parameters.
    """
    example = inputs if isinstance(inputs, Example) else named_inputs(inputs)
    return trace_module(
        module,
        example,
        symbols=open_sizes(example, sizes or {}),
        name=name or type(module).__name__,
        dtype=dtype or dtype_of(module),
        fixed=fixed,
        phase=phase,
    )


def named_inputs(inputs: Shapes) -> Example:
    """The call that passes a tensor of each shape by argument name."""
    if not isinstance(inputs, Mapping) or not inputs:
        raise GraphError('inputs must name arguments and shapes, as in {"x": ("batch", 128, 512)}')
    return Example(kwargs={name: _leaf(name, value) for name, value in inputs.items()})


def _leaf(name: str, value: Any) -> Any:
    if isinstance(value, Input | SymbolValue):
        return value
    if isinstance(value, (tuple, list)) and all(isinstance(v, (int, str)) and v != "" for v in value):
        return Input(tuple(value), "model")
    raise GraphError(
        f"input {name!r} is {value!r}; give a shape of whole numbers and size names, or an Input"
    )


def open_sizes(example: Example, sizes: Mapping[str, int]) -> dict[str, SizeSymbol]:
    """Every size that a shape of `example` names, with its default."""
    names: dict[str, None] = {}
    for leaf in example.leaves():
        texts = (
            [leaf.name] if isinstance(leaf, SymbolValue) else [s for s in leaf.shape if isinstance(s, str)]
        )
        for text in texts:
            names.update(dict.fromkeys(sorted(as_expr(text).symbols)))
    unknown = set(sizes) - set(names)
    if unknown:
        raise GraphError(
            f"size {min(unknown)!r} is in no input shape; the open sizes are {', '.join(names) or 'none'}"
        )
    return {
        name: SizeSymbol(
            name=name, default=number(sizes.get(name, 1)), minimum=number(1), meaning="input size"
        )
        for name in names
    }


def dtype_of(module: nn.Module) -> str:
    """Our name of the dtype of a module's first parameter."""
    from graphs.tracing.recorder import DTYPE_NAMES

    first = next(iter(module.parameters()), None)
    return "fp32" if first is None else DTYPE_NAMES.get(first.dtype, "fp32")
