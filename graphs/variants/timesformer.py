"""Video transformer that attends over time and over space one after the other: TimeSformer.

Bertasius et al., "Is Space-Time Attention All You Need for Video Understanding?", arXiv:2102.05095, 2021;
base size from memory, unverified: a ViT-B over eight frames whose blocks first let every patch attend to
the same place in all frames, then every frame to its own patches and the class token, which is averaged
over frames afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphs.inputs import Example, Input
from graphs.layers import Attention, PreNormBlock

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "timesformer-b": {
        "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072, "side": 224, "patch": 16,
        "frames": 8, "channels": 3, "classes": 400, "norm_eps": 1e-6, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "clips"}}
GUARDS: dict[str, list[str]] = {}
BASELINES: dict[str, Any] = {}


class Enter(nn.Module):
    """Clips [batch, frames, channels, side, side] to a class token and [batch, frames, patches, hidden]."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden, count = c["hidden"], (c["side"] // c["patch"]) ** 2
        self.frames = c["frames"]
        self.patches = nn.Conv2d(c["channels"], hidden, c["patch"], stride=c["patch"])
        self.class_token = nn.Parameter(torch.zeros(1, 1, hidden))
        self.places = nn.Parameter(torch.zeros(1, 1, count, hidden))
        self.times = nn.Parameter(torch.zeros(1, c["frames"], 1, hidden))

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        x = self.patches(clips.flatten(0, 1)).flatten(2).transpose(1, 2).unflatten(0, (-1, self.frames))
        return self.class_token.expand(x.shape[0], -1, -1), x + self.places + self.times


class Block(nn.Module):
    """Attention over the frames of each place, then a pre-norm block over the places of each frame."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.frames = c["frames"]
        self.time_norm = nn.LayerNorm(c["hidden"], eps=c["norm_eps"])
        self.time, self.time_out = Attention(c["hidden"], c["heads"]), nn.Linear(c["hidden"], c["hidden"])
        self.space = PreNormBlock(c["hidden"], c["heads"], c["intermediate"], "gelu", eps=c["norm_eps"])

    def forward(self, token: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The class token [batch, 1, hidden] and patches [batch, frames, patches, hidden]."""
        over_time = x.transpose(1, 2).flatten(0, 1)
        mixed, _ = self.time(self.time_norm(over_time))
        x = x + self.time_out(mixed).unflatten(0, (x.shape[0], -1)).transpose(1, 2)
        each = token[:, None].expand(-1, self.frames, -1, -1)
        x, _ = self.space(torch.cat([each, x], dim=2).flatten(0, 1))
        x = x.unflatten(0, (-1, self.frames))
        return x[:, :, 0].mean(1, keepdim=True), x[:, :, 1:]


class TimeSformer(nn.Module):
    """Clips to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.enter = Enter(c)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.norm = nn.LayerNorm(c["hidden"], eps=c["norm_eps"])
        self.head = nn.Linear(c["hidden"], c["classes"])

    def forward(self, clips: Tensor) -> Tensor:
        token, x = self.enter(clips)
        for block in self.blocks:
            token, x = block(token, x)
        logits: Tensor = self.head(self.norm(token)[:, 0])
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return TimeSformer(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    side = config["side"]
    return Example((Input(("batch", config["frames"], config["channels"], side, side), "model"),))
