"""Building blocks that the model families share, and the real tensors for a real run of an example.

Blocks never branch on a size and never name a device, so that they run the same with symbolic sizes.
Attention always goes through `F.scaled_dot_product_attention`, which the tracer records as one operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from graphs.errors import GraphError
from graphs.expressions import evaluate
from graphs.inputs import Example, Input, SymbolValue

KeyValue = tuple[Tensor, Tensor]


def _gelu_new(x: Tensor) -> Tensor:
    """The tanh form of GELU, spelled out as the released GPT-2 code does: eight ops where nothing fuses."""
    return 0.5 * x * (1.0 + torch.tanh((2.0 / math.pi) ** 0.5 * (x + 0.044715 * torch.pow(x, 3.0))))


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_new": _gelu_new,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "silu": F.silu,
}


def causal_mask(query_length: int, key_length: int, device: torch.device) -> Tensor:
    """True where a query may attend, the queries being the last positions; [query_length, key_length]."""
    mask = torch.ones(query_length, key_length, dtype=torch.bool, device=device)
    return mask.tril(key_length - query_length)


def step_mask(length: int, past: int, last_only: bool, device: torch.device) -> Tensor | None:
    """Mask of `length` new tokens after `past` cached ones; None for one token, which sees them all.

    A prefill says `last_only`, so that its length, symbolic when traced, is never tested.
    """
    if not last_only and length == 1:
        return None
    return causal_mask(length, past + length, device)


def append(past: KeyValue | None, new: KeyValue) -> KeyValue:
    """Keys and values with the new positions behind the cached ones."""
    if past is None:
        return new
    return torch.cat([past[0], new[0]], dim=2), torch.cat([past[1], new[1]], dim=2)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation with a gain (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Rotary(nn.Module):
    """Rotary position embedding (Su et al. 2021), halves rotated against each other.

    Angles are float32 whatever the model's dtype: bf16 cannot tell neighbouring positions apart beyond 256.
    """

    inverse_frequency: Tensor

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        exponent = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
        self.register_buffer("inverse_frequency", theta**-exponent, persistent=False)

    def forward(self, start: int, stop: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of positions [start, stop), [positions, head_dim], in the dtype of `like`."""
        positions = torch.arange(start, stop, device=like.device)
        half = positions[:, None] * self.inverse_frequency
        angles = torch.cat([half, half], dim=-1)
        return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Apply cosines and sines to [batch, heads, positions, head_dim]."""
    cosine, sine = rotary
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([-second, first], dim=-1) * sine


class Attention(nn.Module):
    """Multi-head or grouped-query attention, with one fused input projection or three.

    With `head_norm_eps` queries and keys pass an RMS norm per head.

    `bias` is that of queries, keys and values (`key_bias` where keys differ), `out_bias` that of the
    output. Without `scale` scores are divided by sqrt(head_dim).
    """

    def __init__(
        self,
        hidden: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = True,
        key_bias: bool | None = None,
        out_bias: bool | None = None,
        fused: bool = False,
        scale: float | None = None,
        dropout: float = 0.0,
        head_norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads = heads, kv_heads or heads
        self.head_dim = head_dim or hidden // heads
        self.scale, self.dropout, self.fused = scale, dropout, fused
        wide, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        if fused:
            self.query_key_value = nn.Linear(hidden, wide + 2 * narrow, bias=bias)
        else:
            self.query = nn.Linear(hidden, wide, bias=bias)
            self.key = nn.Linear(hidden, narrow, bias=bias if key_bias is None else key_bias)
            self.value = nn.Linear(hidden, narrow, bias=bias)
        self.out = nn.Linear(wide, hidden, bias=bias if out_bias is None else out_bias)
        self.query_norm, self.key_norm = (
            RMSNorm(self.head_dim, head_norm_eps) if head_norm_eps is not None else nn.Identity()
            for _ in range(2)
        )

    def _split(self, x: Tensor, heads: int) -> Tensor:
        split: Tensor = x.unflatten(-1, (heads, self.head_dim)).transpose(1, 2)
        return split

    def keys_values(self, memory: Tensor) -> KeyValue:
        """Keys and values of `memory`, each [batch, kv_heads, positions, head_dim]; only without `fused`."""
        return self._split(self.key(memory), self.kv_heads), self._split(self.value(memory), self.kv_heads)

    def _project(self, x: Tensor) -> tuple[Tensor, KeyValue]:
        if not self.fused:
            return self._split(self.query(x), self.heads), self.keys_values(x)
        sizes = [self.heads * self.head_dim] + [self.kv_heads * self.head_dim] * 2
        query, key, value = self.query_key_value(x).split(sizes, dim=-1)
        pair = self._split(key, self.kv_heads), self._split(value, self.kv_heads)
        return self._split(query, self.heads), pair

    def forward(
        self,
        x: Tensor,
        *,
        past: KeyValue | None = None,
        rotary: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> tuple[Tensor, KeyValue]:
        """Self-attention over the cached and the new positions; returns the output and the longer cache."""
        query, (key, value) = self._project(x)
        query, key = self.query_norm(query), self.key_norm(key)
        if rotary is not None:
            query, key = rotate(query, rotary), rotate(key, rotary)
        pair = append(past, (key, value))
        return self.out(self._attend(query, pair, mask, causal)), pair

    def cross(self, x: Tensor, memory: KeyValue, mask: Tensor | None = None) -> Tensor:
        """Attention of `x` to keys and values made before."""
        mixed = self._attend(self._split(self.query(x), self.heads), memory, mask, causal=False)
        out: Tensor = self.out(mixed)
        return out

    def _attend(self, query: Tensor, pair: KeyValue, mask: Tensor | None, causal: bool) -> Tensor:
        mixed = F.scaled_dot_product_attention(
            query,
            *pair,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
            scale=self.scale,
            enable_gqa=self.heads != self.kv_heads,
        )
        return mixed.transpose(1, 2).flatten(2)


class MLP(nn.Module):
    """Two linears with an activation between; back to `hidden` unless `out` is given."""

    def __init__(
        self,
        hidden: int,
        intermediate: int,
        activation: str,
        *,
        out: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.up = nn.Linear(hidden, intermediate, bias=bias)
        self.down = nn.Linear(intermediate, out or hidden, bias=bias)
        self.activation = ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(self.dropout(self.activation(self.up(x))))
        return out


class GatedMLP(nn.Module):
    """down(activation(gate(x)) * up(x)) (Shazeer 2020)."""

    def __init__(self, hidden: int, intermediate: int, activation: str) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden, intermediate, bias=False)
        self.up = nn.Linear(hidden, intermediate, bias=False)
        self.down = nn.Linear(intermediate, hidden, bias=False)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(self.activation(self.gate(x)) * self.up(x))
        return out


class PreNormBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), with LayerNorm and biases everywhere.

    `dropout` acts on both branches, `attention_dropout` on the attention weights.
    """

    def __init__(
        self,
        hidden: int,
        heads: int,
        intermediate: int,
        activation: str,
        *,
        eps: float = 1e-5,
        fused: bool = True,
        head_dim: int | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden, eps=eps)
        self.attention = Attention(hidden, heads, head_dim=head_dim, fused=fused, dropout=attention_dropout)
        self.mlp_norm = nn.LayerNorm(hidden, eps=eps)
        self.mlp = MLP(hidden, intermediate, activation)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, *, past: KeyValue | None = None, mask: Tensor | None = None, causal: bool = False
    ) -> tuple[Tensor, KeyValue]:
        """The new hidden states and this layer's keys and values."""
        mixed, pair = self.attention(self.attention_norm(x), past=past, mask=mask, causal=causal)
        x = x + self.dropout(mixed)
        return x + self.dropout(self.mlp(self.mlp_norm(x))), pair


