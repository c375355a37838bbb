"""Diffusion transformer on image latents: DiT.

Peebles & Xie, "Scalable Diffusion Models with Transformers", arXiv:2212.09748, 2023. Latents of a frozen
autoencoder (side an eighth of the image's) become patch tokens with fixed sinusoidal positions; time step
and class make one condition vector, from which every block computes shift, scale and gate of its two
branches (adaLN-Zero); the last linear gives noise and variance per latent pixel. One forward is one
denoising step; classifier-free guidance doubles `batch`. The fixed positions count as parameters, as in the
released checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input
from graphs.layers import MLP, Attention

FAMILY = "diffusion"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "dit-s-2": {
        "hidden": 384, "layers": 12, "heads": 6, "side": 32, "patch": 2, "channels": 4, "classes": 1000,
        "steps": 1000, "time_width": 256, "norm_eps": 1e-6, "dtype": "float32",
    },
    "dit-b-2": {
        "hidden": 768, "layers": 12, "heads": 12, "side": 32, "patch": 2, "channels": 4, "classes": 1000,
        "steps": 1000, "time_width": 256, "norm_eps": 1e-6, "dtype": "float32",
    },
    "dit-l-2": {
        "hidden": 1024, "layers": 24, "heads": 16, "side": 32, "patch": 2, "channels": 4, "classes": 1000,
        "steps": 1000, "time_width": 256, "norm_eps": 1e-6, "dtype": "float32",
    },
    "dit-xl-2": {
        "hidden": 1152, "layers": 28, "heads": 16, "side": 32, "patch": 2, "channels": 4, "classes": 1000,
        "steps": 1000, "time_width": 256, "norm_eps": 1e-6, "dtype": "float32",
    },
    "dit-xl-2-512": {
        "hidden": 1152, "layers": 28, "heads": 16, "side": 64, "patch": 2, "channels": 4, "classes": 1000,
        "steps": 1000, "time_width": 256, "norm_eps": 1e-6, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "latents"}}
GUARDS: dict[str, list[str]] = {}
BASELINES: dict[str, Any] = {}


def sinusoids(place: Tensor, width: int) -> Tensor:
    """Cosines then sines of `place` over a geometric range of periods, float32 [places, width]."""
    step = math.log(10_000) / (width // 2)
    frequency = torch.exp(-step * torch.arange(width // 2, dtype=torch.float32, device=place.device))
    angle = place[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Shift and scale [batch, hidden] applied to every token."""
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class Condition(nn.Module):
    """Time step and class label to one vector [batch, hidden]; the extra class means none."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.time_width = c["time_width"]
        self.time = MLP(c["time_width"], c["hidden"], "silu", out=c["hidden"])
        self.label = nn.Embedding(c["classes"] + 1, c["hidden"])

    def forward(self, step: Tensor, label: Tensor) -> Tensor:
        wave = sinusoids(step, self.time_width).to(self.label.weight.dtype)
        out: Tensor = self.time(wave) + self.label(label)
        return out


class Block(nn.Module):
    """Attention and MLP, each shifted, scaled and gated by the condition."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden = c["hidden"]
        self.attention_norm = nn.LayerNorm(hidden, eps=c["norm_eps"], elementwise_affine=False)
        self.attention = Attention(hidden, c["heads"], fused=True)
        self.mlp_norm = nn.LayerNorm(hidden, eps=c["norm_eps"], elementwise_affine=False)
        self.mlp = MLP(hidden, 4 * hidden, "gelu_tanh")
        self.modulation = nn.Linear(hidden, 6 * hidden)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        parts = self.modulation(F.silu(condition)).chunk(6, dim=1)
        mixed, _ = self.attention(modulate(self.attention_norm(x), parts[0], parts[1]))
        x = x + parts[2].unsqueeze(1) * mixed
        x = x + parts[5].unsqueeze(1) * self.mlp(modulate(self.mlp_norm(x), parts[3], parts[4]))
        return x


class DiT(nn.Module):
    """Noisy latents, time steps and labels to noise and variance, [batch, 2*channels, side, side]."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden, self.patch, self.grid = c["hidden"], c["patch"], c["side"] // c["patch"]
        self.patches = nn.Conv2d(c["channels"], hidden, c["patch"], stride=c["patch"])
        place = torch.arange(self.grid)
        row, column = place.repeat_interleave(self.grid), place.repeat(self.grid)
        table = torch.cat([sinusoids(axis, hidden // 2) for axis in (column, row)], dim=1)
        self.positions = nn.Parameter(table.to(self.patches.weight.dtype), requires_grad=False)
        self.condition = Condition(c)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.norm = nn.LayerNorm(hidden, eps=c["norm_eps"], elementwise_affine=False)
        self.modulation = nn.Linear(hidden, 2 * hidden)
        self.head = nn.Linear(hidden, c["patch"] ** 2 * 2 * c["channels"])

    def forward(self, latents: Tensor, step: Tensor, label: Tensor) -> Tensor:
        x = self.patches(latents).flatten(2).transpose(1, 2) + self.positions
        condition = self.condition(step, label)
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.modulation(F.silu(condition)).chunk(2, dim=1)
        x = self.head(modulate(self.norm(x), shift, scale))
        x = x.unflatten(1, (self.grid, self.grid)).unflatten(-1, (self.patch, self.patch, -1))
        out: Tensor = x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        return out


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return DiT(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    latents = Input(("batch", config["channels"], config["side"], config["side"]), "model")
    step = Input(("batch",), "int64", high=config["steps"])
    return Example((latents, step, Input(("batch",), "int64", high=config["classes"])))
