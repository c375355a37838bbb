"""Convolutional features of several scales as tokens of one cell, attended locally, then globally: DuoFormer.

"DuoFormer: Leveraging Hierarchical Representations by Local and Global Attention Vision Transformer", 2025;
structure as in a mirror of the authors' code (main reference, not confirmed against the original). A ResNet
gives maps of four scales, a 1x1 convolution each brings those used to one width. Every cell of the coarsest
7 x 7 grid collects its pixels of all scales, coarse to fine, with a learned scale token in front: 6, 22 or 86
tokens. 12 blocks attend inside cells; the scale tokens with a class token then pass 12 plain attention layers
without residual, norm or MLP. Parameters hardly grow with the scales, work grows twelve-fold. "-r18" has a
ResNet-18 (the released 2- and 3-scale form skips the coarsest map; here it is used).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphs.image_layers import into_windows
from graphs.inputs import Example, Input
from graphs.layers import Attention, PreNormBlock
from graphs.variants.resnet import EXPANSION, Backbone

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "duoformer-r50-2": {
        "scales": 2, "cells": 7, "hidden": 768, "heads": 12, "layers": 12, "depths": [3, 4, 6, 3],
        "bottleneck": True, "side": 224, "channels": 3, "classes": 2, "dtype": "float32",
    },
    "duoformer-r50-3": {
        "scales": 3, "cells": 7, "hidden": 768, "heads": 12, "layers": 12, "depths": [3, 4, 6, 3],
        "bottleneck": True, "side": 224, "channels": 3, "classes": 2, "dtype": "float32",
    },
    "duoformer-r50-4": {
        "scales": 4, "cells": 7, "hidden": 768, "heads": 12, "layers": 12, "depths": [3, 4, 6, 3],
        "bottleneck": True, "side": 224, "channels": 3, "classes": 2, "dtype": "float32",
    },
    "duoformer-r18-4": {
        "scales": 4, "cells": 7, "hidden": 768, "heads": 12, "layers": 12, "depths": [2, 2, 2, 2],
        "bottleneck": False, "side": 224, "channels": 3, "classes": 2, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "images"}}
GUARDS: dict[str, list[str]] = {}
BASELINES = {"duoformer-r50-4": ["resnet-50", "vit-b-16", "duoformer-r50-2"]}


class DuoFormer(nn.Module):
    """Images [batch, channels, side, side] to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden, heads = c["hidden"], c["heads"]
        self.cells, self.scales = c["cells"], c["scales"]
        self.backbone = Backbone(c)
        growth = EXPANSION if c["bottleneck"] else 1
        widths = [growth * 64 * 2**stage for stage in range(len(c["depths"]))]
        used = list(reversed(widths))[: self.scales]
        self.projections = nn.ModuleList(nn.Conv2d(width, hidden, 1) for width in used)
        tokens = 1 + sum(4**scale for scale in range(self.scales))
        self.scale_token = nn.Parameter(torch.zeros(1, 1, 1, hidden))
        self.scale_positions = nn.Parameter(torch.zeros(1, 1, tokens, hidden))
        self.scale_blocks = nn.ModuleList(
            PreNormBlock(hidden, heads, 4 * hidden, "gelu", eps=1e-6) for _ in range(c["layers"])
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, hidden))
        self.patch_positions = nn.Parameter(torch.zeros(1, self.cells**2 + 1, hidden))
        self.patch_layers = nn.ModuleList(Attention(hidden, heads, fused=True) for _ in range(c["layers"]))
        self.norm, self.head = nn.LayerNorm(hidden), nn.Linear(hidden, c["classes"])

    def forward(self, pixels: Tensor) -> Tensor:
        maps = list(reversed(self.backbone(pixels)))[: self.scales]
        cells = [
            into_windows(project(x).permute(0, 2, 3, 1), x.shape[2] // self.cells)
            for project, x in zip(self.projections, maps, strict=True)
        ]
        x = torch.cat([self.scale_token.expand(len(pixels), self.cells**2, -1, -1), *cells], dim=2)
        x = (x + self.scale_positions).flatten(0, 1)
        for block in self.scale_blocks:
            x, _ = block(x)
        x = x[:, 0].unflatten(0, (-1, self.cells**2))
        x = torch.cat([self.class_token.expand(len(pixels), -1, -1), x], dim=1) + self.patch_positions
        for layer in self.patch_layers:
            x, _ = layer(x)
        logits: Tensor = self.head(self.norm(x[:, 0]))
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return DuoFormer(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((Input(("batch", config["channels"], config["side"], config["side"]), "model"),))
