"""Convolutional network in the style of transformers, a backbone of hybrids: ConvNeXt.

Liu et al., "A ConvNet for the 2020s", arXiv:2201.03545, 2022: depthwise 7x7, LayerNorm, MLP and a learned
gain in every block, LayerNorm and a strided 2x2 convolution between stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from graphs.image_layers import ChannelNorm, Scale, depthwise
from graphs.inputs import Example, Input
from graphs.layers import MLP

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "convnext-t": {
        "depths": [3, 3, 9, 3], "dims": [96, 192, 384, 768], "side": 224, "channels": 3, "classes": 1000,
        "dtype": "float32",
    },
    "convnext-s": {
        "depths": [3, 3, 27, 3], "dims": [96, 192, 384, 768], "side": 224, "channels": 3, "classes": 1000,
        "dtype": "float32",
    },
    "convnext-b": {
        "depths": [3, 3, 27, 3], "dims": [128, 256, 512, 1024], "side": 224, "channels": 3,
        "classes": 1000, "dtype": "float32",
    },
    "convnext-l": {
        "depths": [3, 3, 27, 3], "dims": [192, 384, 768, 1536], "side": 224, "channels": 3,
        "classes": 1000, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "images"}}
GUARDS: dict[str, list[str]] = {}
BASELINES: dict[str, Any] = {}


class Block(nn.Module):
    """Depthwise 7x7, norm, MLP and gain inside a residual, on maps [batch, width, height, side]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.local, self.norm = depthwise(width, 7), nn.LayerNorm(width, eps=1e-6)
        self.mlp, self.gain = MLP(width, 4 * width, "gelu"), Scale(width, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.gain(self.mlp(self.norm(self.local(x).permute(0, 2, 3, 1))))
        out: Tensor = x + y.permute(0, 3, 1, 2)
        return out


class PatchConv(nn.Conv2d):
    """A convolution of whole patches; sides that do not divide are padded at their end."""

    def __init__(self, before: int, width: int, patch: int) -> None:
        super().__init__(before, width, patch, stride=patch)
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        below, right = -x.shape[2] % self.patch, -x.shape[3] % self.patch
        if below or right:
            x = F.pad(x, (0, right, 0, below))
        return super().forward(x)


class Backbone(nn.Module):
    """Images to the maps of the stages, at strides 4, 8, 16 and 32."""

    def __init__(self, channels: int, dims: list[int], depths: list[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    [PatchConv(channels, width, 4), ChannelNorm(width, eps=1e-6)]
                    if index == 0
                    else [
                        ChannelNorm(dims[index - 1], eps=1e-6),
                        PatchConv(dims[index - 1], width, 2),
                    ]
                ),
                *(Block(width) for _ in range(depths[index])),
            )
            for index, width in enumerate(dims)
        )

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x, found = pixels, []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class ConvNeXt(nn.Module):
    """Images [batch, channels, side, side] to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.backbone = Backbone(c["channels"], c["dims"], c["depths"])
        self.norm = nn.LayerNorm(c["dims"][-1], eps=1e-6)
        self.head = nn.Linear(c["dims"][-1], c["classes"])

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.backbone(pixels)[-1].mean(dim=(2, 3))))
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return ConvNeXt(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((Input(("batch", config["channels"], config["side"], config["side"]), "model"),))
