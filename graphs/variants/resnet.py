"""Residual convolutional networks, the baseline and backbone of hybrids: ResNet.

He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385, 2016; the stride of a
bottleneck sits in its 3x3 convolution, as in torchvision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from graphs.image_layers import ConvNorm
from graphs.inputs import Example, Input

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "resnet-18": {
        "depths": [2, 2, 2, 2], "bottleneck": False, "side": 224, "channels": 3, "classes": 1000,
        "dtype": "float32",
    },
    "resnet-50": {
        "depths": [3, 4, 6, 3], "bottleneck": True, "side": 224, "channels": 3, "classes": 1000,
        "dtype": "float32",
    },
    "resnet-101": {
        "depths": [3, 4, 23, 3], "bottleneck": True, "side": 224, "channels": 3, "classes": 1000,
        "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "images"}}
GUARDS: dict[str, list[str]] = {}
BASELINES: dict[str, Any] = {}
EXPANSION = 4


class Block(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1, inside a residual that is projected where shapes differ."""

    def __init__(self, before: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        wide = width * EXPANSION if bottleneck else width
        if bottleneck:
            self.body = nn.Sequential(
                ConvNorm(before, width, 1, padding=0, activation="relu"),
                ConvNorm(width, width, 3, stride=stride, activation="relu"),
                ConvNorm(width, wide, 1, padding=0),
            )
        else:
            self.body = nn.Sequential(
                ConvNorm(before, width, 3, stride=stride, activation="relu"), ConvNorm(width, width, 3)
            )
        same = stride == 1 and before == wide
        self.skip = nn.Identity() if same else ConvNorm(before, wide, 1, stride=stride, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = (self.body(x) + self.skip(x)).relu()
        return out


class Backbone(nn.Module):
    """Images to the maps of the four stages, at strides 4, 8, 16 and 32."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvNorm(c["channels"], 64, 7, stride=2, activation="relu"), nn.MaxPool2d(3, stride=2, padding=1)
        )
        stages, before = [], 64
        for index, depth in enumerate(c["depths"]):
            width = 64 * 2**index
            blocks = []
            for at in range(depth):
                stride = 2 if index and at == 0 else 1
                blocks.append(Block(before, width, stride, bottleneck=c["bottleneck"]))
                before = width * EXPANSION if c["bottleneck"] else width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.width = before

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x, found = self.stem(pixels), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class ResNet(nn.Module):
    """Images [batch, channels, side, side] to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.backbone = Backbone(c)
        self.head = nn.Linear(self.backbone.width, c["classes"])

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(pixels)[-1].mean(dim=(2, 3)))
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return ResNet(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((Input(("batch", config["channels"], config["side"], config["side"]), "model"),))
