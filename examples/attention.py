"""Two ways to mix tokens, as a user would write them: `hwsim compare examples/attention.py:softmax ...`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

INPUTS = {"x": ("batch", "seq", 1024)}


class Attention(nn.Module):
    """Projections around `mix`, which takes and gives [batch, head, token, channel]."""

    def __init__(self, mix: Callable[..., Tensor], width: int = 1024, heads: int = 16) -> None:
        super().__init__()
        self.mix, self.heads = mix, heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(self.mix(q, k, v).transpose(1, 2).flatten(2))


def softmax_mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v)


def kernel_mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Linear attention with the feature map elu(x) + 1 (Katharopoulos et al., arXiv:2006.16236, eq. 5-7)."""
    q, k = functional.elu(q) + 1, functional.elu(k) + 1
    sums = (q @ k.sum(-2).unsqueeze(-1)).clamp(min=1e-6)
    return q @ (k.transpose(-2, -1) @ v) / sums


def softmax() -> tuple[nn.Module, dict[str, tuple[str | int, ...]]]:
    return Attention(softmax_mix).to(torch.bfloat16), INPUTS


def linear() -> tuple[nn.Module, dict[str, tuple[str | int, ...]]]:
    return Attention(kernel_mix).to(torch.bfloat16), INPUTS
