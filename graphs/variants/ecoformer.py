"""Hierarchical vision backbones whose attention adds instead of multiplying: EcoFormer on PVTv2 and Twins.

Liu et al., "EcoFormer: Energy-Saving Attention with Linear Complexity", arXiv:2209.09004, 2022. Queries and
keys are one projection, hashed to 16 bits of +1 and -1 by distances to 25 stored anchors; linear attention
over these codes needs sums only, shifted by 17 so that similarities stay positive. Stages 1 to 3 (PVTv2) or
the global blocks (Twins) are hashed, the last stage of PVTv2 is ordinary attention over 49 tokens; patch
embeddings, projections and MLPs (with a depth-wise 3 x 3 convolution in PVTv2) stay in floating point. The
hash is trained offline: its anchors and its matrix are buffers. `msa` baselines have full attention in all
stages, `sr` the spatial reduction of the original PVTv2 (ratios 8, 4, 2, 1: from memory, unverified); that
Twins' global keys come from a strided convolution in its baseline (from memory, unverified) does not touch
the EcoFormer rows. Where the seed is silent: position encoding of Twins is a depth-wise convolution after
the first block of each stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input
from graphs.mixers.codes import accumulate, sign

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "ecoformer-pvtv2-b0": {"widths": [32, 64, 160, 256], "heads": [1, 2, 5, 8], "ratios": [8, 8, 4, 4],
                           "depths": [2, 2, 2, 2], "attention": "hashed", "body": "pvt", "bits": 16,
                           "anchors": 25, "window": 0, "side": 224, "classes": 1000, "dtype": "float32"},
    "ecoformer-pvtv2-b1": {"widths": [64, 128, 320, 512], "heads": [1, 2, 5, 8], "ratios": [8, 8, 4, 4],
                           "depths": [2, 2, 2, 2], "attention": "hashed", "body": "pvt", "bits": 16,
                           "anchors": 25, "window": 0, "side": 224, "classes": 1000, "dtype": "float32"},
    "ecoformer-pvtv2-b2": {"widths": [64, 128, 320, 512], "heads": [1, 2, 5, 8], "ratios": [8, 8, 4, 4],
                           "depths": [3, 4, 6, 3], "attention": "hashed", "body": "pvt", "bits": 16,
                           "anchors": 25, "window": 0, "side": 224, "classes": 1000, "dtype": "float32"},
    "ecoformer-pvtv2-b3": {"widths": [64, 128, 320, 512], "heads": [1, 2, 5, 8], "ratios": [8, 8, 4, 4],
                           "depths": [3, 4, 18, 3], "attention": "hashed", "body": "pvt", "bits": 16,
                           "anchors": 25, "window": 0, "side": 224, "classes": 1000, "dtype": "float32"},
    "ecoformer-pvtv2-b4": {"widths": [64, 128, 320, 512], "heads": [1, 2, 5, 8], "ratios": [8, 8, 4, 4],
                           "depths": [3, 8, 27, 3], "attention": "hashed", "body": "pvt", "bits": 16,
                           "anchors": 25, "window": 0, "side": 224, "classes": 1000, "dtype": "float32"},
    "ecoformer-twins-svt-s": {"widths": [64, 128, 256, 512], "heads": [2, 4, 8, 16], "ratios": [4, 4, 4, 4],
                              "depths": [2, 2, 10, 4], "attention": "hashed", "body": "twins", "bits": 16,
                              "anchors": 25, "window": 7, "side": 224, "classes": 1000, "dtype": "float32"},
    "pvtv2-b0-msa": {"widths": [32, 64, 160, 256], "heads": [1, 2, 5, 8], "ratios": [8, 8, 4, 4],
                     "depths": [2, 2, 2, 2], "attention": "full", "body": "pvt", "bits": 16,
                     "anchors": 25, "window": 0, "side": 224, "classes": 1000, "dtype": "float32"},
    "pvtv2-b0-sr": {"widths": [32, 64, 160, 256], "heads": [1, 2, 5, 8], "ratios": [8, 8, 4, 4],
                    "depths": [2, 2, 2, 2], "attention": "reduced", "body": "pvt", "bits": 16,
                    "anchors": 25, "window": 0, "side": 224, "classes": 1000, "dtype": "float32"},
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "images"}}
BASELINES = {"standard attention": "pvtv2-b0-msa", "spatial reduction": "pvtv2-b0-sr"}
_ALL = 100  # percent of the codes that are not zero: signs have none


class Hash(nn.Module):
    """Features [batch, heads, tokens, d] to codes of `bits` signs, by distances to anchors."""

    anchors: Tensor
    mean: Tensor
    matrix: Tensor

    def __init__(self, heads: int, head_dim: int, anchors: int, bits: int) -> None:
        super().__init__()
        self.register_buffer("anchors", torch.randn(1, heads, anchors, head_dim))
        self.register_buffer("mean", torch.zeros(heads, 1, anchors))
        self.register_buffer("matrix", torch.randn(heads, anchors, bits))

    def forward(self, x: Tensor) -> Tensor:
        apart = (x.unsqueeze(3) - self.anchors.unsqueeze(2)).square().sum(-1)
        width = apart.mean(dim=(-1, -2), keepdim=True)
        near = torch.exp(-apart / (2 * width)) - self.mean
        matrix = self.matrix.expand(x.shape[0], -1, -1, -1).clone(memory_format=torch.contiguous_format)
        return sign(near @ matrix)


class HashedAttention(nn.Module):
    """Linear attention over shared codes of queries and keys, with sums instead of products."""

    def __init__(self, width: int, heads: int, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.heads, self.shift = heads, c["bits"] + 1
        self.feature, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.hash = Hash(heads, width // heads, c["anchors"], c["bits"])

    def forward(self, x: Tensor, side: int) -> Tensor:
        feature, value = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2).contiguous()
            for linear in (self.feature, self.value)
        )
        codes = self.hash(F.normalize(feature, dim=-1))
        tokens = codes.shape[-2]
        context = accumulate(codes.transpose(-1, -2), value, _ALL)
        total = codes.sum(-2).unsqueeze(-1)
        norm = accumulate(codes, total, _ALL) + self.shift * tokens
        mixed = accumulate(codes, context, _ALL) + self.shift * value.sum(-2, keepdim=True)
        out: Tensor = self.out((mixed / norm).transpose(1, 2).flatten(2))
        return out


class FullAttention(nn.Module):
    """Softmax attention with one fused projection; with `reduction` keys of a strided convolution."""

    def __init__(self, width: int, heads: int, *, reduction: int = 1) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.query = nn.Linear(width, width)
        self.key_value, self.out = nn.Linear(width, 2 * width), nn.Linear(width, width)
        if reduction > 1:
            self.reduce = nn.Conv2d(width, width, reduction, stride=reduction)
            self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, side: int = 0) -> Tensor:
        memory = x
        if self.reduction > 1:
            grid = x.transpose(1, 2).unflatten(-1, (side, side))
            memory = self.norm(self.reduce(grid).flatten(2).transpose(1, 2))
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(memory).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class WindowAttention(nn.Module):
    """Full attention inside windows of `window` x `window` tokens."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window, self.attention = window, FullAttention(width, heads)

    def forward(self, x: Tensor, side: int) -> Tensor:
        count, w = side // self.window, self.window
        grid = x.unflatten(1, (count, w, count, w)).transpose(2, 3)
        mixed = self.attention(grid.flatten(0, 2).flatten(1, 2))
        apart = mixed.unflatten(0, (-1, count, count)).unflatten(3, (w, w))
        back: Tensor = apart.transpose(2, 3).flatten(1, 4)
        return back


