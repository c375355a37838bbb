"""ONNX operators that make, read or follow shapes, and arithmetic, which may be arithmetic on shapes.

A rule gets the node's attributes and its inputs, and gives its outputs. Whole numbers that make up shapes
arrive as Python lists and numbers (see `program`), and stay such where all inputs are.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import onnx
import torch
import torch.nn.functional as functional

Rule = Callable[..., Any]


class Attributes:
    """The attributes of a node by name, with a default."""

    def __init__(self, node: Any) -> None:
        self._values = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        self.outputs = len(node.output)

    def get(self, name: str, default: Any = None) -> Any:
        value = self._values.get(name, default)
        return value.decode() if isinstance(value, bytes) else value


def plain(*values: Any) -> bool:
    """Whether all values are Python lists or numbers."""
    return not any(isinstance(value, torch.Tensor) for value in values)


def tensor(value: Any) -> Any:
    """The value as a tensor, open sizes included."""
    if isinstance(value, torch.Tensor) or value is None:
        return value
    if isinstance(value, list):
        if all(isinstance(item, bool | int | float) for item in value):
            return torch.tensor(value)
        return torch.stack([tensor(item) for item in value])
    return torch.scalar_tensor(value, dtype=torch.float32 if isinstance(value, float) else torch.int64)


def listed(value: Any) -> list[Any]:
    """A number as a list of one."""
    return value if isinstance(value, list) else [value]


def dtype_of(code: int) -> torch.dtype:
    """The torch dtype of an ONNX type code."""
    found: torch.dtype = getattr(torch, str(onnx.helper.tensor_dtype_to_np_dtype(code)))
    return found


def each(function: Callable[..., Any]) -> Rule:
    """A torch function of tensors alone."""
    return lambda a, *values: function(*map(tensor, values))


def _arithmetic(on_numbers: Callable[..., Any], on_tensors: Callable[..., Any]) -> Rule:
    """Element by element, with broadcasting, on numbers while all are plain."""

    def rule(a: Attributes, *values: Any) -> Any:
        if not plain(*values):
            return reduce(on_tensors, map(tensor, values))
        if not any(isinstance(value, list) for value in values):
            return reduce(on_numbers, values)
        length = max(len(listed(value)) for value in values)
        spread = [v * length if len(v) == 1 else v for v in map(listed, values)]
        return [reduce(on_numbers, items) for items in zip(*spread, strict=True)]

    return rule


def _divided(one: Any, two: Any) -> Any:
    return one / two if isinstance(one, float) or isinstance(two, float) else one // two


def _quotient(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    return one / two if one.is_floating_point() else torch.div(one, two, rounding_mode="trunc")


def _one(on_number: Callable[[Any], Any], on_tensor: Callable[[Any], Any]) -> Rule:
    def rule(a: Attributes, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return on_tensor(value)
        return [on_number(item) for item in value] if isinstance(value, list) else on_number(value)

    return rule


# shapes


def _shape(a: Attributes, value: Any) -> list[Any]:
    sizes = list(value.shape) if isinstance(value, torch.Tensor) else [len(value)] * isinstance(value, list)
    return sizes[a.get("start", 0) : a.get("end")]


def _reshape(a: Attributes, value: Any, shape: Any) -> Any:
    if plain(value):
        return value if len(listed(shape)) else listed(value)[0]
    sizes = [
        value.shape[place] if isinstance(size, int) and size == 0 and not a.get("allowzero", 0) else size
        for place, size in enumerate(listed(shape))
    ]
    return value.reshape(sizes)


def axes_of(a: Attributes, given: Any) -> Any:
    """Axes as an input of newer operators, or an attribute of older ones."""
    return a.get("axes") if given is None else listed(given)


def _unsqueeze(a: Attributes, value: Any, axes: Any = None) -> Any:
    if plain(value):
        return value if isinstance(value, list) else [value]
    places = list(axes_of(a, axes))
    rank = value.dim() + len(places)
    return reduce(torch.unsqueeze, sorted(place % rank for place in places), value)


def _squeeze(a: Attributes, value: Any, axes: Any = None) -> Any:
    if plain(value):
        return value[0] if isinstance(value, list) and len(value) == 1 else value
    places = axes_of(a, axes)
    return value.squeeze() if places is None else value.squeeze(tuple(places))


def _concat(a: Attributes, *values: Any) -> Any:
    if plain(*values):
        return [item for value in values for item in listed(value)]
    return torch.cat([tensor(value) for value in values], a.get("axis"))


def _gather(a: Attributes, value: Any, indices: Any) -> Any:
    axis = a.get("axis", 0)
    if plain(value, indices):
        return [value[i] for i in indices] if isinstance(indices, list) else value[indices]
    if isinstance(indices, int):
        return tensor(value).select(axis, indices)
    table, index = tensor(value), tensor(indices)
    if axis == 0 and table.dim() == 2 and table.is_floating_point():
        return functional.embedding(index, table)
    flat = table.index_select(axis, index.reshape(-1))
    return flat.reshape(
        *table.shape[: axis % table.dim()], *index.shape, *table.shape[axis % table.dim() + 1 :]
    )


def _slice(
    a: Attributes, value: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None
) -> Any:
    starts, ends = (listed(x if x is not None else a.get(n)) for x, n in ((starts, "starts"), (ends, "ends")))
    axes = listed(axes) if axes is not None else a.get("axes") or list(range(len(starts)))
    steps = listed(steps) if steps is not None else [1] * len(starts)
    if plain(value):
        return value[starts[0] : ends[0] : steps[0]]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if isinstance(step, int) and step < 0:
            value = value.flip(axis)
            step = -step
        else:
            index: list[Any] = [slice(None)] * value.dim()
            last = None if isinstance(end, int) and end >= 2**31 - 1 else end
            index[axis] = slice(start, last, step)
            value = value[tuple(index)]
    return value


def _split(a: Attributes, value: Any, sizes: Any = None) -> tuple[Any, ...]:
    axis = a.get("axis", 0)
    sizes = listed(sizes) if sizes is not None else a.get("split")
    if plain(value):
        cut = sizes or [len(value) // a.outputs] * a.outputs
        ends = [sum(cut[: i + 1]) for i in range(len(cut))]
        return tuple(value[end - size : end] for end, size in zip(ends, cut, strict=True))
    if sizes is None:
        return tuple(value.chunk(a.get("num_outputs", a.outputs), axis))
    return tuple(value.split(list(sizes), axis))


def _transpose(a: Attributes, value: Any) -> Any:
    return value.permute(a.get("perm") or list(range(value.dim()))[::-1])


def _flatten(a: Attributes, value: Any) -> Any:
    axis = a.get("axis", 1)
    return value.reshape(math.prod(value.shape[:axis]), -1)


def _expand(a: Attributes, value: Any, shape: Any) -> Any:
    data, sizes = tensor(value), listed(shape)
    own = [1] * (len(sizes) - data.dim()) + list(data.shape)
    wanted = [
        mine if isinstance(size, int) and size == 1 else size for mine, size in zip(own, sizes, strict=True)
    ]
    return data.expand(wanted)


def _constant_of_shape(a: Attributes, shape: Any) -> Any:
    given = a.get("value")
    fill = onnx.numpy_helper.to_array(given).reshape(-1)[0].item() if given is not None else 0.0
    sizes = listed(shape)
    if isinstance(fill, int) and len(sizes) <= 1 and all(isinstance(s, int) and s <= 16 for s in sizes):
        return [fill] * sizes[0] if sizes else fill
    dtype = dtype_of(given.data_type) if given is not None else torch.float32
    return torch.full(tuple(sizes), fill, dtype=dtype)


def _constant(a: Attributes) -> Any:
    for name in ("value_int", "value_ints", "value_float", "value_floats"):
        if a.get(name) is not None:
            return a.get(name)
    array = onnx.numpy_helper.to_array(a.get("value"))
    if array.dtype.kind in "iub" and array.size <= 64 and array.ndim <= 1:
        return array.tolist()
    return torch.tensor(array.tolist(), dtype=dtype_of(a.get("value").data_type))


def _cast(a: Attributes, value: Any, *_: Any) -> Any:
    dtype = dtype_of(a.get("to"))
    if not plain(value):
        return value.to(dtype)
    if dtype.is_floating_point or dtype == torch.bool:
        return tensor(value).to(dtype) if isinstance(value, list) else _number(value, dtype)
    return value


def _number(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and dtype.is_floating_point:
        return float(value)
    return tensor(value).to(dtype)


def _where(a: Attributes, condition: Any, one: Any, two: Any) -> Any:
    if plain(condition, one, two):
        if not isinstance(condition, list):
            return one if condition else two
        length = len(condition)
        ones, twos = (v * length if len(v) == 1 else v for v in (listed(one), listed(two)))
        return [x if c else y for c, x, y in zip(condition, ones, twos, strict=True)]
    return torch.where(tensor(condition).bool(), tensor(one), tensor(two))


def _range(a: Attributes, start: Any, limit: Any, delta: Any) -> Any:
    return torch.arange(start, limit, delta)


def _gather_nd(a: Attributes, value: Any, indices: Any) -> Any:
    return value[tuple(tensor(indices).unbind(-1))]


def _equal(one: Any, two: Any) -> Any:
    return one == two


SHAPES: dict[str, Rule] = {
    "Add": _arithmetic(operator.add, operator.add),
    "Sub": _arithmetic(operator.sub, operator.sub),
    "Mul": _arithmetic(operator.mul, operator.mul),
    "Div": _arithmetic(_divided, _quotient),
    "Mod": _arithmetic(operator.mod, torch.remainder),
    "Pow": _arithmetic(operator.pow, torch.pow),
    "Min": _arithmetic(min, torch.minimum),
    "Max": _arithmetic(max, torch.maximum),
    "Sum": _arithmetic(operator.add, operator.add),
    "Equal": _arithmetic(_equal, torch.eq),
    "Less": _arithmetic(operator.lt, torch.lt),
    "LessOrEqual": _arithmetic(operator.le, torch.le),
    "Greater": _arithmetic(operator.gt, torch.gt),
    "GreaterOrEqual": _arithmetic(operator.ge, torch.ge),
    "Not": _one(operator.not_, torch.logical_not),
    "Neg": _one(operator.neg, torch.neg),
    "Abs": _one(abs, torch.abs),
    "Floor": _one(math.floor, torch.floor),
    "Ceil": _one(math.ceil, torch.ceil),
    "Sqrt": _one(math.sqrt, torch.sqrt),
    "Shape": _shape,
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Concat": _concat,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
    "Flatten": _flatten,
    "Expand": _expand,
    "ConstantOfShape": _constant_of_shape,
    "Constant": _constant,
    "Cast": _cast,
    "Where": _where,
    "Range": _range,
}
