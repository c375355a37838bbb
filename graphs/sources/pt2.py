"""Programs saved by `torch.export.save`: sizes exported as dynamic stay open.

torch would unpickle some members of such an archive and evaluate text of others. An archive is therefore read
here first, as the zip and JSON it is, and one that holds more than plain tensors, size arithmetic and
registered operators is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

from graphs.errors import GraphError
from graphs.expressions import number
from graphs.inputs import Example, Input, Size
from graphs.ir import SizeSymbol
from graphs.sources.source import Source, without_warnings

if TYPE_CHECKING:
    from graphs.tracing.symbolic import Subject

_PICKLED = ("custom_objs_", "opaque_obj_")
# names that may be called in the text of a size, which torch evaluates
_CALLS = frozenset((
    "Add", "Mul", "Pow", "Integer", "Rational", "Float", "Symbol", "FloorDiv", "CleanDiv", "CeilDiv",
    "Mod", "PythonMod", "ModularIndexing", "Max", "Min", "Where", "IntTrueDiv", "FloatTrueDiv",
    "ToFloat", "TruncToInt", "TruncToFloat", "CeilToInt", "FloorToInt", "PowByNatural", "FloatPow",
    "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "Equality", "Unequality", "StrictLessThan",
    "LessThan", "StrictGreaterThan", "GreaterThan", "Identity", "LShift", "RShift",
))  # fmt: skip
_WORDS = re.compile(r"(\w+)(\s*\()?")
_ARITHMETIC = re.compile(r"[\w\s+\-*/%(),<>=&|~']*")
_OPERATOR = re.compile(r"(?!.*__)(torch\.ops\.\w+\.\w+(\.\w+)?|_operator\.\w+|math\.\w+|torch\.sym_\w+)")
REMEDY = "export it again from plain tensors, or trace its module through file.py:factory"


def find(spec: str) -> Source:
    """The exported program in the file."""
    path = Path(spec)
    if not path.is_file():
        raise GraphError(f"no file {spec!r}; save a program with torch.export.save(program, {spec!r})")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Source(name=spec, identity=("pt2", digest), subject=lambda phase: _subject(spec, path, phase))


def _subject(spec: str, path: Path, phase: str) -> Subject:
    if phase != "forward":
        raise GraphError(f"{spec} has no phase {phase!r}; it has forward")
    check(path)
    import torch

    from graphs.tracing.symbolic import Subject
    from graphs.tracing.torch_private import unflattened

    try:
        program = torch.export.load(path)
        inputs = _user_inputs(program)
        if len(inputs) != program.call_spec.in_spec.num_leaves:
            raise GraphError(f"{spec} takes other inputs than tensors; {REMEDY}")
        names, limits = _names(inputs), program.range_constraints
        leaves = iter(Input(_shape(tensor, names), _dtype(tensor)) for _, tensor in inputs)
        args, kwargs = unflattened(list(leaves), program.call_spec.in_spec)
        module = program.module(check_guards=False)
        # torch lets no program change its mode, and a trace asks for inference
        module.train = MethodType(torch.nn.Module.train, module)  # type: ignore[method-assign]
        module.eval = MethodType(torch.nn.Module.eval, module)  # type: ignore[method-assign]
    except GraphError:
        raise
    except Exception as error:  # a file torch itself cannot read
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise GraphError(f"torch cannot load {spec}: {first}; {REMEDY}") from error
    dtypes = [p.dtype for p in module.parameters() if p.is_floating_point()]
    return Subject(
        name=spec,
        phase=phase,
        dtype=dtypes[0] if dtypes else torch.float32,
        build=lambda: module,
        example=Example(args, kwargs),
        around=without_warnings,
        symbols={name: _symbol(name, limits.get(symbol)) for symbol, name in names.items()},
    )


def check(path: Path) -> None:
    """Refuse an archive that torch would unpickle or evaluate more of than tensors and arithmetic."""
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            members = {
                name.split("/", 1)[-1]: archive.read(name)
                for name in archive.namelist()
                if "data/" in name or "models/" in name
            }
    except (OSError, zipfile.BadZipFile) as error:
        raise GraphError(
            f"{path} is no exported program: {error}; save one with torch.export.save"
        ) from error
    for name, content in members.items():
        if name.rpartition("/")[2].startswith(_PICKLED):
            raise GraphError(f"{path} holds a pickled object ({name}), which is not loaded; {REMEDY}")
        if name.endswith(".json"):
            _check_json(path, name, content)
        if name.startswith("data/sample_inputs/"):
            try:
                torch.load(io.BytesIO(content), weights_only=True)
            except Exception as error:
                raise GraphError(f"the sample inputs of {path} are more than tensors; {REMEDY}") from error
    if not any(name.startswith("models/") for name in members):
        raise GraphError(f"{path} holds no exported program of this format; {REMEDY}")


def _check_json(path: Path, name: str, content: bytes) -> None:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise GraphError(f"{name} of {path} is no JSON: {error}; save the program again") from error
    for key, value in _pairs(document):
        if key == "use_pickle" and value:
            raise GraphError(f"{path} holds pickled tensors, which are not loaded; {REMEDY}")
        if key == "expr_str" and not _is_arithmetic(value):
            raise GraphError(f"{path} has the size {str(value)[:60]!r}, which is no arithmetic; {REMEDY}")
        if key == "range_constraints" and not all(re.fullmatch(r"\w+", str(name)) for name in value):
            raise GraphError(f"{path} bounds something else than sizes; {REMEDY}")
        if key == "target" and isinstance(value, str) and not _OPERATOR.fullmatch(value):
            raise GraphError(f"{path} calls {value[:60]!r}, which is no operator of torch.ops; {REMEDY}")


def _is_arithmetic(text: Any) -> bool:
    """Whether a size's text calls nothing but arithmetic; torch hands it to sympy, which evaluates it."""
    if not isinstance(text, str) or "__" in text or not _ARITHMETIC.fullmatch(text):
        return False
    return all(name in _CALLS for name, called in _WORDS.findall(text) if called)


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key, item
            yield from _pairs(item)
    elif isinstance(value, list):
        for item in value:
            yield from _pairs(item)


