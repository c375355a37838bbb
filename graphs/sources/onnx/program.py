"""An ONNX graph as a torch module: nodes run in order with torch's operators.

Shape arithmetic (`Shape`, `Gather`, `Concat` of whole numbers) runs on Python numbers, where an open size
stays what it is; a tensor would lose it. Such values are `list`s and plain numbers here, all others tensors.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from graphs.errors import GraphError
from graphs.sources.onnx.operators import OPERATORS
from graphs.sources.onnx.shapes import Attributes

FEW = 64  # whole numbers that are shapes, axes or indices; longer ones are data


class Scope(nn.Module):
    """A place in the module tree that node names spell, so that operators are told apart by module."""

    def forward(self, run: Callable[[], Any]) -> Any:
        return run()


class Program(nn.Module):
    """The graph of a model; weights are parameters without values."""

    def __init__(self, graph: Any) -> None:
        super().__init__()
        self.graph = graph
        self.plain: dict[str, Any] = {}
        self.held: dict[str, str] = {}
        for tensor in graph.initializer:
            self._hold(tensor)
        self.places = [_scope(self, node.name) for node in graph.node]
        self.attributes = [Attributes(node) for node in graph.node]
        self.outputs = [one.name for one in graph.output]
        self.inputs = [one.name for one in graph.input if one.name not in self.held | self.plain.keys()]

    def _hold(self, tensor: Any) -> None:
        dtype = np_dtype(tensor)
        if dtype.kind in "iub" and _count(tensor) <= FEW and not tensor.external_data:
            self.plain[tensor.name] = onnx.numpy_helper.to_array(tensor).tolist()
            return
        name = "weight/" + tensor.name.replace(".", "/")
        self.held[tensor.name] = name
        empty = torch.empty(tuple(tensor.dims), dtype=getattr(torch, str(dtype)))
        if empty.is_floating_point():
            self.register_parameter(name, nn.Parameter(empty))
        else:
            self.register_buffer(name, empty)

    def forward(self, *given: torch.Tensor) -> Any:
        values: dict[str, Any] = {"": None, **self.plain, **dict(zip(self.inputs, given, strict=True))}
        values |= {name: getattr(self, held) for name, held in self.held.items()}
        for node, scope, attributes in zip(self.graph.node, self.places, self.attributes, strict=True):
            arguments = [values[name] for name in node.input]

            def run(node: Any = node, arguments: Any = arguments, attributes: Any = attributes) -> Any:
                return OPERATORS[node.op_type](attributes, *arguments)

            out = scope(run) if scope is not None else run()
            results = out if isinstance(out, tuple) else (out,)
            values.update(zip(node.output, results, strict=False))
        return tuple(values[name] for name in self.outputs)


def np_dtype(tensor: Any) -> np.dtype[Any]:
    """The numpy dtype of an initializer."""
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))


def supported(spec: str, graph: Any) -> None:
    """Refuse a graph with operators that are not known here."""
    unknown = sorted({node.op_type for node in graph.node} - OPERATORS.keys())
    if unknown:
        near = difflib.get_close_matches(unknown[0], OPERATORS, n=1)
        raise GraphError(
            f"{spec} uses {', '.join(unknown[:5])}, which cannot be traced"
            + (f" ({near[0]} can)" if near else "")
            + "; trace the torch module it came from instead"
        )


def _count(tensor: Any) -> int:
    return int(np.prod(tuple(tensor.dims) or (1,)))


def _scope(root: nn.Module, name: str) -> Scope | None:
    """The place of a node called `/encoder/layer.0/attention/MatMul`, made when it is new."""
    parts = [part for piece in name.split("/")[:-1] for part in piece.split(".") if part]
    here = root
    for part in parts:
        if part not in here._modules:
            here.add_module(part, Scope())
        here = here.get_submodule(part)
    return here if isinstance(here, Scope) else None
