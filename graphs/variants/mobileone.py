"""Plain chain of depthwise and pointwise convolutions for phones, a baseline: MobileOne.

Vasu et al., "MobileOne: An Improved One millisecond Mobile Backbone", arXiv:2206.04040, 2022; depths and
widths from memory, unverified (they give the 4.8 M parameters and 0.83 G multiply-accumulates that are
known of S1). This is the form that is deployed: the branches of training and all norms are merged into the
convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from graphs.image_layers import depthwise
from graphs.inputs import Example, Input

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "mobileone-s1": {
        "stem": 64, "widths": [96, 192, 512, 1280], "depths": [2, 8, 10, 1], "side": 224, "channels": 3,
        "classes": 1000, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "images"}}
GUARDS: dict[str, list[str]] = {}
BASELINES: dict[str, Any] = {}


def block(before: int, after: int, stride: int) -> nn.Sequential:
    """A depthwise and a pointwise convolution, an activation behind each."""
    return nn.Sequential(
        depthwise(before, 3, stride=stride), nn.ReLU(), nn.Conv2d(before, after, 1), nn.ReLU()
    )


class MobileOne(nn.Module):
    """Images [batch, channels, side, side] to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width = c["stem"]
        layers: list[nn.Module] = [nn.Conv2d(c["channels"], width, 3, stride=2, padding=1), nn.ReLU()]
        for after, depth in zip(c["widths"], c["depths"], strict=True):
            for at in range(depth):
                layers.append(block(width, after, 1 if at else 2))
                width = after
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(width, c["classes"])

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(pixels).mean(dim=(2, 3)))
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return MobileOne(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((Input(("batch", config["channels"], config["side"], config["side"]), "model"),))
