"""From the text that names a model to its `Source`, decided by prefix or suffix alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from graphs.errors import GraphError

if TYPE_CHECKING:
    from graphs.tracing.symbolic import Subject

_PREFIXES = {"hf:": "hf", "timm:": "timm"}
_SUFFIXES = {".pt2": "pt2", ".onnx": "onnx"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model that can be traced: its name, what its trace depends on, and how it is built and called.

    `identity` is everything beside the tracer and torch that a trace depends on; None where that cannot be
    known without running code, and then nothing is kept. `subject` is given the phase; only it imports.
    """

    name: str
    identity: tuple[str, ...] | None
    subject: Callable[[str], Subject]


def find(spec: str) -> Source:
    """The source that `spec` names."""
    module = import_module(f"graphs.sources.{_kind(spec)}")
    source: Source = module.find(spec)
    return source


def _kind(spec: str) -> str:
    for prefix, kind in _PREFIXES.items():
        if spec.startswith(prefix):
            return kind
    if ".py:" in spec:
        return "file"
    return _SUFFIXES.get(Path(spec).suffix, "built_in")


@cache
def version(package: str) -> str:
    """Version of an installed package from its files: importing it, or its metadata, slows every start."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return "absent"
    for stamp in ("version.py", "__init__.py"):
        file = Path(spec.origin).with_name(stamp)
        if file.is_file() and "__version__" in (text := file.read_text(encoding="utf-8")):
            return next(line for line in text.splitlines() if "__version__" in line)
    return "unknown"


@contextmanager
def without_warnings() -> Iterator[None]:
    """Libraries tell of their own deprecated parts while a model is built and run: no user can help it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def needs(package: str, spec: str, extra: str) -> None:
    """Refuse a spec whose library is not installed."""
    if find_spec(package) is None:
        raise GraphError(f"{spec} needs {package}, which is not installed; pip install 'hwsim[{extra}]'")
