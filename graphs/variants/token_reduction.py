"""Fewer tokens layer by layer: merging in an image transformer, pruning in a vision-language model.

"Token Reduction Should Go Beyond Efficiency in Generative Models -- From Vision, Language to
Multimodality", 2025, is a position paper without a cost table; it is represented by two techniques with
published throughput. ToMe (facebookresearch/ToMe): in every block, after attention, tokens are split
alternately in two sets, every token of the first finds its most similar one in the second by the mean of
its keys over heads, and the `merged` most similar pairs become one token each, weighted by how many tokens
they stand for. The class token stays; `proportional` adds the logarithm of these sizes to the attention
scores. FastV (pkunlp-icler/FastV): all image tokens pass the first `full_layers` layers of the decoder,
then those that get least attention of the last token are dropped, a share of `dropped`. LLaVA-1.5's sizes
(CLIP ViT-L/14 at 336 pixels less its last layer, a GELU projector, Vicuna 7B and 13B) are from memory,
unverified. A third technique, keeping a budget of cached tokens, reads in a decode step what a decoder with
that many cached tokens reads, and has no model of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input, token_ids
from graphs.layers import MLP, Attention, GatedMLP, PreNormBlock, RMSNorm, Rotary

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "tome-vit-s-16-r13": {
        "layers": 12, "hidden": 384, "heads": 6, "side": 224, "patch": 16, "merged": 13,
        "proportional": False, "classes": 1000, "dtype": "float32",
    },
    "tome-vit-b-16-r13": {
        "layers": 12, "hidden": 768, "heads": 12, "side": 224, "patch": 16, "merged": 13,
        "proportional": False, "classes": 1000, "dtype": "float32",
    },
    "tome-vit-b-16-r16": {
        "layers": 12, "hidden": 768, "heads": 12, "side": 224, "patch": 16, "merged": 16,
        "proportional": True, "classes": 1000, "dtype": "float32",
    },
    "tome-vit-l-16-r7": {
        "layers": 24, "hidden": 1024, "heads": 16, "side": 224, "patch": 16, "merged": 7,
        "proportional": False, "classes": 1000, "dtype": "float32",
    },
    "tome-vit-l-16-r8": {
        "layers": 24, "hidden": 1024, "heads": 16, "side": 224, "patch": 16, "merged": 8,
        "proportional": False, "classes": 1000, "dtype": "float32",
    },
    "tome-vit-l-16-384-r23": {
        "layers": 24, "hidden": 1024, "heads": 16, "side": 384, "patch": 16, "merged": 23,
        "proportional": False, "classes": 1000, "dtype": "float32",
    },
    "vit-l-16-384": {
        "layers": 24, "hidden": 1024, "heads": 16, "side": 384, "patch": 16, "merged": 0,
        "proportional": False, "classes": 1000, "dtype": "float32",
    },
    "tome-deit-s-r13": {
        "layers": 12, "hidden": 384, "heads": 6, "side": 224, "patch": 16, "merged": 13,
        "proportional": True, "classes": 1000, "dtype": "float32",
    },
    "tome-deit-ti-r13": {
        "layers": 12, "hidden": 192, "heads": 3, "side": 224, "patch": 16, "merged": 13,
        "proportional": True, "classes": 1000, "dtype": "float32",
    },
    "llava-1.5-13b": {
        "tower_layers": 23, "tower_hidden": 1024, "tower_heads": 16, "side": 336, "patch": 14,
        "layers": 40, "hidden": 5120, "heads": 40, "intermediate": 13824, "vocab": 32000,
        "max_position": 4096, "full_layers": 40, "dropped": 0.0, "dtype": "float16",
    },
    "fastv-13b-r25": {
        "tower_layers": 23, "tower_hidden": 1024, "tower_heads": 16, "side": 336, "patch": 14,
        "layers": 40, "hidden": 5120, "heads": 40, "intermediate": 13824, "vocab": 32000,
        "max_position": 4096, "full_layers": 2, "dropped": 0.25, "dtype": "float16",
    },
    "fastv-13b-r50": {
        "tower_layers": 23, "tower_hidden": 1024, "tower_heads": 16, "side": 336, "patch": 14,
        "layers": 40, "hidden": 5120, "heads": 40, "intermediate": 13824, "vocab": 32000,
        "max_position": 4096, "full_layers": 2, "dropped": 0.5, "dtype": "float16",
    },
    "fastv-13b-r75": {
        "tower_layers": 23, "tower_hidden": 1024, "tower_heads": 16, "side": 336, "patch": 14,
        "layers": 40, "hidden": 5120, "heads": 40, "intermediate": 13824, "vocab": 32000,
        "max_position": 4096, "full_layers": 2, "dropped": 0.75, "dtype": "float16",
    },
    "llava-1.5-7b": {
        "tower_layers": 23, "tower_hidden": 1024, "tower_heads": 16, "side": 336, "patch": 14,
        "layers": 32, "hidden": 4096, "heads": 32, "intermediate": 11008, "vocab": 32000,
        "max_position": 4096, "full_layers": 32, "dropped": 0.0, "dtype": "float16",
    },
    "fastv-7b-r50": {
        "tower_layers": 23, "tower_hidden": 1024, "tower_heads": 16, "side": 336, "patch": 14,
        "layers": 32, "hidden": 4096, "heads": 32, "intermediate": 11008, "vocab": 32000,
        "max_position": 4096, "full_layers": 2, "dropped": 0.5, "dtype": "float16",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "images"},
    "text": {"default": 64, "min": 1, "max": None, "meaning": "prompt tokens after an image"},
}
GUARDS: dict[str, list[str]] = {}
BASELINES = {
    "tome-vit-s-16-r13": ["deit-s"],
    "tome-vit-b-16-r13": ["vit-b-16"],
    "tome-vit-b-16-r16": ["vit-b-16"],
    "tome-vit-l-16-r7": ["vit-l-16"],
    "tome-vit-l-16-r8": ["vit-l-16"],
    "tome-vit-l-16-384-r23": ["vit-l-16-384"],
    "tome-deit-s-r13": ["deit-s"],
    "tome-deit-ti-r13": ["deit-ti"],
    "fastv-13b-r25": ["llava-1.5-13b"],
    "fastv-13b-r50": ["llava-1.5-13b"],
    "fastv-13b-r75": ["llava-1.5-13b"],
    "fastv-7b-r50": ["llava-1.5-7b"],
}
CHANNELS = 3


def schedule(tokens: int, layers: int, merged: int) -> list[int]:
    """Tokens merged away in each layer: `merged`, at most half of those that are not the class token."""
    found = []
    for _ in range(layers):
        now = min(merged, (tokens - 1) // 2)
        found.append(now)
        tokens -= now
    return found


def merge(x: Tensor, size: Tensor, metric: Tensor, merged: int) -> tuple[Tensor, Tensor]:
    """x [batch, n, width] and sizes [batch, n, 1] with the `merged` most similar pairs as one token each."""
    metric = F.normalize(metric, dim=-1)
    first, second = metric[:, ::2], metric[:, 1::2]
    likeness = first @ second.transpose(-1, -2)
    # the class token, first of all, has no partner
    likeness = torch.cat([torch.full_like(likeness[:, :1], -math.inf), likeness[:, 1:]], dim=1)
    best, partner = likeness.max(dim=-1)
    order = best.argsort(dim=-1, descending=True)[..., None]
    gone, kept = order[:, :merged], order[:, merged:].sort(dim=1).values
    target = partner[..., None].gather(1, gone)
    return _merged(x * size, size, gone, kept, target)


def _merged(
    weighted: Tensor, size: Tensor, gone: Tensor, kept: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted mean of the merged tokens, kept ones first."""

    def one(part: Tensor) -> Tensor:
        first, second = part[:, ::2], part[:, 1::2]
        width = part.shape[-1]
        moved = first.gather(1, gone.expand(-1, -1, width))
        second = second.scatter_reduce(1, target.expand(-1, -1, width), moved, reduce="sum")
        return torch.cat([first.gather(1, kept.expand(-1, -1, width)), second], dim=1)

    sizes = one(size)
    return one(weighted) / sizes, sizes


