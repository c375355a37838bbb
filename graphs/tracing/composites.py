"""Operators kept whole: attention, RMS norm, dropout and interpolation are one node each, whatever torch
would do inside.

They are caught in torch's dispatcher, by operator, for the duration of a trace: whoever calls them, under
whatever imported name or from inside torch, arrives there. The stack later decides which kernel runs
attention. Where a gradient is wanted, each is an autograd function whose backward is one node, too:
attention keeps its output and one statistic per query (the log of the sum of its exponentials), a norm one
per row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch

from graphs.errors import GraphError
from graphs.expressions import Expr, number, product
from graphs.tracing.loops import replacements
from graphs.tracing.recorder import Recorder
from graphs.tracing.torch_private import dispatched, upsample_compute_output_size
from graphs.work import Canonical, Operand
from graphs.work.resampling import INTERPOLATIONS, interpolation

Tensors = tuple[torch.Tensor | None, ...]


@contextmanager
def composites(recorder: Recorder) -> Iterator[None]:
    """While the block runs, composite operators are recorded as one node."""

    def attention(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        if query.dim() < 2 or query.dim() != key.dim():
            raise GraphError(
                f"attention over shapes {tuple(query.shape)} and {tuple(key.shape)} is not understood"
            )
        out: torch.Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
            recorder,
            dropout_p > 0,
            is_causal,
            _wanted(query, key, value, attn_mask),
            query,
            key,
            value,
            attn_mask,
        )
        return out

    def rms_norm(
        input: torch.Tensor,
        normalized_shape: Any,
        weight: torch.Tensor | None = None,
        eps: float | None = None,
    ) -> torch.Tensor:
        width = len(list(normalized_shape))
        out: torch.Tensor = _RMSNorm.apply(recorder, width, _wanted(input, weight), input, weight)  # type: ignore[no-untyped-call]
        return out

    def dropout(input: torch.Tensor, p: float, train: bool) -> torch.Tensor:
        """One kernel with a mask of bytes, as on accelerators; on the CPU torch multiplies by noise."""
        return torch.native_dropout(input, p, True)[0] if train and p > 0 else input

    with ExitStack() as stack:
        stack.enter_context(dispatched("scaled_dot_product_attention", attention))
        stack.enter_context(dispatched("rms_norm", rms_norm))
        stack.enter_context(dispatched("dropout", dropout))
        for operator, whole in (*replacements(), *_interpolations(recorder)):
            stack.enter_context(dispatched(operator, whole))
        yield


def _interpolations(recorder: Recorder) -> Iterator[tuple[str, Callable[..., torch.Tensor]]]:
    """Torch's symbolic shapes would make index arithmetic and a gather per tap of them."""

    def whole(name: str, input: torch.Tensor, sizes: Sequence[Any]) -> torch.Tensor:
        out: torch.Tensor = _Interpolation.apply(recorder, name, sizes, input)  # type: ignore[no-untyped-call]
        return out

    def sized(name: str) -> Callable[..., torch.Tensor]:
        return lambda input, output_size, *_, **__: whole(name, input, output_size)

    def scaled(name: str) -> Callable[..., torch.Tensor]:
        def interpolate(input: torch.Tensor, output_size: Any, *settings: Any, **named: Any) -> torch.Tensor:
            factors = named.get("scale_factors", settings[-1] if settings else None)
            return whole(name, input, upsample_compute_output_size(input.size(), output_size, factors))

        return interpolate

    for name in INTERPOLATIONS:
        yield name, sized(name)
        yield f"{name}.vec", scaled(name)


