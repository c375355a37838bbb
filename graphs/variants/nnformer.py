"""Volume segmentation by windows of attention in a U: nnFormer, the baseline of SegFormer3D.

Zhou et al., "nnFormer: Volumetric Medical Image Segmentation via a 3D Transformer", 2021; the build is from
memory, unverified: widths 192 to 1536, two blocks a stage, attention inside windows, strided 3x3x3
convolutions down and transposed 2x2x2 convolutions up, skips added by attention of the decoder's tokens to
the encoder's (here by a sum, an own choice), a head at every voxel. The side is that of SegFormer3D's
volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from graphs.image_layers import ChannelNorm, split_heads
from graphs.inputs import Example, Input
from graphs.layers import MLP

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "nnformer-brats": {
        "side": 128, "channels": 4, "classes": 3, "width": 192, "depths": [2, 2, 2, 2],
        "heads": [6, 12, 24, 48], "windows": [4, 4, 8, 4], "patch": 4, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "volumes"}}
GUARDS: dict[str, list[str]] = {}
BASELINES: dict[str, Any] = {}


class Block(nn.Module):
    """Attention inside cubes of tokens and an MLP, pre-normed in residuals; [batch, d, h, w, width]."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = MLP(width, 4 * width, "gelu")

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attended(self.norms[0](x))
        x = x + self.mlp(self.norms[1](x))
        return x

    def _attended(self, x: Tensor) -> Tensor:
        window = min(self.window, x.shape[1])
        count = x.shape[1] // window
        cubes = x.unflatten(3, (count, window)).unflatten(2, (count, window)).unflatten(1, (count, window))
        cubes = cubes.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6).flatten(0, 3)
        parts = self.query_key_value(cubes).chunk(3, dim=-1)
        query, key, value = (split_heads(part, self.heads) for part in parts)
        mixed = self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        mixed = mixed.unflatten(0, (-1, count, count, count)).unflatten(4, (window, window, window))
        whole: Tensor = mixed.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(5, 6).flatten(3, 4).flatten(1, 2)
        return whole


class NNFormer(nn.Module):
    """Volumes [batch, channels, side, side, side] to logits of every voxel."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        widths = [c["width"] * 2**stage for stage in range(len(c["depths"]))]
        first = widths[0]
        self.patches = nn.Sequential(
            nn.Conv3d(c["channels"], first // 2, 3, stride=2, padding=1),
            nn.GELU(),
            ChannelNorm(first // 2),
            nn.Conv3d(first // 2, first, 3, stride=2, padding=1),
        )
        self.down = nn.ModuleList(
            nn.Conv3d(width, 2 * width, 3, stride=2, padding=1) for width in widths[:-1]
        )
        self.up = nn.ModuleList(nn.ConvTranspose3d(2 * width, width, 2, stride=2) for width in widths[:-1])
        stages = list(zip(widths, c["heads"], c["windows"], c["depths"], strict=True))
        self.encoder, self.decoder = (
            nn.ModuleList(
                nn.Sequential(*(Block(width, heads, window) for _ in range(depth)))
                for width, heads, window, depth in used
            )
            for used in (stages, stages[:-1])
        )
        self.leave = nn.ConvTranspose3d(first, c["classes"], c["patch"], stride=c["patch"])

    def forward(self, volume: Tensor) -> Tensor:
        x = self.patches(volume).permute(0, 2, 3, 4, 1).contiguous()
        kept = []
        for stage, blocks in enumerate(self.encoder):
            x = blocks(x)
            if stage < len(self.down):
                kept.append(x)
                x = self.down[stage](x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1).contiguous()
        for up, blocks, skip in zip(reversed(self.up), reversed(self.decoder), reversed(kept), strict=True):
            x = blocks(up(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1).contiguous() + skip)
        logits: Tensor = self.leave(x.permute(0, 4, 1, 2, 3))
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return NNFormer(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    side = config["side"]
    return Example((Input(("batch", config["channels"], side, side, side), "model"),))
