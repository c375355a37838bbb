"""The variants this room knows, read from the files of `graphs/variants` without importing them."""

from __future__ import annotations

import ast
import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from graphs.errors import GraphError
from graphs.expressions import Expr, as_expr, evaluate, number, parse, parse_condition, substitute
from graphs.ir import SizeSymbol
from graphs.losses import LOSSES, SUM

VARIANTS = Path(__file__).with_name("variants")
ROOT = Path(__file__).parents[1]
KNOWN_PHASES = ("forward", "prefill", "decode", "train")
_REQUIRED = {"CONFIGS": dict, "SYMBOLS": dict, "PHASES": tuple, "FAMILY": str}
_OPTIONAL = {"GUARDS": dict, "BASELINES": dict, "LOSS": str}
_SYMBOL_KEYS = {"default", "min", "max", "meaning"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantEntry:
    """One named configuration and the literals of its file; `source_hash` covers all our files it runs."""

    name: str
    path: Path
    config: Mapping[str, Any]
    symbols: Mapping[str, Mapping[str, Any]]
    guards: Mapping[str, Sequence[str]]
    phases: tuple[str, ...]
    family: str
    baselines: Mapping[str, Any]
    loss: str
    docstring: str
    source_hash: str


def variant_names() -> list[str]:
    """Every name of every variant file, sorted."""
    owner: dict[str, Path] = {}
    for path in _files():
        for name in _literals(path, path.read_text())["CONFIGS"]:
            if name in owner:
                raise GraphError(f"variant {name!r} stands in {owner[name].name} and {path.name}; keep one")
            owner[name] = path
    return sorted(owner)


def entries() -> list[VariantEntry]:
    """Every variant in order of name; each file is parsed once."""
    found = []
    for path in _files():
        text = path.read_text()
        literals = _literals(path, text)
        found += [_entry(name, path, text, literals) for name in literals["CONFIGS"]]
    return sorted(found, key=lambda entry: entry.name)


def find(name: str) -> VariantEntry:
    """The variant called `name`; only the file that holds the quoted name is parsed."""
    for path in _files():
        text = path.read_text()
        if f'"{name}"' not in text and f"'{name}'" not in text:
            continue
        literals = _literals(path, text)
        if name in literals["CONFIGS"]:
            return _entry(name, path, text, literals)
    near = difflib.get_close_matches(name, variant_names(), n=3, cutoff=0.5)
    remedy = f"did you mean {', '.join(map(repr, near))}?" if near else "see the list of models"
    raise GraphError(f"no model {name!r}; {remedy}")


def load(entry: VariantEntry) -> ModuleType:
    """Import the variant's module (and with it torch)."""
    return import_module(f"graphs.variants.{entry.path.stem}")


def call_phase(phase: str) -> str:
    """The phase whose call and sizes `phase` has: a training step runs the forward call."""
    return "forward" if phase == "train" else phase


def _with_training(phases: tuple[str, ...]) -> tuple[str, ...]:
    """What runs forward can be trained."""
    return (*phases, "train") if "forward" in phases and "train" not in phases else phases


def size_symbols(entry: VariantEntry, phase: str) -> dict[str, SizeSymbol]:
    """The sizes of `entry` in `phase`, config values filled in."""
    _check_phase(entry, phase)
    return {
        name: SizeSymbol(
            name=name,
            default=_filled(entry, _in_phase(spec["default"], call_phase(phase))),
            minimum=_filled(entry, spec["min"]),
            maximum=None if spec["max"] is None else _filled(entry, spec["max"]),
            meaning=spec["meaning"],
        )
        for name, spec in entry.symbols.items()
        if _in_phase(spec["default"], call_phase(phase)) is not None
    }


def guard_conditions(entry: VariantEntry, phase: str) -> tuple[Expr, ...]:
    """What must hold between the sizes of `phase`, config values filled in."""
    _check_phase(entry, phase)
    values = _numbers(entry.config)
    guards = entry.guards.get(call_phase(phase), ())
    return tuple(substitute(parse_condition(text), values) for text in guards)


def default_sizes(
    entry: VariantEntry, phase: str, given: Mapping[str, float] | None = None
) -> dict[str, float]:
    """A value for every size of `phase`: those given and the defaults that follow (expected counts may be
    fractional)."""
    symbols = size_symbols(entry, phase)
    sizes: dict[str, float] = dict(given or {})
    waiting = [name for name in symbols if name not in sizes]
    while waiting:
        ready = [name for name in waiting if symbols[name].default.symbols <= sizes.keys()]
        if not ready:
            raise GraphError(
                f"the defaults of {', '.join(waiting)} wait for each other or for an unknown size"
            )
        for name in ready:
            sizes[name] = float(evaluate(symbols[name].default, sizes))
        waiting = [name for name in waiting if name not in ready]
    return sizes


def _files() -> Iterator[Path]:
    return (path for path in sorted(VARIANTS.glob("*.py")) if path.name != "__init__.py")


def _entry(name: str, path: Path, text: str, literals: Mapping[str, Any]) -> VariantEntry:
    entry = VariantEntry(
        name=name,
        path=path,
        config=literals["CONFIGS"][name],
        symbols=literals["SYMBOLS"],
        guards=literals["GUARDS"],
        phases=_with_training(literals["PHASES"]),
        family=literals["FAMILY"],
        baselines=literals["BASELINES"],
        loss=literals["CONFIGS"][name].get("loss", literals["LOSS"]),
        docstring=literals["docstring"],
        source_hash=_source_hash(path, text),
    )
    _check(entry)
    return entry


def _literals(path: Path, text: str) -> dict[str, Any]:
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise GraphError(
            f"variant file {path.name} is not Python at line {error.lineno}; correct it"
        ) from error
    found: dict[str, Any] = {
        "GUARDS": {},
        "BASELINES": {},
        "LOSS": SUM,
        "docstring": ast.get_docstring(tree) or "",
    }
    wanted = _REQUIRED | _OPTIONAL
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if (
            not isinstance(node, ast.Assign | ast.AnnAssign)
            or not isinstance(target, ast.Name)
            or node.value is None
        ):
            continue
        if target.id in wanted:
            found[target.id] = _literal(path, target.id, node.value)
    for name, kind in wanted.items():
        if not isinstance(found.get(name), kind):
            raise GraphError(f"variant file {path.name} needs {name}, a literal {kind.__name__}; add it")
    return found


def _literal(path: Path, name: str, node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError) as error:
        raise GraphError(
            f"{name} in {path.name} is not a plain literal; write it without calls or names"
        ) from error


def _check(entry: VariantEntry) -> None:
    where = f"in {entry.path.name}"
    if not isinstance(entry.config, dict) or not isinstance(entry.config.get("dtype"), str):
        raise GraphError(f"configuration {entry.name!r} {where} needs a 'dtype' such as 'bfloat16'; add it")
    if entry.loss not in LOSSES:
        raise GraphError(f"LOSS {entry.loss!r} {where} is unknown; use {', '.join(LOSSES)}")
    for phase in (*entry.phases, *entry.guards):
        if phase not in KNOWN_PHASES:
            raise GraphError(f"phase {phase!r} {where} is unknown; use {', '.join(KNOWN_PHASES)}")
    for name, spec in entry.symbols.items():
        if not isinstance(spec, dict) or spec.keys() != _SYMBOL_KEYS:
            raise GraphError(f"symbol {name!r} {where} needs exactly {', '.join(sorted(_SYMBOL_KEYS))}")
        if name in entry.config:
            raise GraphError(f"symbol {name!r} {where} is also a config key; rename one")
        defaults = spec["default"].values() if isinstance(spec["default"], dict) else [spec["default"]]
        for value in (*defaults, spec["min"], spec["max"]):
            _check_names(entry, f"symbol {name!r}", None if value is None else as_expr(value))
    for texts in entry.guards.values():
        for text in texts:
            _check_names(entry, f"guard {text!r}", parse_condition(text))


def _check_names(entry: VariantEntry, what: str, expr: Expr | None) -> None:
    unknown = sorted((expr.symbols if expr else set()) - entry.symbols.keys() - _numbers(entry.config).keys())
    if unknown:
        raise GraphError(
            f"{what} in {entry.path.name} names {unknown[0]!r}, no symbol and no number of {entry.name!r}"
        )


def _check_phase(entry: VariantEntry, phase: str) -> None:
    if phase not in entry.phases:
        raise GraphError(f"{entry.name} has no phase {phase!r}; it has {', '.join(entry.phases)}")


def _in_phase(default: Any, phase: str) -> Any:
    return default.get(phase) if isinstance(default, dict) else default


def _numbers(config: Mapping[str, Any]) -> dict[str, Expr | int | float]:
    return {
        key: value
        for key, value in config.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _filled(entry: VariantEntry, value: str | float) -> Expr:
    if not isinstance(value, str):
        return number(value)
    return substitute(parse(value), _numbers(entry.config))


def _source_hash(path: Path, text: str) -> str:
    digest = hashlib.sha256()
    seen = {path}
    pending = [(path, text)]
    while pending:
        here, source = pending.pop()
        digest.update(f"{here.name}\n{source}".encode())
        for imported in sorted(_imports_of_graphs(source)):
            if imported not in seen:
                seen.add(imported)
                pending.append((imported, imported.read_text()))
    return digest.hexdigest()


def _imports_of_graphs(source: str) -> set[Path]:
    """Our own files a source imports by `from graphs.x import y`; by pattern, as parsing would cost time."""
    names = re.findall(r"^\s*from (graphs(?:\.\w+)+) import", source, flags=re.MULTILINE)
    paths = {(ROOT / Path(*name.split("."))).with_suffix(".py") for name in names}
    return {path for path in paths if path.exists()}
