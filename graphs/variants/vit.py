"""Plain image transformers: ViT and DeiT.

Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
arXiv:2010.11929, 2021; Touvron et al., "Training Data-Efficient Image Transformers and Distillation through
Attention", arXiv:2012.12877, 2021. Square patches become tokens by a strided convolution, a class token
leads them, pre-norm layers follow, and a linear classifies the class token. The table of learned positions
fixes the image side. DeiT here is the form without a distillation token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphs.inputs import Example, Input
from graphs.layers import PreNormBlock

FAMILY = "vision"
PHASES = ("forward",)
LOSS = "cross_entropy"
# fmt: off
CONFIGS = {
    "vit-b-16": {
        "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072, "side": 224, "patch": 16,
        "channels": 3, "classes": 1000, "activation": "gelu", "norm_eps": 1e-6, "dtype": "float32",
    },
    "vit-b-32": {
        "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072, "side": 224, "patch": 32,
        "channels": 3, "classes": 1000, "activation": "gelu", "norm_eps": 1e-6, "dtype": "float32",
    },
    "vit-l-16": {
        "layers": 24, "hidden": 1024, "heads": 16, "intermediate": 4096, "side": 224, "patch": 16,
        "channels": 3, "classes": 1000, "activation": "gelu", "norm_eps": 1e-6, "dtype": "float32",
    },
    "deit-ti": {
        "layers": 12, "hidden": 192, "heads": 3, "intermediate": 768, "side": 224, "patch": 16,
        "channels": 3, "classes": 1000, "activation": "gelu", "norm_eps": 1e-6, "dtype": "float32",
    },
    "deit-s": {
        "layers": 12, "hidden": 384, "heads": 6, "intermediate": 1536, "side": 224, "patch": 16,
        "channels": 3, "classes": 1000, "activation": "gelu", "norm_eps": 1e-6, "dtype": "float32",
    },
    "deit-b": {
        "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072, "side": 224, "patch": 16,
        "channels": 3, "classes": 1000, "activation": "gelu", "norm_eps": 1e-6, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "images"}}
GUARDS: dict[str, list[str]] = {}
BASELINES: dict[str, Any] = {}


class ViT(nn.Module):
    """Images [batch, channels, side, side] to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        tokens = (c["side"] // c["patch"]) ** 2 + 1
        self.patches = nn.Conv2d(c["channels"], c["hidden"], c["patch"], stride=c["patch"])
        self.class_token = nn.Parameter(torch.zeros(1, 1, c["hidden"]))
        self.positions = nn.Parameter(torch.zeros(1, tokens, c["hidden"]))
        self.layers = nn.ModuleList(
            PreNormBlock(c["hidden"], c["heads"], c["intermediate"], c["activation"], eps=c["norm_eps"])
            for _ in range(c["layers"])
        )
        self.norm = nn.LayerNorm(c["hidden"], eps=c["norm_eps"])
        self.head = nn.Linear(c["hidden"], c["classes"])

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        for layer in self.layers:
            x, _ = layer(x)
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return ViT(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((Input(("batch", config["channels"], config["side"], config["side"]), "model"),))
