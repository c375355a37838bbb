"""From a model spec to its graph: saved file, trace cache, or a fresh trace. Torch is imported only for the last."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphs import catalog
from graphs.errors import GraphError
from graphs.ir import OperatorGraph, SizeSymbol
from graphs.serial import SCHEMA, load_graph, to_json

if TYPE_CHECKING:
    from torch import nn

    from graphs.inputs import Example


def trace(
    model: str | OperatorGraph,
    *,
    phase: str = "forward",
    fixed: Mapping[str, int] | None = None,
    cache: bool = True,
) -> OperatorGraph:
    """The operator graph of `model` in `phase`, from the cache when it was traced before.

    `model` is a built-in name or a path to a saved graph; `fixed` symbols are traced as plain numbers.
    """
    if isinstance(model, OperatorGraph):
        return _in_phase(model, phase)
    if model.endswith(".json"):
        return _in_phase(load_graph(model), phase)
    entry = catalog.find(model)
    sizes = _used_symbols(entry, phase)
    path = cache_folder() / f"{_key(entry, phase, fixed or {})}.json"
    if cache and path.exists():
        try:
            return load_graph(path)
        except GraphError:
            path.unlink(missing_ok=True)
    graph = _trace_variant(entry, phase, sizes, fixed or {})
    if cache:
        _store(path, graph)
    return graph


def trace_module(
    module: nn.Module | Callable[[], nn.Module],
    example: Example,
    *,
    symbols: Mapping[str, SizeSymbol],
    name: str = "module",
    phase: str = "forward",
    dtype: str = "fp32",
    fixed: Mapping[str, int] | None = None,
) -> OperatorGraph:
    """Trace a module of your own (or a function that builds one) called as `example` says; never cached."""
    from graphs.tracing.accept import trace_subject
    from graphs.tracing.symbolic import TORCH_DTYPES, Subject

    def build() -> nn.Module:
        return (
            module
            if not callable(getattr(module, "__wrapped_build__", None)) and _is_module(module)
            else module()
        )  # type: ignore[return-value,call-arg]

    subject = Subject(
        name=name, phase=phase, dtype=TORCH_DTYPES[dtype], build=build, example=example, symbols=dict(symbols)
    )
    return _guarded(name, lambda: trace_subject(subject, fixed=fixed))


def _is_module(value: Any) -> bool:
    from torch import nn

    return isinstance(value, nn.Module)


def _in_phase(graph: OperatorGraph, phase: str) -> OperatorGraph:
    if graph.phase != phase:
        raise GraphError(
            f"graph of {graph.model} was traced in phase {graph.phase!r}, not {phase!r}; pass --phase {graph.phase}"
        )
    return graph


def _used_symbols(entry: catalog.VariantEntry, phase: str) -> dict[str, SizeSymbol]:
    """Symbols the phase's inputs use, and those their defaults are made of."""
    return catalog.size_symbols(entry, phase)


def _trace_variant(
    entry: catalog.VariantEntry, phase: str, sizes: Mapping[str, SizeSymbol], fixed: Mapping[str, int]
) -> OperatorGraph:
    from graphs.tracing.accept import trace_subject
    from graphs.tracing.symbolic import Subject, used_symbols

    import torch

    module = catalog.load(entry)
    example = module.example(entry.config, phase)
    subject = Subject(
        name=entry.name,
        phase=phase,
        dtype=getattr(torch, entry.config["dtype"]),
        build=lambda: module.build(entry.config),  # type: ignore[no-any-return]
        example=example,
        symbols=used_symbols(example, sizes),
        guards=catalog.guard_conditions(entry, phase),
    )
    return _guarded(entry.name, lambda: trace_subject(subject, fixed=fixed))


def _guarded(name: str, run: Callable[[], OperatorGraph]) -> OperatorGraph:
    """Whatever the user's module raises becomes one line that names the model and where it stood."""
    try:
        return run()
    except GraphError as error:
        raise GraphError(f"{name} cannot be traced: {error}") from error
    except Exception as error:
        first = (str(error).strip().splitlines() or ["no message"])[0][:200]
        where = getattr(error, "hwsim_module", None)
        place = f" in module {where!r}" if where else ""
        raise GraphError(f"{name} cannot be traced{place}: {type(error).__name__}: {first}") from error


def cache_folder() -> Path:
    """Where traces are kept: HWSIM_CACHE, or the user's cache folder."""
    override = os.environ.get("HWSIM_CACHE")
    if override:
        return Path(override)
    from platformdirs import user_cache_path

    return user_cache_path("hwsim", appauthor=False) / "graphs"


def _key(entry: catalog.VariantEntry, phase: str, fixed: Mapping[str, int]) -> str:
    """Name, phase and everything the trace depends on; made without importing torch."""
    parts = [
        SCHEMA,
        entry.name,
        phase,
        entry.source_hash,
        repr(sorted(fixed.items())),
        _tracer_hash(),
        _version("torch"),
        sys.version,
    ]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    return f"{entry.name.replace('/', '_')}-{phase}-{digest}"


def _version(package: str) -> str:
    """The version file of an installed package, read without importing it (its metadata costs a tenth of a start)."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return "absent"
    stamp = Path(spec.origin).with_name("version.py")
    return stamp.read_text() if stamp.is_file() else "unknown"


def _tracer_hash() -> str:
    """Hash of the tracer's own sources: a changed tracer traces again."""
    here = Path(__file__).parent
    files = [*sorted((here / "tracing").glob("*.py")), *sorted((here / "work").glob("*.py")), here / "ir.py"]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _store(path: Path, graph: OperatorGraph) -> None:
    """Write aside and rename, so that several processes and an interruption leave whole files only."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(to_json(graph))
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
