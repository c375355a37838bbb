"""Hierarchical image transformer with attention inside shifted windows: Swin.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", arXiv:2103.14030,
2021. Four stages halve the side and double the width. Every block attends inside windows of 7 x 7 tokens
with a learned bias per relative offset; every second block shifts the windows by half, by a cyclic roll,
and masks pairs that were no neighbours. The cost is linear in the number of pixels. Sides that do not
divide are padded, as in the released code. Which stages shift is decided by the side the model is built
for: at 224 the last stage is one window and does not shift; larger images, in multiples of 224, keep that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.image_layers import from_windows, into_windows
from graphs.inputs import Example, Input
from graphs.layers import MLP

FAMILY = "vision"
PHASES = ("forward",)
LOSS = "cross_entropy"
# fmt: off
CONFIGS = {
    "swin-t": {
        "side": 224, "width": 96, "depths": [2, 2, 6, 2], "heads": [3, 6, 12, 24], "window": 7, "patch": 4,
        "channels": 3, "mlp_ratio": 4, "classes": 1000, "norm_eps": 1e-5, "dtype": "float32",
    },
    "swin-s": {
        "side": 224, "width": 96, "depths": [2, 2, 18, 2], "heads": [3, 6, 12, 24], "window": 7, "patch": 4,
        "channels": 3, "mlp_ratio": 4, "classes": 1000, "norm_eps": 1e-5, "dtype": "float32",
    },
    "swin-b": {
        "side": 224, "width": 128, "depths": [2, 2, 18, 2], "heads": [4, 8, 16, 32], "window": 7,
        "patch": 4, "channels": 3, "mlp_ratio": 4, "classes": 1000, "norm_eps": 1e-5, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "images"},
    "image": {"default": 224, "min": 224, "max": None, "meaning": "pixels per side"},
}
GUARDS: dict[str, list[str]] = {}
BASELINES: dict[str, Any] = {}


def neighbours(height: int, width: int, window: int, shift: int, device: torch.device) -> Tensor:
    """[windows, tokens, tokens]: True where two tokens of a rolled window were neighbours before the roll."""

    def region(side: int) -> Tensor:
        place = torch.arange(side, device=device)
        return (place >= side - window).long() + (place >= side - shift).long()

    regions = 3 * region(height)[:, None] + region(width)
    labels = into_windows(regions[None, :, :, None], window)[0, :, :, 0]
    return labels[:, :, None] == labels[:, None, :]


class WindowAttention(nn.Module):
    """Attention inside windows with a bias table over relative offsets."""

    offset: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        place = torch.arange(window)
        row, column = place.repeat_interleave(window), place.repeat(window)
        apart = [axis[:, None] - axis[None, :] + window - 1 for axis in (row, column)]
        self.register_buffer("offset", apart[0] * (2 * window - 1) + apart[1], persistent=False)

    def forward(self, x: Tensor, allowed: Tensor | None) -> Tensor:
        """Windows [batch, windows, tokens, width]; `allowed` is [windows, tokens, tokens]."""
        tokens = self.offset.shape[0]
        bias = self.bias[self.offset.flatten()].unflatten(0, (tokens, tokens)).permute(2, 0, 1)
        if allowed is not None:
            bias = bias.masked_fill(~allowed[:, None], float("-inf"))
        query_key_value = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        query, key, value = query_key_value.unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out: Tensor = self.out(mixed.transpose(2, 3).flatten(3))
        return out


class Block(nn.Module):
    """Window attention and MLP on [batch, height, width, channels], each pre-normed inside a residual."""

    def __init__(self, c: Mapping[str, Any], width: int, heads: int, shifted: bool) -> None:
        super().__init__()
        self.window, self.shifted = c["window"], shifted
        self.attention_norm = nn.LayerNorm(width, eps=c["norm_eps"])
        self.attention = WindowAttention(width, heads, c["window"])
        self.mlp_norm = nn.LayerNorm(width, eps=c["norm_eps"])
        self.mlp = MLP(width, c["mlp_ratio"] * width, "gelu")

    def forward(self, x: Tensor, shift: int, allowed: Tensor | None) -> Tensor:
        x = x + self._attend(self.attention_norm(x), shift if self.shifted else 0, allowed)
        x = x + self.mlp(self.mlp_norm(x))
        return x

    def _attend(self, x: Tensor, shift: int, allowed: Tensor | None) -> Tensor:
        height, width = x.shape[1], x.shape[2]
        below, right = -height % self.window, -width % self.window
        if below or right:
            x = F.pad(x, (0, 0, 0, right, 0, below))
        if shift:
            x = torch.roll(x, (-shift, -shift), dims=(1, 2))
        rows, columns = x.shape[1] // self.window, x.shape[2] // self.window
        x = self.attention(into_windows(x, self.window), allowed if shift else None)
        x = from_windows(x, self.window, rows, columns)
        if shift:
            x = torch.roll(x, (shift, shift), dims=(1, 2))
        return x[:, :height, :width] if below or right else x


class Merge(nn.Module):
    """Four neighbouring tokens become one of twice the width."""

    def __init__(self, c: Mapping[str, Any], width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width, eps=c["norm_eps"])
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        below, right = x.shape[1] % 2, x.shape[2] % 2
        if below or right:
            x = F.pad(x, (0, 0, 0, right, 0, below))
        quarters = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        out: Tensor = self.reduction(self.norm(torch.cat(quarters, dim=-1)))
        return out


class Stage(nn.Module):
    """Blocks at one resolution; the mask of the shifted ones is made once."""

    def __init__(self, c: Mapping[str, Any], width: int, heads: int, depth: int, side: int) -> None:
        super().__init__()
        self.window = c["window"]
        self.shift = 0 if side <= c["window"] else c["window"] // 2
        self.blocks = nn.ModuleList(Block(c, width, heads, shifted=i % 2 == 1) for i in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        height, width = (side + -side % self.window for side in x.shape[1:3])
        allowed = neighbours(height, width, self.window, self.shift, x.device) if self.shift else None
        for block in self.blocks:
            x = block(x, self.shift, allowed)
        return x


class Swin(nn.Module):
    """Images [batch, channels, side, side] to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.patches = nn.Conv2d(c["channels"], c["width"], c["patch"], stride=c["patch"])
        self.patch_norm = nn.LayerNorm(c["width"], eps=c["norm_eps"])
        layers: list[nn.Module] = []
        width = c["width"]
        for index, (depth, heads) in enumerate(zip(c["depths"], c["heads"], strict=True)):
            if index > 0:
                layers.append(Merge(c, width))
                width *= 2
            layers.append(Stage(c, width, heads, depth, c["side"] // c["patch"] // 2**index))
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(width, eps=c["norm_eps"])
        self.head = nn.Linear(width, c["classes"])

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_norm(self.patches(pixels).permute(0, 2, 3, 1))
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(self.norm(x).mean(dim=(1, 2)))
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return Swin(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((Input(("batch", config["channels"], "image", "image"), "model"),))
