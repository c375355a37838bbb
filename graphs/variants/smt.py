"""Image backbone that modulates by multi-scale depthwise convolutions early and attends late: SMT.

Lin et al., "Scale-Aware Modulation Meet Transformer", 2023; sizes as in the released code (AFeng-x/SMT). Four
stages. The mixer of stages 1 and 2 is scale-aware modulation: four channel groups pass depthwise convolutions
of 3, 5, 7 and 9, are interleaved, mixed by a grouped and a full 1x1 convolution, and multiply a projection of
the input. Stage 3 alternates it with attention over all tokens, stage 4 only attends; values also pass a
depthwise 3x3 convolution beside the attention, and every MLP holds one. Large configurations scale each
residual branch by a learned vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.image_layers import Scale, attend, depthwise, to_map, to_tokens
from graphs.inputs import Example, Input

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "smt-t": {
        "dims": [64, 128, 256, 512], "depths": [2, 2, 8, 1], "mlp_ratios": [4, 4, 4, 2], "head_conv": 3,
        "heads": [0, 0, 8, 16], "side": 224, "channels": 3, "classes": 1000, "layer_scale": False,
        "norm_eps": 1e-6, "dtype": "float32",
    },
    "smt-s": {
        "dims": [64, 128, 256, 512], "depths": [3, 4, 18, 2], "mlp_ratios": [4, 4, 4, 2], "head_conv": 3,
        "heads": [0, 0, 8, 16], "side": 224, "channels": 3, "classes": 1000, "layer_scale": False,
        "norm_eps": 1e-6, "dtype": "float32",
    },
    "smt-b": {
        "dims": [64, 128, 256, 512], "depths": [4, 6, 28, 2], "mlp_ratios": [8, 6, 4, 2], "head_conv": 7,
        "heads": [0, 0, 8, 16], "side": 224, "channels": 3, "classes": 1000, "layer_scale": False,
        "norm_eps": 1e-6, "dtype": "float32",
    },
    "smt-l": {
        "dims": [96, 192, 384, 768], "depths": [4, 6, 28, 4], "mlp_ratios": [8, 6, 4, 2], "head_conv": 7,
        "heads": [0, 0, 8, 16], "side": 224, "channels": 3, "classes": 1000, "layer_scale": True,
        "norm_eps": 1e-6, "dtype": "float32",
    },
    "smt-l-384": {
        "dims": [96, 192, 384, 768], "depths": [4, 6, 28, 4], "mlp_ratios": [8, 6, 4, 2], "head_conv": 7,
        "heads": [0, 0, 8, 16], "side": 384, "channels": 3, "classes": 1000, "layer_scale": True,
        "norm_eps": 1e-6, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "images"}}
GUARDS: dict[str, list[str]] = {}
BASELINES = {"smt-t": ["swin-t"], "smt-s": ["swin-s"], "smt-b": ["swin-b"]}
KERNELS = (3, 5, 7, 9)


class Modulation(nn.Module):
    """Multi-scale context of the tokens, multiplied into a projection of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        quarter = width // len(KERNELS)
        self.value, self.context = nn.Linear(width, width), nn.Linear(width, width)
        self.scales = nn.ModuleList(depthwise(quarter, kernel) for kernel in KERNELS)
        self.mix_groups = nn.Conv2d(width, 2 * width, 1, groups=quarter)
        self.norm = nn.BatchNorm2d(2 * width)
        self.mix = nn.Conv2d(2 * width, width, 1)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        groups = to_map(self.context(x), height, width).chunk(len(KERNELS), dim=1)
        scaled = [scale(group) for scale, group in zip(self.scales, groups, strict=True)]
        # one channel of each scale beside the others, so that a group of the next convolution holds all four
        context = torch.stack(scaled, dim=2).flatten(1, 2)
        context = self.mix(F.gelu(self.norm(self.mix_groups(context))))
        out: Tensor = self.out(to_tokens(context) * self.value(x))
        return out


class LocalAttention(nn.Module):
    """Attention over all tokens plus a depthwise convolution of the values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.local = depthwise(width, 3)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        key, value = self.key_value(x).chunk(2, dim=-1)
        mixed = attend(self.query(x), key, value, self.heads)
        out: Tensor = self.out(mixed + to_tokens(self.local(to_map(value, height, width))))
        return out


class ConvMLP(nn.Module):
    """Linear, GELU of the sum with its depthwise convolution, linear."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)
        self.local = depthwise(ratio * width, 3)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        x = self.up(x)
        x = F.gelu(x + to_tokens(self.local(to_map(x, height, width))))
        out: Tensor = self.down(x)
        return out


class Block(nn.Module):
    """Mixer and MLP, each pre-normed inside a residual."""

    def __init__(self, c: Mapping[str, Any], width: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.mixer_norm = nn.LayerNorm(width, eps=c["norm_eps"])
        self.mixer = LocalAttention(width, heads) if heads else Modulation(width)
        self.mlp_norm = nn.LayerNorm(width, eps=c["norm_eps"])
        self.mlp = ConvMLP(width, ratio)
        self.mixer_scale, self.mlp_scale = (
            Scale(width, 1e-4) if c["layer_scale"] else nn.Identity() for _ in range(2)
        )

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        x = x + self.mixer_scale(self.mixer(self.mixer_norm(x), height, width))
        x = x + self.mlp_scale(self.mlp(self.mlp_norm(x), height, width))
        return x


class Stage(nn.Module):
    """A stem or a strided convolution, blocks, a closing norm; maps in, maps out."""

    def __init__(self, c: Mapping[str, Any], index: int) -> None:
        super().__init__()
        width, eps = c["dims"][index], c["norm_eps"]
        if index:
            self.reduce: nn.Module = nn.Conv2d(c["dims"][index - 1], width, 3, stride=2, padding=1)
        else:
            self.reduce = stem(c["channels"], width, c["head_conv"])
        self.first_norm, self.last_norm = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.blocks = nn.ModuleList(
            Block(c, width, c["heads"][index] if attends(index, at) else 0, c["mlp_ratios"][index])
            for at in range(c["depths"][index])
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        height, width = x.shape[2:]
        x = self.first_norm(to_tokens(x))
        for block in self.blocks:
            x = block(x, height, width)
        return to_map(self.last_norm(x), height, width)


def stem(channels: int, width: int, kernel: int) -> nn.Sequential:
    """Two strided convolutions to a quarter of the side."""
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride=2, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 2, stride=2),
    )


def attends(stage: int, block: int) -> bool:
    """Whether a block attends: none in stages 1 and 2, every second in stage 3, all in stage 4."""
    return stage == 3 or (stage == 2 and block % 2 == 1)


class SMT(nn.Module):
    """Images [batch, channels, side, side] to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(Stage(c, index) for index in range(len(c["dims"])))
        self.head = nn.Linear(c["dims"][-1], c["classes"])

    def forward(self, pixels: Tensor) -> Tensor:
        x = pixels
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return SMT(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((Input(("batch", config["channels"], config["side"], config["side"]), "model"),))
