"""Operators kept whole: attention and RMS norm are one node each, whatever torch would do inside.

They are caught in torch's dispatcher, by operator, for the duration of a trace: whoever calls them, under
whatever imported name or from inside torch, arrives there. The stack later decides which kernel runs
attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from graphs.errors import GraphError
from graphs.expressions import number, product
from graphs.tracing.recorder import Recorder
from graphs.tracing.torch_private import dispatched
from graphs.work import Canonical, Operand


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
        return _attention(recorder, query, key, value, attn_mask, dropout_p, is_causal)

    def rms_norm(
        input: torch.Tensor,
        normalized_shape: Any,
        weight: torch.Tensor | None = None,
        eps: float | None = None,
    ) -> torch.Tensor:
        return _rms_norm(recorder, input, len(list(normalized_shape)), weight)

    with dispatched("scaled_dot_product_attention", attention), dispatched("rms_norm", rms_norm):
        yield


def _attention(
    recorder: Recorder,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float,
    causal: bool,
) -> torch.Tensor:
    if query.dim() < 2 or query.dim() != key.dim():
        raise GraphError(
            f"attention over shapes {tuple(query.shape)} and {tuple(key.shape)} is not understood"
        )
    recording = not recorder.paused
    with recorder.not_recording():
        out = _attention_output(query, value)
    if not recording:
        return out
    kind = "causal" if causal else "none"
    operands = [recorder.operand(t) for t in (query, key, value)]
    if mask is not None:
        operands.append(recorder.operand(mask))
        kind = "causal" if recorder.masks.is_causal(operands[-1]) else "tensor"
    q, k, v = (o.shape for o in operands[:3])
    heads = q[-3] if len(q) > 2 else number(1)
    dims = (
        ("batch", product(q[:-3])),
        ("heads", heads),
        ("kv_heads", k[-3] if len(k) > 2 else number(1)),
        ("q_len", q[-2]),
        ("kv_len", k[-2]),
        ("head_dim", q[-1]),
        ("value_dim", v[-1]),
    )
    attributes = (("mask", kind),) + ((("dropout", "yes"),) if dropout > 0 else ())
    made = Canonical("attention", dims, attributes)
    recorder.add("attention", made, tuple(operands), (recorder.operand(out),))
    return out


def _attention_output(query: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """An output laid out as flash kernels leave it: heads beside channels, so merging heads is a view."""
    if query.dim() < 4:
        return query.new_empty((*query.shape[:-1], value.shape[-1]))
    *batch, heads, length, _ = query.shape
    return query.new_empty((*batch, length, heads, value.shape[-1])).transpose(-2, -3)


def _rms_norm(
    recorder: Recorder, data: torch.Tensor, width: int, weight: torch.Tensor | None
) -> torch.Tensor:
    recording = not recorder.paused
    with recorder.not_recording():
        out = torch.empty_like(data, memory_format=torch.contiguous_format)
    if not recording:
        return out
    operands: list[Operand] = [recorder.operand(t) for t in (data, weight) if t is not None]
    shape = operands[0].shape
    dims = (("rows", product(shape[: len(shape) - width])), ("cols", product(shape[len(shape) - width :])))
    recorder.add("rms_norm", Canonical("rms_norm", dims), tuple(operands), (recorder.operand(out),))
    return out