def _wanted(*tensors: torch.Tensor | None) -> bool:
    """Whether a backward pass will come by here."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _record(
    recorder: Recorder, name: str, made: Canonical, read: Sequence[torch.Tensor | None], written: Tensors
) -> None:
    """One node over the tensors that are there; inside another composite nothing."""
    if recorder.paused:
        return
    operands, results = (
        tuple(recorder.operand(t) for t in tensors if t is not None) for tensors in (read, written)
    )
    if name == "attention":
        operands = _values_in_keys(recorder, operands)
    recorder.add(name, made, operands, results)


def _values_in_keys(recorder: Recorder, operands: tuple[Operand, ...]) -> tuple[Operand, ...]:
    """Values that are columns of the keys (latent attention) come along with them and are not read again."""
    query, key, value, *rest = operands
    whole = recorder.storages[key.storage].elements
    if key.storage != value.storage or key.spec.elements != whole or value.spec.elements == whole:
        return operands
    inside = replace(value, spec=replace(value.spec, elements=number(0)))
    return (query, key, inside, *rest)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        recorder: Recorder,
        drops: bool,
        causal: bool,
        wanted: bool,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        with recorder.not_recording():
            out = _attention_output(query, value)
            statistic = query.new_empty(query.shape[:-1], dtype=torch.float32) if wanted else None
        if recorder.paused and not wanted:
            return out
        kind = "causal" if causal else "none"
        if mask is not None:
            kind = "causal" if recorder.masks.is_causal(recorder.operand(mask)) else "tensor"
        attributes = (("mask", kind),) + ((("dropout", "yes"),) if drops else ())
        made = Canonical("attention", _attention_dims(recorder, query, key, value), attributes)
        _record(recorder, "attention", made, (query, key, value, mask), (out, statistic))
        if wanted:
            ctx.recorder, ctx.made = recorder, made
            ctx.save_for_backward(query, key, value, mask, out, statistic)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        """Gradients of those of query, key, value and mask that need one; the node names them."""
        query, key, value, mask, out, statistic = ctx.saved_tensors
        recorder, made = ctx.recorder, ctx.made
        needed = ctx.needs_input_grad[4:]
        with recorder.not_recording():
            given = tuple(
                torch.empty_like(tensor) if need else None
                for tensor, need in zip((query, key, value, mask), needed, strict=True)
            )
        names = " ".join(name for name, need in zip(("q", "k", "v", "mask"), needed, strict=True) if need)
        whole = Canonical("attention_backward", made.dims, (*made.attributes, ("gradients", names)))
        _record(recorder, "attention_backward", whole, (grad, query, key, value, out, statistic, mask), given)
        return None, None, None, None, *given


def _attention_dims(
    recorder: Recorder, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[tuple[str, Expr], ...]:
    q, k, v = (recorder.operand(t).shape for t in (query, key, value))
    return (
        ("batch", product(q[:-3])),
        ("heads", q[-3] if len(q) > 2 else number(1)),
        ("kv_heads", k[-3] if len(k) > 2 else number(1)),
        ("q_len", q[-2]),
        ("kv_len", k[-2]),
        ("head_dim", q[-1]),
        ("value_dim", v[-1]),
    )


def _attention_output(query: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """An output laid out as flash kernels leave it: heads beside channels, so merging heads is a view."""
    if query.dim() < 4:
        return query.new_empty((*query.shape[:-1], value.shape[-1]))
    *batch, heads, length, _ = query.shape
    return query.new_empty((*batch, length, heads, value.shape[-1])).transpose(-2, -3)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        recorder: Recorder,
        width: int,
        wanted: bool,
        data: torch.Tensor,
        weight: torch.Tensor | None,
    ) -> torch.Tensor:
        with recorder.not_recording():
            out = torch.empty_like(data, memory_format=torch.contiguous_format)
            rows = data.shape[: data.dim() - width]
            scale = data.new_empty(rows, dtype=torch.float32) if wanted else None
        shape = recorder.operand(data).shape
        split = len(shape) - width
        ctx.dims = (("rows", product(shape[:split])), ("cols", product(shape[split:])))
        _record(recorder, "rms_norm", Canonical("rms_norm", ctx.dims), (data, weight), (out, scale))
        if wanted:
            ctx.recorder = recorder
            ctx.save_for_backward(data, weight, scale)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        """Gradients of those of data and weight that need one."""
        data, weight, scale = ctx.saved_tensors
        with ctx.recorder.not_recording():
            given = tuple(
                torch.empty_like(tensor) if need else None
                for tensor, need in zip((data, weight), ctx.needs_input_grad[3:], strict=True)
            )
        made = Canonical("rms_norm_backward", ctx.dims)
        _record(ctx.recorder, "rms_norm_backward", made, (grad, data, weight, scale), given)
        return None, None, None, *given


class _Interpolation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, recorder: Recorder, name: str, sizes: Sequence[Any], input: torch.Tensor
    ) -> torch.Tensor:
        with recorder.not_recording():
            out = input.new_empty((*input.shape[:2], *sizes))
        ctx.recorder, ctx.name, ctx.shape = recorder, name, input.shape
        _record(recorder, f"aten.{name}", interpolation(INTERPOLATIONS[name]), (input,), (out,))
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        with ctx.recorder.not_recording():
            given = grad.new_empty(ctx.shape)
        made = interpolation(INTERPOLATIONS[ctx.name], backward=True)
        _record(ctx.recorder, f"aten.{ctx.name}_backward", made, (grad,), (given,))
        return None, None, None, given
