"""ONNX models: `program` runs the graph with torch's operators, so that it is traced like any other module.

Named dimensions stay open (`batch`, `seq` where their names say so). Weights are never read, only their
shapes; a file that points to weights outside its own folder is refused all the same.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphs.errors import GraphError
from graphs.sources.source import Source, needs

if TYPE_CHECKING:
    from graphs.tracing.symbolic import Subject


def find(spec: str) -> Source:
    """The model of the file."""
    path = Path(spec)
    if not path.is_file():
        raise GraphError(f"no file {spec!r}; give the path of an .onnx file")
    needs("onnx", spec, "onnx")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Source(name=spec, identity=("onnx", digest), subject=lambda phase: _subject(spec, path, phase))


def _subject(spec: str, path: Path, phase: str) -> Subject:
    if phase != "forward":
        raise GraphError(f"{spec} has no phase {phase!r}; it has forward")
    import torch

    from graphs.sources.onnx.inputs import example_of
    from graphs.sources.onnx.program import Program, supported
    from graphs.tracing.symbolic import Subject

    model = _loaded(path)
    supported(spec, model.graph)
    example, symbols = example_of(spec, model.graph)
    return Subject(
        name=spec,
        phase=phase,
        dtype=torch.float32,
        build=lambda: Program(model.graph),
        example=example,
        symbols=symbols,
    )


def _loaded(path: Path) -> Any:
    """The model without its external data, local functions written out."""
    import onnx
    import onnx.inliner
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise GraphError(f"{path} is no ONNX file: {error}; export it again") from error
    if not model.graph.node:
        raise GraphError(f"{path} holds no operators; export it again")
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                _check_place(path, entry.value)
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def _check_place(path: Path, location: str) -> None:
    folder = path.resolve().parent
    if not (folder / location).resolve().is_relative_to(folder):
        raise GraphError(
            f"{path} keeps weights at {location!r}, outside its folder; move them beside it and save it again"
        )
