"""Codes of -1, 0 and 1: products with them are sums of the values they pick; neurons and signs make them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula


@torch.library.custom_op("hwsim::accumulate", mutates_args=())
def accumulate(codes: Tensor, values: Tensor, percent: int) -> Tensor:
    """codes [..., m, k] times values [..., k, n] or [k, n]; `percent` of the codes are not zero.

    Ordinary devices run it as the product it is; what it saves is energy where additions are cheaper.
    """
    return codes @ values


@accumulate.register_fake
def _shape(codes: Tensor, values: Tensor, percent: int) -> Tensor:
    return codes.new_empty((*codes.shape[:-1], values.shape[-1]))


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    codes, values = ctx.saved_tensors
    to_values = codes.transpose(-1, -2) @ grad
    return grad @ values.transpose(-1, -2), to_values.sum_to_size(values.shape), None


accumulate.register_autograd(_backward, setup_context=_keep)


@register_flop_formula(torch.ops.hwsim.accumulate)
def _flop(codes_shape: tuple[int, ...], values_shape: tuple[int, ...], *_: Any, **__: Any) -> int:
    rows = 1
    for size in codes_shape:
        rows *= size
    return 2 * rows * values_shape[-1]


@torch.library.custom_op("hwsim::leaky", mutates_args=())
def leaky(x: Tensor) -> Tensor:
    """Spikes of leaky neurons along the last axis: half the potential leaks, one above 1 fires and resets."""
    potential = torch.zeros_like(x[..., 0])
    fired = []
    for step in range(x.shape[-1]):
        potential = torch.lerp(potential, x[..., step], 0.5)
        spike = (potential > 1).to(x.dtype)
        potential = potential * (1 - spike)
        fired.append(spike)
    return torch.stack(fired, dim=-1)


@leaky.register_fake
def _same(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.custom_op("hwsim::leaky_backward", mutates_args=())
def _leaky_backward(grad: Tensor) -> Tensor:
    """The gradient as if every spike were its potential and none were reset: half of it a step back."""
    carried = torch.zeros_like(grad[..., 0])
    found = []
    for step in reversed(range(grad.shape[-1])):
        carried = 0.5 * (carried + grad[..., step])
        found.append(carried)
    return torch.stack(found[::-1], dim=-1)


@_leaky_backward.register_fake
def _same_again(grad: Tensor) -> Tensor:
    return torch.empty_like(grad, memory_format=torch.contiguous_format)


def _through_time(ctx: Any, grad: Tensor) -> Tensor:
    back: Tensor = _leaky_backward(grad)
    return back


leaky.register_autograd(_through_time)


class _Sign(torch.autograd.Function):
    """Steps whose gradient passes straight through where the input is near them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sign()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        through: Tensor = grads[0] * (x.abs() <= 1)
        return through


def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1, with a straight-through gradient."""
    made: Tensor = _Sign.apply(x)  # type: ignore[no-untyped-call]
    return made
