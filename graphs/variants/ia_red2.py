"""DeiT that drops patches between groups of blocks by a learned policy: IA-RED^2.

Pan et al., "IA-RED^2: Interpretability-Aware Redundancy Reduction for Vision Transformers", 2021. Three
groups of blocks; before each, a policy scores every patch by the class token (a norm without weights, one
linear to queries, keys and values of which the query of the class token and the keys are used, a sigmoid)
and patches above one half are kept. The released code masks the others, which saves nothing; here kept rows
are gathered into a shorter sequence, as a deployment would. How many are kept is a size: `keep_1`,
`keep_2`, `keep_3` patches. Their defaults, 90, 70 and 40 percent, are an own choice: the schedule was not
published. The TimeSformer of the paper (from memory, unverified) is not built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input, SymbolValue
from graphs.layers import PreNormBlock

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
BASELINES = {"ia-red2-deit-s": ["deit-s"], "ia-red2-deit-b": ["deit-b"]}


class Policy(nn.Module):
    """Scores patches by the class token and keeps the best `keep` of them, class token in front."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(hidden, 3 * hidden)

    def forward(self, x: Tensor, keep: int) -> Tensor:
        parts = self.query_key_value(F.layer_norm(x, x.shape[-1:])).unflatten(-1, (3, self.heads, -1))
        query, key = parts[:, :1, 0], parts[:, 1:, 1]
        scores = torch.sigmoid((query * key).sum(-1) * key.shape[-1] ** -0.5).mean(-1)
        kept = scores.topk(keep, dim=1).indices.sort(dim=1).values
        # scaled by its score, so that the policy learns; as a factor of one where a real policy decides
        chosen = scores.gather(1, kept)[..., None]
        rows = x[:, 1:].gather(1, kept[..., None].expand(-1, -1, x.shape[-1]))
        return torch.cat([x[:, :1], rows * (chosen / chosen.detach())], dim=1)


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
            x = policy(x, kept)
            for block in blocks:  # type: ignore[attr-defined]
                x, _ = block(x)
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return IARed2(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    pixels = Input(("batch", config["channels"], config["side"], config["side"]), "model")
    return Example((pixels, tuple(SymbolValue(f"keep_{group + 1}") for group in range(config["groups"]))))
