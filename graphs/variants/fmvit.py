"""Hybrid of grouped convolutions and pooled attention that mixes frequencies: FMViT, as a proxy.

Tan et al., "FMViT: A multiple-frequency mixing Vision Transformer", 2023. No paper text beyond the abstract
and no code were at hand, so every number here is an own choice on the public Next-ViT layout (that the
design follows it is from memory, unverified): "next-vit-*" are these configurations by their own name, and
the claims of Next-ViT are those that can be checked. A convolutional block has a grouped 3x3 convolution
and a 1x1 MLP. A mixing block sends three quarters of the channels through attention whose keys and values
are averages over s*s tokens, the rest through a grouped convolution of what attention gave, and
concatenates both. Graphs are those of deployment: branches merged, batch norms kept as operators.
"-training" is the graph before merging: identity and 1x1 branches beside each grouped convolution, a
4-group branch beside each 1x1 convolution and linear.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.image_layers import ConvNorm, attend, to_map, to_tokens
from graphs.inputs import Example, Input

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "next-vit-s": {
        "depths": [3, 4, 10, 3], "period": 5, "widths": [96, 192, 384, 768], "mixed": [0, 256, 512, 1024],
        "pool": [8, 4, 2, 1], "share": 0.75, "training": False, "side": 224, "channels": 3,
        "classes": 1000, "dtype": "float32",
    },
    "next-vit-b": {
        "depths": [3, 4, 20, 3], "period": 5, "widths": [96, 192, 384, 768], "mixed": [0, 256, 512, 1024],
        "pool": [8, 4, 2, 1], "share": 0.75, "training": False, "side": 224, "channels": 3,
        "classes": 1000, "dtype": "float32",
    },
    "next-vit-l": {
        "depths": [3, 4, 30, 3], "period": 5, "widths": [96, 192, 384, 768], "mixed": [0, 256, 512, 1024],
        "pool": [8, 4, 2, 1], "share": 0.75, "training": False, "side": 224, "channels": 3,
        "classes": 1000, "dtype": "float32",
    },
    "fmvit-like-s-training": {
        "depths": [3, 4, 10, 3], "period": 5, "widths": [96, 192, 384, 768], "mixed": [0, 256, 512, 1024],
        "pool": [8, 4, 2, 1], "share": 0.75, "training": True, "side": 224, "channels": 3,
        "classes": 1000, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "images"}}
GUARDS: dict[str, list[str]] = {}
BASELINES = {
    "next-vit-s": ["resnet-101", "mobileone-s1"],
    "next-vit-l": ["resnet-101", "efficientnet-b5"],
}
HEAD, GROUP = 32, 32  # channels of a head and of a group


class Pointwise(nn.Module):
    """A 1x1 convolution; in training with a 4-group branch, both normed and summed."""

    def __init__(self, inner: int, outer: int, *, bias: bool, training_graph: bool) -> None:
        super().__init__()
        if training_graph:
            self.branches = nn.ModuleList(ConvNorm(inner, outer, 1, groups=g, padding=0) for g in (1, 4))
        else:
            self.branches = nn.ModuleList([nn.Conv2d(inner, outer, 1, bias=bias)])

    def forward(self, x: Tensor) -> Tensor:
        return _summed(self.branches, x)


class Grouped(nn.Module):
    """Grouped 3x3 convolution with norm; in training with grouped 1x1 and identity branches."""

    def __init__(self, width: int, *, training_graph: bool) -> None:
        super().__init__()
        groups = width // GROUP
        branches: list[nn.Module] = [ConvNorm(width, width, 3, groups=groups)]
        if training_graph:
            branches += [ConvNorm(width, width, 1, groups=groups, padding=0), nn.BatchNorm2d(width)]
        self.branches = nn.ModuleList(branches)
        self.out = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.out(F.relu(_summed(self.branches, x)))
        return mixed


def _summed(branches: nn.ModuleList, x: Tensor) -> Tensor:
    outputs = [branch(x) for branch in branches]
    total: Tensor = outputs[0]
    for other in outputs[1:]:
        total = total + other
    return total


class MLP(nn.Sequential):
    """Norm, 1x1 convolution, ReLU, 1x1 convolution."""

    def __init__(self, width: int, ratio: int, *, training_graph: bool) -> None:
        super().__init__(
            nn.BatchNorm2d(width),
            Pointwise(width, ratio * width, bias=True, training_graph=training_graph),
            nn.ReLU(),
            Pointwise(ratio * width, width, bias=True, training_graph=training_graph),
        )


class ConvBlock(nn.Module):
    """Entry where the width changes, grouped convolution and MLP in residuals."""

    def __init__(self, before: int, width: int, stride: int, *, training_graph: bool) -> None:
        super().__init__()
        self.entry = entry(before, width, stride)
        self.mix = Grouped(width, training_graph=training_graph)
        self.mlp = MLP(width, 3, training_graph=training_graph)

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        x = x + self.mix(x)
        x = x + self.mlp(x)
        return x


class PooledAttention(nn.Module):
    """Attention to averages over `pool` squared neighbouring tokens in flattened order."""

    def __init__(self, width: int, pool: int, *, training_graph: bool) -> None:
        super().__init__()
        self.heads, self.pooled = width // HEAD, pool * pool
        self.norm = nn.BatchNorm1d(width) if pool > 1 else nn.Identity()
        self.query, self.key, self.value, self.out = (
            BranchedLinear(width, training_graph=training_graph) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        memory = x
        if self.pooled > 1:
            memory = self.norm(x.unflatten(1, (-1, self.pooled)).mean(2).transpose(1, 2)).transpose(1, 2)
        mixed = attend(self.query(x), self.key(memory), self.value(memory), self.heads)
        out: Tensor = self.out(mixed)
        return out


class BranchedLinear(nn.Module):
    """A linear; in training with a branch of four groups beside it."""

    def __init__(self, width: int, *, training_graph: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.grouped = nn.Conv1d(width, width, 1, groups=4) if training_graph else None

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dense(x)
        if self.grouped is not None:
            out = out + self.grouped(x.transpose(1, 2)).transpose(1, 2)
        return out


class MixBlock(nn.Module):
    """Low frequencies by attention, high ones by convolution of what it gave, side by side; then an MLP."""

    def __init__(
        self, before: int, width: int, stride: int, pool: int, share: float, *, training_graph: bool
    ) -> None:
        super().__init__()
        low = int(share * width) // HEAD * HEAD
        self.entry = entry(before, low, stride)
        self.norm = nn.BatchNorm2d(low)
        self.attention = PooledAttention(low, pool, training_graph=training_graph)
        self.project = ConvNorm(low, width - low, 1, padding=0)
        self.mix = Grouped(width - low, training_graph=training_graph)
        self.mlp = MLP(width, 2, training_graph=training_graph)

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        mixed = to_map(self.attention(to_tokens(self.norm(x))), *x.shape[2:])
        x = x + mixed
        high = self.project(x)
        x = torch.cat([x, high + self.mix(high)], dim=1)
        x = x + self.mlp(x)
        return x


def entry(before: int, width: int, stride: int) -> nn.Module:
    """Average pool where the stage begins, 1x1 convolution and norm where the width changes."""
    if stride == 1 and before == width:
        return nn.Identity()
    layers: list[nn.Module] = [nn.AvgPool2d(2)] if stride == 2 else []
    return nn.Sequential(*layers, ConvNorm(before, width, 1, padding=0))


class FMViT(nn.Module):
    """Images [batch, channels, side, side] to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvNorm(c["channels"], 64, 3, stride=2, activation="relu"),
            ConvNorm(64, 32, 3, activation="relu"),
            ConvNorm(32, 64, 3, activation="relu"),
            ConvNorm(64, 64, 3, stride=2, activation="relu"),
        )
        blocks: list[nn.Module] = []
        before, training = 64, c["training"]
        for stage, depth in enumerate(c["depths"]):
            for at in range(depth):
                stride = 2 if stage and at == 0 else 1
                mixes = c["mixed"][stage] and (at + 1) % min(c["period"], depth) == 0
                width = c["mixed"][stage] if mixes else c["widths"][stage]
                if mixes:
                    pool, share = c["pool"][stage], c["share"]
                    block: nn.Module = MixBlock(before, width, stride, pool, share, training_graph=training)
                else:
                    block = ConvBlock(before, width, stride, training_graph=training)
                blocks.append(block)
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.head = nn.BatchNorm2d(before), nn.Linear(before, c["classes"])

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.norm(self.blocks(self.stem(pixels)))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return FMViT(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((Input(("batch", config["channels"], config["side"], config["side"]), "model"),))
