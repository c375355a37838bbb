"""DeiT that drops patches between groups of blocks by a learned policy: IA-RED^2.

Pan et al., "IA-RED^2: Interpretability-Aware Redundancy Reduction for Vision Transformers", 2021. Three
groups of blocks; before each, a policy scores every patch by the class token (a norm without weights, one
linear to queries, keys and values of which the query of the class token and the keys are used, a sigmoid)
and patches above one half are kept. The released code masks the others, which saves nothing; here kept rows
are gathered into a shorter sequence, as a deployment would. How many are kept is a size: `keep_1`,
`keep_2`, `keep_3` patches. Their defaults, 90, 70 and 40 percent, are an own choice: the schedule was not
published. "ia-red2-timesformer-b" does the same to clips (base size from memory, unverified): patches are
chosen by their mean over the frames and kept in the same places of all of them (own choice).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input, SymbolValue
from graphs.layers import PreNormBlock
from graphs.variants.timesformer import Block, Enter

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "ia-red2-deit-s": {
        "layers": 12, "hidden": 384, "heads": 6, "intermediate": 1536, "side": 224, "patch": 16,
        "groups": 3, "patches": 196, "channels": 3, "classes": 1000, "norm_eps": 1e-6, "dtype": "float32",
    },
    "ia-red2-deit-b": {
        "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072, "side": 224, "patch": 16,
        "groups": 3, "patches": 196, "channels": 3, "classes": 1000, "norm_eps": 1e-6, "dtype": "float32",
    },
    "ia-red2-timesformer-b": {
        "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072, "side": 224, "patch": 16,
        "groups": 3, "patches": 196, "frames": 8, "channels": 3, "classes": 400, "norm_eps": 1e-6,
        "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "images"},
    "keep_1": {"default": "9*patches//10", "min": 1, "max": "patches", "meaning": "patches of blocks 1 to 4"},
    "keep_2": {"default": "7*patches//10", "min": 1, "max": "patches", "meaning": "patches of blocks 5 to 8"},
    "keep_3": {
        "default": "4*patches//10",
        "min": 1,
        "max": "patches",
        "meaning": "patches of blocks 9 to 12",
    },
}
GUARDS = {"forward": ["keep_2 <= keep_1", "keep_3 <= keep_2"]}
BASELINES = {
    "ia-red2-deit-s": ["deit-s"],
    "ia-red2-deit-b": ["deit-b"],
    "ia-red2-timesformer-b": ["timesformer-b"],
}


class Policy(nn.Module):
    """Scores patches by the class token and keeps the best `keep` of them, in their order."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(hidden, 3 * hidden)

    def forward(self, x: Tensor, keep: int) -> tuple[Tensor, Tensor]:
        """Which patches of [batch, 1 + patches, hidden] are kept, and a factor of one that lets it learn."""
        parts = self.query_key_value(F.layer_norm(x, x.shape[-1:])).unflatten(-1, (3, self.heads, -1))
        query, key = parts[:, :1, 0], parts[:, 1:, 1]
        scores = torch.sigmoid((query * key).sum(-1) * key.shape[-1] ** -0.5).mean(-1)
        kept = scores.topk(keep, dim=1).indices.sort(dim=1).values
        chosen = scores.gather(1, kept)[..., None]
        return kept[..., None], chosen / chosen.detach()


class IARed2(nn.Module):
    """Images [batch, channels, side, side] to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.patches = nn.Conv2d(c["channels"], c["hidden"], c["patch"], stride=c["patch"])
        self.class_token = nn.Parameter(torch.zeros(1, 1, c["hidden"]))
        self.positions = nn.Parameter(torch.zeros(1, c["patches"] + 1, c["hidden"]))
        self.policies = nn.ModuleList(Policy(c["hidden"], c["heads"]) for _ in range(c["groups"]))
        self.groups = nn.ModuleList(
            nn.ModuleList(
                PreNormBlock(c["hidden"], c["heads"], c["intermediate"], "gelu", eps=c["norm_eps"])
                for _ in range(c["layers"] // c["groups"])
            )
            for _ in range(c["groups"])
        )
        self.norm = nn.LayerNorm(c["hidden"], eps=c["norm_eps"])
        self.head = nn.Linear(c["hidden"], c["classes"])

    def forward(self, pixels: Tensor, keep: tuple[int, ...]) -> Tensor:
        """`keep` patches of each group, falling."""
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        for policy, blocks, kept in zip(self.policies, self.groups, keep, strict=True):
            rows, one = policy(x, kept)
            rows = x[:, 1:].gather(1, rows.expand(-1, -1, x.shape[-1]))
            x = torch.cat([x[:, :1], rows * one], dim=1)
            for block in blocks:  # type: ignore[attr-defined]
                x, _ = block(x)
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits


class IARed2Video(nn.Module):
    """Clips [batch, frames, channels, side, side] to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.enter = Enter(c)
        self.policies = nn.ModuleList(Policy(c["hidden"], c["heads"]) for _ in range(c["groups"]))
        self.groups = nn.ModuleList(
            nn.ModuleList(Block(c) for _ in range(c["layers"] // c["groups"])) for _ in range(c["groups"])
        )
        self.norm = nn.LayerNorm(c["hidden"], eps=c["norm_eps"])
        self.head = nn.Linear(c["hidden"], c["classes"])

    def forward(self, clips: Tensor, keep: tuple[int, ...]) -> Tensor:
        """`keep` patches per frame of each group, falling."""
        token, x = self.enter(clips)
        for policy, blocks, kept in zip(self.policies, self.groups, keep, strict=True):
            rows, one = policy(torch.cat([token, x.mean(1)], dim=1), kept)
            rows = x.gather(2, rows[:, None].expand(-1, x.shape[1], -1, x.shape[-1]))
            x = rows * one[:, None]
            for block in blocks:  # type: ignore[attr-defined]
                token, x = block(token, x)
        logits: Tensor = self.head(self.norm(token)[:, 0])
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return IARed2Video(config) if "frames" in config else IARed2(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    frames = (config["frames"],) if "frames" in config else ()
    pixels = Input(("batch", *frames, config["channels"], config["side"], config["side"]), "model")
    return Example((pixels, tuple(SymbolValue(f"keep_{group + 1}") for group in range(config["groups"]))))
