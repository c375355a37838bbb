"""Layers and positions around a token mixer, the same whatever mixes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from graphs.layers import MLP


class MixerBlock(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x)); with `post_norm` each norm follows its sum."""

    def __init__(
        self,
        width: int,
        intermediate: int,
        mixer: nn.Module,
        *,
        activation: str = "gelu",
        dropout: float = 0.0,
        post_norm: bool = False,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.mixer_norm, self.mlp_norm = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.mixer, self.mlp = mixer, MLP(width, intermediate, activation, dropout=dropout)
        self.dropout, self.post_norm = nn.Dropout(dropout), post_norm

    def forward(self, x: Tensor) -> Tensor:
        if self.post_norm:
            x = self.mixer_norm(x + self.dropout(self.mixer(x)))
            normed: Tensor = self.mlp_norm(x + self.dropout(self.mlp(x)))
            return normed
        x = x + self.dropout(self.mixer(self.mixer_norm(x)))
        out: Tensor = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return out


def sinusoids(length: int, width: int) -> Tensor:
    """Sines and cosines of positions [length, width], in the default dtype."""
    step = math.log(10_000) / (width // 2)
    frequency = torch.exp(-step * torch.arange(width // 2, device="cpu", dtype=torch.float32))
    angle = torch.arange(length, device="cpu", dtype=torch.float32)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1).to(torch.get_default_dtype())