def _user_inputs(program: Any) -> list[tuple[str, Any]]:
    """(name, fake tensor) of each tensor the program is called with."""
    wanted = program.graph_signature.user_inputs
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    return [(name, values[name]) for name in wanted if hasattr(values.get(name), "shape")]


def _names(inputs: list[tuple[str, Any]]) -> dict[Any, str]:
    """Our name of each open size: `batch` where it comes first, `seq` second, else input and place."""
    names: dict[Any, str] = {}
    for name, tensor in inputs:
        for place, size in enumerate(tensor.shape):
            if isinstance(size, int) or size.node.expr in names or not size.node.expr.is_Symbol:
                continue
            usual = ("batch", "seq")[place] if place < 2 else ""
            free = usual and usual not in names.values()
            names[size.node.expr] = usual if free else f"{name}_{place}"
    return names


def _shape(tensor: Any, names: dict[Any, str]) -> tuple[Size, ...]:
    return tuple(size if isinstance(size, int) else _text(size.node.expr, names) for size in tensor.shape)


def _text(expr: Any, names: dict[Any, str]) -> str:
    """A size as text over our names."""
    from graphs.tracing.sizes import SizeReader

    return SizeReader(names).sympy(expr).text


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _symbol(name: str, limits: Any) -> SizeSymbol:
    low = int(limits.lower) if limits is not None and limits.lower.is_Integer else 1
    high = int(limits.upper) if limits is not None and limits.upper.is_Integer else None
    return SizeSymbol(
        name=name,
        default=number(max(low, 1)),
        minimum=number(low),
        maximum=None if high is None or high > 2**40 else number(high),
        meaning="a dynamic size of the exported program",
    )