class ConvolutionMLP(nn.Module):
    """Linear, depth-wise 3 x 3 convolution on the grid, GELU, linear; without `grid` no convolution."""

    def __init__(self, width: int, ratio: int, *, grid: bool) -> None:
        super().__init__()
        wide = ratio * width
        self.up, self.down = nn.Linear(width, wide), nn.Linear(wide, width)
        self.mix = nn.Conv2d(wide, wide, 3, padding=1, groups=wide) if grid else None

    def forward(self, x: Tensor, side: int) -> Tensor:
        x = self.up(x)
        if self.mix is not None:
            grid = x.transpose(1, 2).unflatten(-1, (side, side))
            x = self.mix(grid).flatten(2).transpose(1, 2)
        out: Tensor = self.down(F.gelu(x))
        return out


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, attention: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention, self.mlp = attention, mlp

    def forward(self, x: Tensor, side: int) -> Tensor:
        x = x + self.attention(self.attention_norm(x), side)
        out: Tensor = x + self.mlp(self.mlp_norm(x), side)
        return out


class Stage(nn.Module):
    """Patch embedding and blocks; images in, images out."""

    def __init__(self, c: Mapping[str, Any], index: int) -> None:
        super().__init__()
        width, heads = c["widths"][index], c["heads"][index]
        before = c["widths"][index - 1] if index else 3
        twins = c["body"] == "twins"
        kernel = (4 if index == 0 else 2) if twins else (7 if index == 0 else 3)
        stride = 4 if index == 0 else 2
        self.embed = nn.Conv2d(before, width, kernel, stride=stride, padding=0 if twins else kernel // 2)
        self.embed_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width, eps=1e-6)
        self.position = nn.Conv2d(width, width, 3, padding=1, groups=width) if twins else None
        self.blocks = nn.ModuleList(
            Block(
                width,
                _attention(c, index, block, width, heads),
                ConvolutionMLP(width, c["ratios"][index], grid=not twins),
            )
            for block in range(c["depths"][index])
        )

    def forward(self, image: Tensor, side: int) -> Tensor:
        x = self.embed_norm(self.embed(image).flatten(2).transpose(1, 2))
        for index, block in enumerate(self.blocks):
            x = block(x, side)
            if index == 0 and self.position is not None:
                grid = x.transpose(1, 2).unflatten(-1, (side, side))
                x = (self.position(grid) + grid).flatten(2).transpose(1, 2)
        out: Tensor = self.norm(x).transpose(1, 2).unflatten(-1, (side, side))
        return out


def _attention(c: Mapping[str, Any], stage: int, block: int, width: int, heads: int) -> nn.Module:
    """The attention of one block: windows and global blocks alternate in Twins but for its last stage."""
    last = stage == len(c["widths"]) - 1
    if c["body"] == "twins" and block % 2 == 0 and not last:
        return WindowAttention(width, heads, c["window"])
    if c["attention"] == "hashed" and (c["body"] == "twins" or not last):
        return HashedAttention(width, heads, c)
    reduction = (8, 4, 2, 1)[stage] if c["attention"] == "reduced" else 1
    return FullAttention(width, heads, reduction=reduction)


class Backbone(nn.Module):
    """Images [batch, 3, side, side] to class scores."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.sides = [c["side"] // (4 * 2**stage) for stage in range(len(c["widths"]))]
        self.stages = nn.ModuleList(Stage(c, index) for index in range(len(c["widths"])))
        self.head = nn.Linear(c["widths"][-1], c["classes"])

    def forward(self, image: Tensor) -> Tensor:
        for stage, side in zip(self.stages, self.sides, strict=True):
            image = stage(image, side)
        scores: Tensor = self.head(image.flatten(2).mean(-1))
        return scores


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return Backbone(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((Input(("batch", 3, config["side"], config["side"]), "model"),))
