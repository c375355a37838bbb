"""What the other ONNX operators are in torch: products, convolutions, norms, pooling, reductions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as functional

from graphs.sources.onnx.shapes import (
    SHAPES,
    Attributes,
    Rule,
    axes_of,
    each,
    listed,
    plain,
    tensor,
)

# contractions, convolutions, norms, pooling


def _gemm(a: Attributes, left: Any, right: Any, bias: Any = None) -> Any:
    one = left.t() if a.get("transA", 0) else left
    two = right.t() if a.get("transB", 0) else right
    return one @ two if bias is None else torch.addmm(tensor(bias), one, two)


def _pads(a: Attributes, value: Any, kernel: list[int]) -> Any:
    """The input padded as the node says, for operators that pad both sides alike."""
    places = len(kernel)
    begin_end = a.get("pads") or [0] * (2 * places)
    if a.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        steps = a.get("strides") or [1] * places
        lost = [
            max(0, (-(-n // s) - 1) * s + k - n)
            for n, s, k in zip(value.shape[2:], steps, kernel, strict=True)
        ]
        begin_end = [x // 2 for x in lost] + [x - x // 2 for x in lost]
    begin, end = begin_end[:places], begin_end[places:]
    if begin == end:
        return value, begin
    flat = [size for pair in reversed(list(zip(begin, end, strict=True))) for size in pair]
    return functional.pad(value, flat), [0] * places


def _conv(a: Attributes, value: Any, weight: Any, bias: Any = None) -> Any:
    kernel = list(weight.shape[2:])
    data, padding = _pads(a, value, kernel)
    ones = [1] * len(kernel)
    return torch.convolution(
        data, weight, tensor(bias), a.get("strides") or ones, padding, a.get("dilations") or ones,
        False, [0] * len(kernel), a.get("group", 1),
    )  # fmt: skip


def _conv_transpose(a: Attributes, value: Any, weight: Any, bias: Any = None) -> Any:
    kernel = list(weight.shape[2:])
    ones, zeros = [1] * len(kernel), [0] * len(kernel)
    padding = (a.get("pads") or zeros * 2)[: len(kernel)]
    return torch.convolution(
        value, weight, tensor(bias), a.get("strides") or ones, padding, a.get("dilations") or ones,
        True, a.get("output_padding") or zeros, a.get("group", 1),
    )  # fmt: skip


def _pool(kind: str) -> Rule:
    def rule(a: Attributes, value: Any) -> Any:
        kernel = a.get("kernel_shape")
        data, padding = _pads(a, value, kernel)
        function = getattr(functional, f"{kind}_pool{len(kernel)}d")
        extra = {"count_include_pad": bool(a.get("count_include_pad", 0))} if kind == "avg" else {}
        return function(
            data, kernel, a.get("strides") or 1, padding, ceil_mode=bool(a.get("ceil_mode", 0)), **extra
        )

    return rule


def _global_average(a: Attributes, value: Any) -> Any:
    return value.mean(tuple(range(2, value.dim())), keepdim=True)


def _layer_norm(a: Attributes, value: Any, scale: Any, bias: Any = None) -> Any:
    axis = a.get("axis", -1) % value.dim()
    return functional.layer_norm(value, value.shape[axis:], scale, bias, a.get("epsilon", 1e-5))


def _rms_norm(a: Attributes, value: Any, scale: Any) -> Any:
    axis = a.get("axis", -1) % value.dim()
    return functional.rms_norm(value, list(value.shape[axis:]), scale, a.get("epsilon", 1e-5))


def _batch_norm(a: Attributes, value: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:
    return functional.batch_norm(value, mean, variance, scale, bias, False, 0.1, a.get("epsilon", 1e-5))


def _instance_norm(a: Attributes, value: Any, scale: Any, bias: Any) -> Any:
    return functional.group_norm(value, value.shape[1], scale, bias, a.get("epsilon", 1e-5))


def _group_norm(a: Attributes, value: Any, scale: Any, bias: Any) -> Any:
    return functional.group_norm(value, a.get("num_groups"), scale, bias, a.get("epsilon", 1e-5))


def _attention(a: Attributes, query: Any, key: Any, value: Any, mask: Any = None, *_: Any) -> Any:
    """Attention of opset 23 without a cache; three-dimensional inputs hold their heads side by side."""
    heads, kv_heads = a.get("q_num_heads"), a.get("kv_num_heads")
    flat = query.dim() == 3
    if flat:
        query = query.unflatten(-1, (heads, -1)).transpose(1, 2)
        key, value = (x.unflatten(-1, (kv_heads, -1)).transpose(1, 2) for x in (key, value))
    out = functional.scaled_dot_product_attention(
        query, key, value, mask, is_causal=bool(a.get("is_causal", 0)), enable_gqa=True
    )
    return out.transpose(1, 2).flatten(-2) if flat else out


# reductions and the rest


def _reduced(function: Callable[..., Any]) -> Rule:
    def rule(a: Attributes, value: Any, axes: Any = None) -> Any:
        if plain(value):
            return reduce(operator.mul, listed(value), 1)
        places = axes_of(a, axes)
        if places is None or len(places) == 0:
            if a.get("noop_with_empty_axes", 0):
                return value
            places = list(range(value.dim()))
        return function(value, tuple(places), bool(a.get("keepdims", 1)))

    return rule


def _product(value: Any, places: tuple[int, ...], keep: bool) -> Any:
    return reduce(lambda v, d: v.prod(d, keepdim=True), places, value) if keep else value.prod(places[0])


def _arg(function: Callable[..., Any]) -> Rule:
    return lambda a, value: function(value, a.get("axis", 0), bool(a.get("keepdims", 1)))


def _top_k(a: Attributes, value: Any, count: Any) -> Any:
    return tuple(torch.topk(value, listed(count)[0], a.get("axis", -1), bool(a.get("largest", 1))))


def _clip(a: Attributes, value: Any, low: Any = None, high: Any = None) -> Any:
    low = a.get("min") if low is None else low
    high = a.get("max") if high is None else high
    if plain(value):
        return value
    if isinstance(low, torch.Tensor) or isinstance(high, torch.Tensor):
        return torch.clamp(value, tensor(low), tensor(high))
    return torch.clamp(value, low, high)


def _pad(a: Attributes, value: Any, pads: Any = None, fill: Any = None, axes: Any = None) -> Any:
    amounts = listed(pads if pads is not None else a.get("pads"))
    places = listed(axes) if axes is not None else list(range(value.dim()))
    half = len(amounts) // 2
    sides = {place % value.dim(): (amounts[i], amounts[half + i]) for i, place in enumerate(places)}
    flat = [size for place in reversed(range(value.dim())) for size in sides.get(place, (0, 0))]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    kind = mode[a.get("mode", "constant")]
    if kind == "constant":
        return functional.pad(value, flat)
    return functional.pad(value, flat[: 2 * (value.dim() - 2)], mode=kind)


def _resize(a: Attributes, value: Any, roi: Any = None, scales: Any = None, sizes: Any = None) -> Any:
    places = value.dim() - 2
    if sizes is not None:
        target = listed(sizes)[-places:]
    else:
        factors = scales if isinstance(scales, list) else scales.tolist()
        target = [int(n * f) for n, f in zip(value.shape[2:], factors[-places:], strict=True)]
    way = a.get("mode", "nearest")
    names = {
        "linear": ("linear", "bilinear", "trilinear")[places - 1],
        "cubic": "bicubic",
        "nearest": "nearest",
    }
    return functional.interpolate(value, target, mode=names[way])


def _scatter_nd(a: Attributes, value: Any, indices: Any, updates: Any) -> Any:
    index = tensor(indices)
    return tensor(value).index_put(
        tuple(index.unbind(-1)), tensor(updates), a.get("reduction", "none") == "add"
    )


def _scatter(a: Attributes, value: Any, indices: Any, updates: Any) -> Any:
    return value.scatter(a.get("axis", 0), tensor(indices), updates)


def _trilu(a: Attributes, value: Any, k: Any = None) -> Any:
    diagonal = 0 if k is None else int(listed(k)[0])
    return torch.triu(value, diagonal) if a.get("upper", 1) else torch.tril(value, diagonal)


def _depth_to_space(a: Attributes, value: Any) -> Any:
    return functional.pixel_shuffle(value, a.get("blocksize"))


def _space_to_depth(a: Attributes, value: Any) -> Any:
    return functional.pixel_unshuffle(value, a.get("blocksize"))


def _scaled(a: Attributes, value: Any, scale: Any, zero: Any = None, *_: Any) -> Any:
    """Dequantised to the dtype of the scale."""
    data = value.to(scale.dtype) if isinstance(scale, torch.Tensor) else value.float()
    return data * tensor(scale)


def _quantised(a: Attributes, value: Any, scale: Any, zero: Any = None, *_: Any) -> Any:
    return torch.round(value / tensor(scale)).to(torch.int8)


def _softmax(function: Callable[..., Any]) -> Rule:
    return lambda a, value: function(value, a.get("axis", -1))


OPERATORS: dict[str, Rule] = {
    **SHAPES,
    "And": each(torch.logical_and),
    "Or": each(torch.logical_or),
    "Xor": each(torch.logical_xor),
    "Identity": lambda a, value: value,
    "Dropout": lambda a, value, *_: value,
    "CastLike": lambda a, value, like: tensor(value).to(tensor(like).dtype),
    "Gelu": lambda a, value: functional.gelu(value, approximate=a.get("approximate", "none")),
    "LeakyRelu": lambda a, value: functional.leaky_relu(value, a.get("alpha", 0.01)),
    "Elu": lambda a, value: functional.elu(value, a.get("alpha", 1.0)),
    "HardSigmoid": lambda a, value: functional.hardsigmoid(value),
    "Einsum": lambda a, *values: torch.einsum(a.get("equation"), *values),
    "Tile": lambda a, value, repeats: tensor(value).repeat(listed(repeats)),
    "CumSum": lambda a, value, axis: torch.cumsum(value, listed(axis)[0]),
    "GatherElements": lambda a, value, index: torch.gather(value, a.get("axis", 0), tensor(index)),
    "Size": lambda a, value: value.numel() if isinstance(value, torch.Tensor) else len(listed(value)),
    "GlobalMaxPool": lambda a, value: value.amax(tuple(range(2, value.dim())), keepdim=True),
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMin": _reduced(torch.amin),
    "ReduceProd": _reduced(_product),
    "ReduceL2": _reduced(lambda value, places, keep: torch.linalg.vector_norm(value, 2, places, keep)),
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "Softmax": _softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
    "MaxPool": _pool("max"),
    "AveragePool": _pool("avg"),
    "GlobalAveragePool": _global_average,
    "MatMul": each(torch.matmul),
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "SimplifiedLayerNormalization": _rms_norm,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "Attention": _attention,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "TopK": _top_k,
    "Clip": _clip,
    "Pad": _pad,
    "Resize": _resize,
    "Upsample": _resize,
    "ScatterND": _scatter_nd,
    "ScatterElements": _scatter,
    "Trilu": _trilu,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "DequantizeLinear": _scaled,
    "QuantizeLinear": _quantised,
    "Relu": each(torch.relu),
    "Sigmoid": each(torch.sigmoid),
    "Tanh": each(torch.tanh),
    "Erf": each(torch.erf),
    "Exp": each(torch.exp),
    "Log": each(torch.log),
    "Reciprocal": each(torch.reciprocal),
    "Round": each(torch.round),
    "Sign": each(torch.sign),
    "Sin": each(torch.sin),
    "Cos": each(torch.cos),
    "IsNaN": each(torch.isnan),
    "Softplus": each(functional.softplus),
    "Mish": each(functional.mish),
    "Selu": each(functional.selu),
    "HardSwish": each(functional.hardswish),
    "PRelu": each(torch.prelu),
}
