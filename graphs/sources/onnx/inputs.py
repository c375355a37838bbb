"""The inputs of an ONNX graph: shapes with its named dimensions open."""

from __future__ import annotations

import re
from typing import Any

import onnx

from graphs.errors import GraphError
from graphs.expressions import number
from graphs.inputs import Example, Input, Size
from graphs.ir import SizeSymbol

DEFAULTS = {"batch": 1, "seq": 128}


def example_of(spec: str, graph: Any) -> tuple[Example, dict[str, SizeSymbol]]:
    """One call of the graph, and a symbol for each dimension without a number."""
    weights = {tensor.name for tensor in graph.initializer}
    names: dict[str, str] = {}
    leaves = []
    for given in graph.input:
        if given.name in weights:
            continue
        kind = given.type.tensor_type
        if not kind.elem_type:
            raise GraphError(f"input {given.name!r} of {spec} is no tensor; export it with tensors alone")
        shape = tuple(_size(given.name, place, dim, names) for place, dim in enumerate(kind.shape.dim))
        leaves.append(Input(shape, str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))))
    found = dict.fromkeys(names.values())
    symbols = {
        name: SizeSymbol(
            name=name,
            default=number(DEFAULTS.get(name, 1)),
            minimum=number(1),
            meaning="a dimension the file leaves open",
        )
        for name in found
    }
    return Example(tuple(leaves)), symbols


def _size(given: str, place: int, dim: Any, names: dict[str, str]) -> Size:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    label = dim.dim_param or f"{given}_{place}"
    if label not in names:
        names[label] = _name(label if dim.dim_param else "", place, set(names.values())) or _plain(label)
    return names[label]


def _name(label: str, place: int, taken: set[str]) -> str | None:
    """`batch` and `seq` where a label or, without one, the place says so."""
    lower = label.lower()
    usual = None
    if "batch" in lower or lower == "n" or (not label and place == 0):
        usual = "batch"
    elif "seq" in lower and "past" not in lower:
        usual = "seq"
    return usual if usual not in taken else None


def _plain(label: str) -> str:
    word = re.sub(r"\W+", "_", label).strip("_") or "size"
    return word if not word[0].isdigit() else f"size_{word}"
