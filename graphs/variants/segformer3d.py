"""Volume segmentation with attention to a shrunken volume and an all-linear decoder: SegFormer3D.

Perera et al., "SegFormer3D: an Efficient Transformer for 3D Medical Image Segmentation", 2024; sizes as in
the released configuration for BraTS (facts only). Four stages of overlapping 3-D patch embedding; keys and
values come from a strided 3-D convolution of the tokens, MLPs hold a depthwise 3x3x3 convolution. The
decoder brings every stage to 256 channels on the first grid by trilinear interpolation and fuses them with
a 1x1x1 convolution, which is more than half of the arithmetic. "-profiled" leaves out what the authors' own
profile did not count yet: the batch norm inside the MLPs, the decoder's layer norms and the biases of
queries, keys and values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.image_layers import attend, to_map, to_tokens
from graphs.inputs import Example, Input

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "segformer3d-brats": {
        "side": 128, "channels": 4, "classes": 3, "dims": [32, 64, 160, 256], "heads": [1, 2, 5, 8],
        "depths": [2, 2, 2, 2], "shrink": [4, 2, 1, 1], "mlp_ratio": 4, "decoder": 256, "profiled": False,
        "dtype": "float32",
    },
    "segformer3d-brats-profiled": {
        "side": 128, "channels": 4, "classes": 3, "dims": [32, 64, 160, 256], "heads": [1, 2, 5, 8],
        "depths": [2, 2, 2, 2], "shrink": [4, 2, 1, 1], "mlp_ratio": 4, "decoder": 256, "profiled": True,
        "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "volumes"}}
GUARDS: dict[str, list[str]] = {}
BASELINES = {"segformer3d-brats": ["nnformer-brats"]}


class Attention(nn.Module):
    """Attention of all tokens to those of a volume shrunk by a strided convolution."""

    def __init__(self, width: int, heads: int, shrink: int, *, bias: bool) -> None:
        super().__init__()
        self.heads, self.shrink = heads, shrink
        self.query, self.key_value = (
            nn.Linear(width, width, bias=bias),
            nn.Linear(width, 2 * width, bias=bias),
        )
        self.out = nn.Linear(width, width)
        if shrink > 1:
            self.reduce = nn.Conv3d(width, width, shrink, stride=shrink)
            self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, sides: tuple[int, ...]) -> Tensor:
        memory = x
        if self.shrink > 1:
            memory = self.norm(to_tokens(self.reduce(to_map(x, *sides))))
        key, value = self.key_value(memory).chunk(2, dim=-1)
        out: Tensor = self.out(attend(self.query(x), key, value, self.heads))
        return out


class ConvMLP(nn.Module):
    """Linear, depthwise convolution of the volume, batch norm, GELU, linear."""

    def __init__(self, width: int, ratio: int, *, norm: bool) -> None:
        super().__init__()
        inner = ratio * width
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.local = nn.Conv3d(inner, inner, 3, padding=1, groups=inner)
        self.norm = nn.BatchNorm3d(inner) if norm else nn.Identity()

    def forward(self, x: Tensor, sides: tuple[int, ...]) -> Tensor:
        x = to_tokens(self.norm(self.local(to_map(self.up(x), *sides))))
        out: Tensor = self.down(F.gelu(x))
        return out


class Block(nn.Module):
    """Attention and MLP, each pre-normed inside a residual."""

    def __init__(self, c: Mapping[str, Any], stage: int) -> None:
        super().__init__()
        width = c["dims"][stage]
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, c["heads"][stage], c["shrink"][stage], bias=not c["profiled"])
        self.mlp = ConvMLP(width, c["mlp_ratio"], norm=not c["profiled"])

    def forward(self, x: Tensor, sides: tuple[int, ...]) -> Tensor:
        x = x + self.attention(self.attention_norm(x), sides)
        x = x + self.mlp(self.mlp_norm(x), sides)
        return x


class Stage(nn.Module):
    """Overlapping patches, blocks and a closing norm; volumes in, volumes out."""

    def __init__(self, c: Mapping[str, Any], stage: int) -> None:
        super().__init__()
        width = c["dims"][stage]
        if stage:
            self.patches = nn.Conv3d(c["dims"][stage - 1], width, 3, stride=2, padding=1)
        else:
            self.patches = nn.Conv3d(c["channels"], width, 7, stride=4, padding=3)
        self.first_norm, self.last_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(c, stage) for _ in range(c["depths"][stage]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        sides = tuple(x.shape[2:])
        x = self.first_norm(to_tokens(x))
        for block in self.blocks:
            x = block(x, sides)
        return to_map(self.last_norm(x), *sides).contiguous()


class Decoder(nn.Module):
    """Every stage to one width and the first grid, fused, classified and brought to full size."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        wide = c["decoder"]
        self.linears = nn.ModuleList(nn.Linear(width, wide) for width in c["dims"])
        self.norms = nn.ModuleList(nn.Identity() if c["profiled"] else nn.LayerNorm(wide) for _ in c["dims"])
        self.fuse = nn.Sequential(
            nn.Conv3d(len(c["dims"]) * wide, wide, 1, bias=False), nn.BatchNorm3d(wide), nn.ReLU()
        )
        self.classify = nn.Conv3d(wide, c["classes"], 1)

    def forward(self, stages: list[Tensor]) -> Tensor:
        target = tuple(stages[0].shape[2:])
        brought = []
        for linear, norm, x in zip(self.linears, self.norms, stages, strict=True):
            wide = to_map(norm(linear(to_tokens(x))), *x.shape[2:])
            brought.append(F.interpolate(wide, size=target, mode="trilinear", align_corners=False))
        return F.interpolate(
            self.classify(self.fuse(torch.cat(brought, dim=1))),
            scale_factor=4,
            mode="trilinear",
            align_corners=False,
        )


class SegFormer3D(nn.Module):
    """Volumes [batch, channels, side, side, side] to logits of every voxel."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(Stage(c, stage) for stage in range(len(c["dims"])))
        self.decoder = Decoder(c)

    def forward(self, volume: Tensor) -> Tensor:
        x, found = volume, []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        logits: Tensor = self.decoder(found)
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return SegFormer3D(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    side = config["side"]
    return Example((Input(("batch", config["channels"], side, side, side), "model"),))