class MergingBlock(nn.Module):
    """A pre-norm block that merges tokens between attention and MLP."""

    def __init__(self, hidden: int, heads: int, merged: int, *, proportional: bool) -> None:
        super().__init__()
        self.merged, self.proportional = merged, proportional
        self.attention_norm, self.mlp_norm = nn.LayerNorm(hidden, eps=1e-6), nn.LayerNorm(hidden, eps=1e-6)
        self.attention = Attention(hidden, heads, fused=True)
        self.mlp = MLP(hidden, 4 * hidden, "gelu")

    def forward(self, x: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        mask = size.log().transpose(-1, -2)[:, None] if self.proportional else None
        mixed, (key, _) = self.attention(self.attention_norm(x), mask=mask)
        x = x + mixed
        if self.merged:
            x, size = merge(x, size, key.mean(1), self.merged)
        return x + self.mlp(self.mlp_norm(x)), size


class MergingViT(nn.Module):
    """Images [batch, 3, side, side] to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        tokens = (c["side"] // c["patch"]) ** 2 + 1
        self.patches = nn.Conv2d(CHANNELS, c["hidden"], c["patch"], stride=c["patch"])
        self.class_token = nn.Parameter(torch.zeros(1, 1, c["hidden"]))
        self.positions = nn.Parameter(torch.zeros(1, tokens, c["hidden"]))
        self.layers = nn.ModuleList(
            MergingBlock(c["hidden"], c["heads"], merged, proportional=c["proportional"])
            for merged in schedule(tokens, c["layers"], c["merged"])
        )
        self.norm = nn.LayerNorm(c["hidden"], eps=1e-6)
        self.head = nn.Linear(c["hidden"], c["classes"])

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        size = torch.ones_like(x[..., :1])
        for layer in self.layers:
            x, size = layer(x, size)
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits


class Tower(nn.Module):
    """Images to one vector per patch, in the width of the decoder."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden = c["tower_hidden"]
        self.patches = nn.Conv2d(CHANNELS, hidden, c["patch"], stride=c["patch"], bias=False)
        self.class_token = nn.Parameter(torch.zeros(1, 1, hidden))
        self.positions = nn.Parameter(torch.zeros(1, (c["side"] // c["patch"]) ** 2 + 1, hidden))
        self.first_norm = nn.LayerNorm(hidden)
        self.layers = nn.ModuleList(
            PreNormBlock(hidden, c["tower_heads"], 4 * hidden, "quick_gelu") for _ in range(c["tower_layers"])
        )
        self.project = nn.Sequential(
            nn.Linear(hidden, c["hidden"]), nn.GELU(), nn.Linear(c["hidden"], c["hidden"])
        )

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        x = self.first_norm(x)
        for layer in self.layers:
            x, _ = layer(x)
        out: Tensor = self.project(x[:, 1:])
        return out


class Block(nn.Module):
    """A Llama block that also gives its rotated keys and what it read."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = RMSNorm(c["hidden"], 1e-5), RMSNorm(c["hidden"], 1e-5)
        self.attention = Attention(c["hidden"], c["heads"], bias=False)
        self.mlp = GatedMLP(c["hidden"], c["intermediate"], "silu")

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        mixed, (key, _) = self.attention(self.attention_norm(x), rotary=rotary, causal=True)
        x = x + mixed
        return x + self.mlp(self.mlp_norm(x)), key


class FastV(nn.Module):
    """An image and a prompt to the logits of the first new token."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.tower = Tower(c)
        self.images = (c["side"] // c["patch"]) ** 2
        self.kept = self.images - round(c["dropped"] * self.images)
        self.full_layers = c["full_layers"]
        self.embedding = nn.Embedding(c["vocab"], c["hidden"])
        self.rotary = Rotary(c["hidden"] // c["heads"], 10000.0)
        self.layers = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.norm = RMSNorm(c["hidden"], 1e-5)
        self.head = nn.Linear(c["hidden"], c["vocab"], bias=False)

    def forward(self, pixels: Tensor, input_ids: Tensor) -> Tensor:
        x = torch.cat([self.tower(pixels), self.embedding(input_ids)], dim=1)
        rotary = self.rotary(0, self.images + input_ids.shape[1], x)
        for layer in self.layers[: self.full_layers]:
            x, key = layer(x, rotary)
        rest = self.layers[self.full_layers :]
        if len(rest):
            x, rotary = self._prune(x, rotary, key)
        for layer in rest:
            x, _ = layer(x, rotary)
        logits: Tensor = self.head(self.norm(x[:, -1:]))
        return logits

    def _prune(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], key: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The image tokens that the last token attends to most, and the text; positions are not closed up."""
        # the last token's key stands for its query, which the layer does not give away; it costs the same
        scores = (key[:, :, -1:] @ key.transpose(-1, -2)).softmax(-1).mean(1)[:, 0, : self.images]
        best = scores.topk(self.kept, dim=-1).indices.sort(dim=-1).values
        pictures = x[:, : self.images].gather(1, best[..., None].expand(-1, -1, x.shape[-1]))
        left = torch.cat([pictures, x[:, self.images :]], dim=1)
        cosine, sine = (
            torch.cat([part[best][:, None], part[self.images :].expand(x.shape[0], 1, -1, -1)], dim=2)
            for part in rotary
        )
        return left, (cosine, sine)


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return FastV(config) if "vocab" in config else MergingViT(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    pixels = Input(("batch", CHANNELS, config["side"], config["side"]), "model")
    return Example((pixels, token_ids("batch", "text", config["vocab"])) if "vocab" in config else (pixels,))
