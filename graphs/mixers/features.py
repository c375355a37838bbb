"""Attention through feature maps: keys and values become a state whose size knows nothing of the length."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.mixers.blocks import blocked, unblocked

_TINY = 1e-6


def linear_mix(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """phi(q) (phi(k)^T v) / (phi(q) . sum phi(k)) of operands already mapped."""
    query, key, value = (x.contiguous() for x in (query, key, value))
    state = key.transpose(-1, -2) @ value
    norm = query @ key.sum(-2).unsqueeze(-1)
    return query @ state / (norm + _TINY)


def causal_mix(query: Tensor, key: Tensor, value: Tensor, chunk: int) -> Tensor:
    """The same over the tokens before each query: masked products inside chunks, a prefix sum of states."""
    tokens = query.shape[-2]
    value = torch.cat([value, torch.ones_like(value[..., :1])], dim=-1)  # the last column sums to the norm
    query, key, value = (blocked(x, chunk) for x in (query, key, value))
    states = key.transpose(-1, -2) @ value
    earlier = states.cumsum(2) - states
    inner = (query @ key.transpose(-1, -2)).tril()
    mixed = inner @ value + query @ earlier
    mixed = unblocked(mixed, tokens)
    return mixed[..., :-1] / (mixed[..., -1:] + _TINY)


class LinearAttention(nn.Module):
    """Feature map elu(x) + 1 (Katharopoulos et al. 2020)."""

    def __init__(self, *, chunk: int = 0) -> None:
        super().__init__()
        self.chunk = chunk

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key = F.elu(query) + 1, F.elu(key) + 1
        if self.chunk:
            return causal_mix(query, key, value, self.chunk)
        return linear_mix(query, key, value)


class Performer(nn.Module):
    """Random features (Choromanski et al. 2021): a fixed projection, then ReLU or the positive softmax map.

    With `chunk` each query sees the tokens before it.
    """

    projection: Tensor

    def __init__(self, head_dim: int, features: int, kernel: str, *, chunk: int = 0) -> None:
        super().__init__()
        self.kernel, self.chunk = kernel, chunk
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(features, head_dim, generator=generator, device="cpu", dtype=torch.float32)
        self.register_buffer("projection", drawn.to(torch.get_default_dtype()))

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key = self._mapped(query), self._mapped(key)
        if self.chunk:
            return causal_mix(query, key, value, self.chunk)
        return linear_mix(query, key, value)

    def _mapped(self, x: Tensor) -> Tensor:
        x = x.contiguous() * x.shape[-1] ** -0.25
        product = x @ self.projection.transpose(0, 1)
        if self.kernel == "relu":
            return F.relu(product) + 1e-3
        half = 0.5 * x.square().sum(-1, keepdim=True)
        return torch.exp(product - half - product.amax(dim=(-1, -2), keepdim=True)) + 1e-3


class FlowAttention(nn.Module):
    """Flow-Attention (Wu et al. 2022): sigmoid features, with sources competing and sinks allocating.

    The arrangement of the flows is from memory, unverified; its cost is that of linear attention and of a few
    normalised sums.
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = query.contiguous().sigmoid(), key.contiguous().sigmoid(), value.contiguous()
        incoming = _flow(query, key.sum(-2, keepdim=True))
        outgoing = _flow(key, query.sum(-2, keepdim=True))
        conserved_in = _flow(query, (key / outgoing).sum(-2, keepdim=True))
        conserved_out = _flow(key, (query / incoming).sum(-2, keepdim=True))
        competing = conserved_out.softmax(-2) * key.shape[-2]
        state = key.transpose(-1, -2) @ (value * competing)
        return (query / incoming) @ state * conserved_in.sigmoid()


def _flow(one: Tensor, total: Tensor) -> Tensor:
    return (one * total).sum(-1, keepdim=True) + _TINY