@torch.library.custom_op("hwsim::grouped_linear", mutates_args=())
def grouped_linear(x: Tensor, weight: Tensor, expert_index: Tensor) -> Tensor:
    """x [groups, tokens, k] times weight[expert_index] [groups, n, k]^T; reads only the chosen experts."""
    experts = expert_index.tolist()
    return torch.stack([F.linear(group, weight[expert]) for group, expert in zip(x, experts, strict=True)])


@grouped_linear.register_fake
def _grouped_linear_shape(x: Tensor, weight: Tensor, expert_index: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], weight.shape[1])


def _keep_for_backward(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _grouped_linear_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    x, weight, expert_index = ctx.saved_tensors
    grad_x = grouped_linear(grad, weight.transpose(1, 2), expert_index)
    grad_active = torch.bmm(grad.transpose(1, 2), x)
    return grad_x, weight.new_zeros(weight.shape).index_add(0, expert_index, grad_active), None


grouped_linear.register_autograd(_grouped_linear_backward, setup_context=_keep_for_backward)


@register_flop_formula(torch.ops.hwsim.grouped_linear)
def _grouped_linear_flop(
    x_shape: tuple[int, ...], weight_shape: tuple[int, ...], index_shape: Any, out_shape: Any = None, **_: Any
) -> int:
    groups, tokens, width = x_shape
    return 2 * groups * tokens * weight_shape[1] * width


def materialise(
    example: Example,
    sizes: Mapping[str, int],
    dtype: torch.dtype,
    generator: torch.Generator | None = None,
    device: str | torch.device = "cpu",
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Real tensors for a real run at `sizes`; a `SymbolValue` without a size becomes None."""

    def leaf(value: Input | SymbolValue) -> Any:
        if isinstance(value, SymbolValue):
            return sizes.get(value.name)
        shape = [_whole(size, sizes) for size in value.shape]
        kind = dtype if value.dtype == "model" else getattr(torch, value.dtype)
        if value.values is not None:
            return torch.tensor(value.values, dtype=kind, device=device)
        if kind.is_floating_point:
            return torch.randn(shape, generator=generator, dtype=kind, device=device)
        high = 2 if value.high is None else value.high
        return torch.randint(value.low, high, shape, generator=generator, dtype=kind, device=device)

    return example.map(leaf)


def _whole(size: str | int, sizes: Mapping[str, int]) -> int:
    value = float(evaluate(size, sizes))
    if not value.is_integer() or value < 0:
        raise GraphError(f"size {size} is {value:g} here; a real run needs whole sizes from 0 up")
    return int(value)
