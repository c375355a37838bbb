"""Image pyramid that runs every block twice with the same weights, attending in slices: SReT.

Shen et al., "Sliced Recursive Transformer", 2021; sizes as in the released code (szq0214/SReT). Parameters
and work part ways: weights count once in parameters and memory, every execution in work. A small MLP of its
own follows every execution. Attention runs inside contiguous groups of tokens; where the second execution has
groups, a random permutation mixes them before and is undone after. Every branch and every skip has a learned
factor. "-star" models attend without groups; "-once" runs each block once (own choice, a baseline).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.image_layers import ConvNorm, to_tokens
from graphs.inputs import Example, Input
from graphs.layers import MLP

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "sret-t": {
        "head_dim": 32, "heads": [2, 4, 8], "distinct": [2, 5, 3], "runs": 2, "mlp_ratio": 3.6,
        "small_ratio": 1, "groups": [[8, 2], [4, 1], [1, 1]], "side": 224, "channels": 3, "classes": 1000,
        "dtype": "float32",
    },
    "sret-lt": {
        "head_dim": 32, "heads": [2, 4, 8], "distinct": [2, 5, 3], "runs": 2, "mlp_ratio": 4.0,
        "small_ratio": 1, "groups": [[8, 2], [4, 1], [1, 1]], "side": 224, "channels": 3, "classes": 1000,
        "dtype": "float32",
    },
    "sret-lt-16-14-1": {
        "head_dim": 32, "heads": [2, 4, 8], "distinct": [2, 5, 3], "runs": 2, "mlp_ratio": 4.0,
        "small_ratio": 1, "groups": [[16, 1], [14, 1], [1, 1]], "side": 224, "channels": 3,
        "classes": 1000, "dtype": "float32",
    },
    "sret-s": {
        "head_dim": 42, "heads": [3, 6, 12], "distinct": [2, 5, 3], "runs": 2, "mlp_ratio": 3.0,
        "small_ratio": 2, "groups": [[8, 2], [4, 1], [1, 1]], "side": 224, "channels": 3, "classes": 1000,
        "dtype": "float32",
    },
    "sret-star-t": {
        "head_dim": 32, "heads": [2, 4, 8], "distinct": [2, 5, 3], "runs": 2, "mlp_ratio": 3.6,
        "small_ratio": 1, "groups": [[1, 1], [1, 1], [1, 1]], "side": 224, "channels": 3, "classes": 1000,
        "dtype": "float32",
    },
    "sret-star-lt": {
        "head_dim": 32, "heads": [2, 4, 8], "distinct": [2, 5, 3], "runs": 2, "mlp_ratio": 4.0,
        "small_ratio": 1, "groups": [[1, 1], [1, 1], [1, 1]], "side": 224, "channels": 3, "classes": 1000,
        "dtype": "float32",
    },
    "sret-star-s": {
        "head_dim": 42, "heads": [3, 6, 12], "distinct": [2, 5, 3], "runs": 2, "mlp_ratio": 3.0,
        "small_ratio": 2, "groups": [[1, 1], [1, 1], [1, 1]], "side": 224, "channels": 3, "classes": 1000,
        "dtype": "float32",
    },
    "sret-star-t-384": {
        "head_dim": 32, "heads": [2, 4, 8], "distinct": [2, 5, 3], "runs": 2, "mlp_ratio": 3.6,
        "small_ratio": 1, "groups": [[1, 1], [1, 1], [1, 1]], "side": 384, "channels": 3, "classes": 1000,
        "dtype": "float32",
    },
    "sret-star-s-384": {
        "head_dim": 42, "heads": [3, 6, 12], "distinct": [2, 5, 3], "runs": 2, "mlp_ratio": 3.0,
        "small_ratio": 2, "groups": [[1, 1], [1, 1], [1, 1]], "side": 384, "channels": 3, "classes": 1000,
        "dtype": "float32",
    },
    "sret-t-once": {
        "head_dim": 32, "heads": [2, 4, 8], "distinct": [2, 5, 3], "runs": 1, "mlp_ratio": 3.6,
        "small_ratio": 1, "groups": [[8], [4], [1]], "side": 224, "channels": 3, "classes": 1000,
        "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "images"}}
GUARDS: dict[str, list[str]] = {}
BASELINES = {
    "sret-t": ["sret-star-t", "sret-t-once", "deit-ti"],
    "sret-lt": ["sret-star-lt"],
    "sret-s": ["sret-star-s"],
}


class Residual(nn.Module):
    """skip * x + branch * f(norm(x)), both factors learned."""

    def __init__(self, width: int, inner: nn.Module) -> None:
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(width, eps=1e-6), inner
        self.skip, self.branch = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, *how: Any) -> Tensor:
        x = self.skip * x + self.branch * self.inner(self.norm(x), *how)
        return x


class SlicedAttention(nn.Module):
    """Attention inside `groups` contiguous slices of the tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, groups: int, mixed: bool) -> Tensor:
        order = torch.randperm(x.shape[1], device=x.device) if mixed else None
        if order is not None:
            x = x[:, order]
        parts = self.query_key_value(x).unflatten(1, (groups, -1)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(3, 0, 1, 4, 2, 5).unbind(0)
        x = F.scaled_dot_product_attention(query, key, value).transpose(2, 3).flatten(3).flatten(1, 2)
        if order is not None:
            x = x[:, order.argsort()]
        out: Tensor = self.out(x)
        return out


class Recursion(nn.Module):
    """One block executed once per entry of `groups`, a small MLP of its own after each execution."""

    def __init__(self, c: Mapping[str, Any], width: int, heads: int, groups: list[int]) -> None:
        super().__init__()
        self.groups = groups
        self.attention = Residual(width, SlicedAttention(width, heads))
        self.mlp = Residual(width, MLP(width, int(c["mlp_ratio"] * width), "gelu"))
        self.between = nn.ModuleList(
            Residual(width, MLP(width, c["small_ratio"] * width, "gelu")) for _ in groups
        )

    def forward(self, x: Tensor) -> Tensor:
        for run, (groups, small) in enumerate(zip(self.groups, self.between, strict=True)):
            x = self.attention(x, groups, run > 0 and groups > 1)
            x = small(self.mlp(x))
        return x


class SReT(nn.Module):
    """Images [batch, channels, side, side] to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        widths = [c["head_dim"] * heads for heads in c["heads"]]
        first, side = widths[0], c["side"] // 8
        self.stem = nn.Sequential(
            ConvNorm(c["channels"], first // 2, 3, stride=2, bias=True, activation="relu"),
            ConvNorm(first // 2, first, 3, stride=2, bias=True, activation="relu"),
            ConvNorm(first, first, 3, stride=2, bias=True, activation="relu"),
        )
        self.position = nn.Parameter(torch.zeros(1, first, side, side))
        self.reductions = nn.ModuleList(
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, groups=width) for width in widths[:-1]
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(Recursion(c, width, heads, groups) for _ in range(distinct)))
            for width, heads, groups, distinct in zip(
                widths, c["heads"], c["groups"], c["distinct"], strict=True
            )
        )
        self.norm, self.head = nn.LayerNorm(widths[-1], eps=1e-6), nn.Linear(widths[-1], c["classes"])

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.stem(pixels) + self.position
        for index, stage in enumerate(self.stages):
            if index:
                x = self.reductions[index - 1](x)
            side = x.shape[2:]
            x = stage(to_tokens(x)).transpose(1, 2).unflatten(2, side).contiguous()
        logits: Tensor = self.head(self.norm(x.mean(dim=(2, 3))))
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return SReT(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((Input(("batch", config["channels"], config["side"], config["side"]), "model"),))
