"""The user's own file: `model.py:factory`.

The named function is run, the only user code hwsim runs. It returns the module, its inputs by argument name
and, if wanted, default sizes: `return module, {"x": ("batch", "seq", 512)}, {"seq": 128}`. Operators of the
user's own are traced through their fake kernels; what work they are stands in `HWSIM_RULES` of the file
(`graphs.work.custom`). A training step derives the scalar that the module returns, or the sum of its outputs.
A trace is not kept: the file may read others.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from graphs.errors import GraphError
from graphs.sources.source import Source

if TYPE_CHECKING:
    from graphs.tracing.symbolic import Subject


def find(spec: str) -> Source:
    """What `file.py:factory` returns when it is called."""
    return Source(name=spec, identity=None, subject=lambda phase: _subject(spec, phase))


def _subject(spec: str, phase: str) -> Subject:
    if phase not in ("forward", "train"):
        raise GraphError(f"a model of your own has no phase {phase!r} yet; use forward or train")
    from graphs.inputs import Example
    from graphs.own import dtype_of, named_inputs, open_sizes
    from graphs.tracing.symbolic import TORCH_DTYPES, Subject
    from graphs.work.custom import checked_rules

    file, _, factory = spec.rpartition(":")
    code, made = _made(Path(file), factory)
    if not isinstance(made, tuple) or not 2 <= len(made) <= 3:
        raise GraphError(
            f"{spec} must return (module, inputs) or (module, inputs, sizes), not {type(made).__name__}"
        )
    module, inputs = made[:2]
    example = inputs if isinstance(inputs, Example) else named_inputs(inputs)
    return Subject(
        name=spec,
        phase=phase,
        dtype=TORCH_DTYPES[dtype_of(module)],
        build=lambda: module,
        example=example,
        symbols=open_sizes(example, made[2] if len(made) == 3 else {}),
        rules=checked_rules(file, getattr(code, "HWSIM_RULES", {})),
    )


def _made(path: Path, factory: str) -> tuple[ModuleType, Any]:
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
        return module, function()
    except GraphError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or ["no message"])[0][:200]
        raise GraphError(f"{path}:{factory} failed: {type(error).__name__}: {first}") from error
