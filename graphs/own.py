"""A model of the user's own: a module and the shapes it is called with, from a call or `file.py:factory`.

`file.py:factory` runs the named function of that file, the only user code hwsim runs. It returns the module,
its inputs by argument name and, if wanted, default sizes: `return module, {"x": ("batch", "seq", 512)},
{"seq": 128}`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
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
    dtype: str | None = None, name: str = "", fixed: Mapping[str, int] | None = None,
) -> OperatorGraph:  # fmt: skip
    """The graph of `module` called with `inputs`: argument name -> shape, where a text is an open size.

    A shape is a tuple, or an `Input` where the dtype is not the model's own (`Input(("batch", "seq"),
    "int64")`). `sizes` are defaults of open sizes (1 otherwise); `dtype` defaults to that of the module's
    parameters.
    """
    example = inputs if isinstance(inputs, Example) else _example(inputs)
    return trace_module(
        module,
        example,
        symbols=_symbols(example, sizes or {}),
        name=name or type(module).__name__,
        dtype=dtype or _dtype(module),
        fixed=fixed,
    )


def trace_file(spec: str, *, fixed: Mapping[str, int] | None = None) -> OperatorGraph:
    """The graph of what `file.py:factory` returns."""
    file, _, factory = spec.rpartition(":")
    made = _call(Path(file), factory)
    if not isinstance(made, tuple) or not 2 <= len(made) <= 3:
        raise GraphError(
            f"{spec} must return (module, inputs) or (module, inputs, sizes), not {type(made).__name__}"
        )
    return trace_own(*made[:2], sizes=made[2] if len(made) == 3 else None, name=spec, fixed=fixed)


def _call(path: Path, factory: str) -> Any:
    if not path.is_file():
        raise GraphError(f"no file {str(path)!r}; give the path of a Python file, as in model.py:factory")
    module_spec = importlib.util.spec_from_file_location(f"hwsim_user_{path.stem}", path)
    assert module_spec is not None  # a .py file always has a loader
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module
    try:
        module_spec.loader.exec_module(module)
        function = getattr(module, factory, None)
        if not callable(function):
            named = [
                n
                for n, v in vars(module).items()
                if callable(v) and getattr(v, "__module__", "") == module.__name__
            ]
            raise GraphError(f"{path} has no function {factory!r}; it defines {', '.join(named) or 'none'}")
        return function()
    except GraphError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or ["no message"])[0][:200]
        raise GraphError(f"{path}:{factory} failed: {type(error).__name__}: {first}") from error


def _example(inputs: Shapes) -> Example:
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


def _symbols(example: Example, sizes: Mapping[str, int]) -> dict[str, SizeSymbol]:
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


def _dtype(module: nn.Module) -> str:
    from graphs.tracing.recorder import DTYPE_NAMES

    first = next(iter(module.parameters()), None)
    return "fp32" if first is None else DTYPE_NAMES.get(first.dtype, "fp32")
