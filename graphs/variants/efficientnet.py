"""Convolutional network of inverted bottlenecks with channel gates, a baseline: EfficientNet.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", arXiv:1905.11946,
2019; blocks of B0 scaled in width, depth and side (B5: 1.6, 2.2, 456). Widths are rounded to multiples of
eight, never down by more than a tenth; depths are rounded up. A gate has a quarter of the block's input
channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from graphs.image_layers import ConvNorm
from graphs.inputs import Example, Input

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "efficientnet-b0": {
        "width": 1.0, "depth": 1.0, "side": 224, "channels": 3, "classes": 1000, "dtype": "float32",
    },
    "efficientnet-b5": {
        "width": 1.6, "depth": 2.2, "side": 456, "channels": 3, "classes": 1000, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "images"}}
GUARDS: dict[str, list[str]] = {}
BASELINES: dict[str, Any] = {}
EPS = 1e-3
# expansion, kernel, stride, width and depth of the seven stages of B0
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
STEM, LAST = 32, 1280


def scaled(width: int, factor: float) -> int:
    """A width times the factor, as a multiple of eight that is at least nine tenths of it."""
    wanted = width * factor
    near = max(8, int(wanted + 4) // 8 * 8)
    return near if near >= 0.9 * wanted else near + 8


class Gate(nn.Module):
    """Channels multiplied by what a small network makes of their means."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, inner, 1), nn.SiLU(), nn.Conv2d(inner, width, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.layers(x.mean(dim=(2, 3), keepdim=True))
        return out


class Block(nn.Module):
    """1x1 up, depthwise, gate, 1x1 down, in a residual where shapes agree."""

    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = before * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers.append(ConvNorm(before, inner, 1, activation="silu", eps=EPS))
        layers += [
            ConvNorm(inner, inner, kernel, stride=stride, groups=inner, activation="silu", eps=EPS),
            Gate(inner, max(1, before // 4)),
            ConvNorm(inner, after, 1, eps=EPS),
        ]
        self.layers = nn.Sequential(*layers)
        self.same = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.same else out


class EfficientNet(nn.Module):
    """Images [batch, channels, side, side] to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width = scaled(STEM, c["width"])
        self.stem = ConvNorm(c["channels"], width, 3, stride=2, activation="silu", eps=EPS)
        blocks = []
        for expansion, kernel, stride, base, count in STAGES:
            after = scaled(base, c["width"])
            for at in range(math.ceil(count * c["depth"])):
                blocks.append(Block(width, after, expansion, kernel, 1 if at else stride))
                width = after
        self.blocks = nn.Sequential(*blocks)
        last = scaled(LAST, c["width"])
        self.last = ConvNorm(width, last, 1, activation="silu", eps=EPS)
        self.head = nn.Linear(last, c["classes"])

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.last(self.blocks(self.stem(pixels))).mean(dim=(2, 3)))
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return EfficientNet(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((Input(("batch", config["channels"], config["side"], config["side"]), "model"),))
