"""From a model name to its graph: saved file, trace cache, or a fresh trace, which alone imports torch."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from graphs import sources
from graphs.errors import GraphError
from graphs.ir import OperatorGraph, SizeSymbol
from graphs.losses import SUM
from graphs.serial import SCHEMA, load_graph, to_json
from graphs.sources.source import Source, version

if TYPE_CHECKING:
    from torch import nn

    from graphs.expressions import Expr
    from graphs.inputs import Example
    from graphs.tracing.symbolic import Subject

_ONE_AT_A_TIME = RLock()  # a trace replaces functions of torch while it runs


def trace(
    model: str | OperatorGraph,
    *,
    phase: str = "forward",
    fixed: Mapping[str, int] | None = None,
    cache: bool = True,
) -> OperatorGraph:
    """The operator graph of `model` in `phase`, from the cache when it was traced before.

    `model` is a name or path that `graphs.sources` finds, or a path to a saved graph; `fixed` symbols are
    traced as plain numbers.
    """
    if isinstance(model, OperatorGraph):
        return _in_phase(model, phase)
    if model.endswith(".json") and not model.startswith("hf:"):
        return _in_phase(load_graph(model), phase)
    source = sources.find(model)
    if source.identity is None or not cache:
        return _traced(source.subject(phase), fixed)
    path = cache_folder() / f"{_key(source, phase, fixed or {})}.json"
    if path.exists():
        try:
            return load_graph(path)
        except GraphError:
            with suppress(OSError):
                path.unlink()
    graph = _traced(source.subject(phase), fixed)
    _store(path, graph)
    return graph


def trace_module(
    module: nn.Module | Callable[[], nn.Module],
    example: Example,
    *,
    symbols: Mapping[str, SizeSymbol],
    guards: Sequence[Expr] = (),
    name: str = "module",
    phase: str = "forward",
    dtype: str = "fp32",
    fixed: Mapping[str, int] | None = None,
    loss: str = SUM,
) -> OperatorGraph:
    """Trace a module of your own (or a function that builds one) called as `example` says; never cached.

    `guards` are conditions between the sizes that the module relies on; phase `train` derives the scalar
    that the module returns, or `loss` of its outputs.
    """
    from torch import nn

    from graphs.tracing.symbolic import TORCH_DTYPES, Subject

    if dtype not in TORCH_DTYPES:
        raise GraphError(f"dtype {dtype!r} cannot be traced; use one of {', '.join(TORCH_DTYPES)}")
    subject = Subject(
        name=name,
        phase=phase,
        dtype=TORCH_DTYPES[dtype],
        build=(lambda: module) if isinstance(module, nn.Module) else module,
        example=example,
        symbols=symbols,
        guards=tuple(guards),
        loss=loss,
    )
    return _traced(subject, fixed)


def _in_phase(graph: OperatorGraph, phase: str) -> OperatorGraph:
    if graph.phase != phase:
        raise GraphError(
            f"graph of {graph.model} was traced in phase {graph.phase!r}, not {phase!r}; "
            f"pass --phase {graph.phase}"
        )
    return graph


def _traced(subject: Subject, fixed: Mapping[str, int] | None) -> OperatorGraph:
    from graphs.tracing.accept import trace_subject

    try:
        with _ONE_AT_A_TIME:
            return trace_subject(subject, fixed=fixed)
    except GraphError as error:
        raise GraphError(f"{subject.name} cannot be traced: {error}") from error


def cache_folder() -> Path:
    """Where traces are kept: HWSIM_CACHE, or the user's cache folder."""
    override = os.environ.get("HWSIM_CACHE")
    if override:
        return Path(override)
    from platformdirs import user_cache_path

    return user_cache_path("hwsim", appauthor=False) / "graphs"


def _key(source: Source, phase: str, fixed: Mapping[str, int]) -> str:
    """Name, phase and everything the trace depends on; made without importing torch."""
    parts = [
        SCHEMA,
        source.name,
        phase,
        *(source.identity or ()),
        repr(sorted(fixed.items())),
        _tracer_hash(),
        version("torch"),
        sys.version,
    ]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    return f"{re.sub(r'[^A-Za-z0-9.-]+', '_', source.name)[-60:]}-{phase}-{digest}"


def _tracer_hash() -> str:
    """Hash of the tracer's own sources: a changed tracer traces again."""
    here = Path(__file__).parent
    folders = ("expressions", "tracing", "work", "sources")
    files = [here / "ir.py", *(file for folder in folders for file in sorted((here / folder).rglob("*.py")))]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _store(path: Path, graph: OperatorGraph) -> None:
    """Write aside and rename, so that several processes and an interruption leave whole files only.

    A folder that cannot be written costs a trace next time and is no error.
    """
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as aside:
            aside.write(to_json(graph))
        Path(aside.name).replace(path)
