"""BERT with whole blocks, heads and inner neurons left out where a task does not need them: AxFormer.

"AxFormer: Accuracy-driven Approximation of Transformers for Faster, Smaller and more Accurate NLP Models",
arXiv:2010.03688, 2020. Blocks are dropped, then heads, then groups of inner neurons, as long as the loss
does not worsen; a dropped block becomes the identity, its LayerNorm and residual go too. Only the abstract
and memory of the paper were at hand and the lists of what a task keeps are unpublished: those of
`axformer-bert-fast` were chosen to hit the printed speed, those of the `-small` ones to hit the printed
size by two readings (encoder alone, whole model). `-hard` keeps, in two attention blocks, the `keep`
highest scores of a query and gathers their values; scores are still all computed. Layers are numbered from
0; zero heads or neurons is a dropped block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphs.inputs import Example, token_ids
from graphs.layers import MLP, Attention

FAMILY = "encoder"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "axformer-bert-fast": {
        "heads": [12, 12, 12, 0, 8, 0, 8, 0, 0, 0, 0, 0], "hard": [], "keep": 0,
        "neurons": [3072, 3072, 0, 3072, 0, 3072, 0, 3072, 0, 0, 0, 0], "hidden": 768, "head_dim": 64,
        "vocab": 30522, "max_position": 512, "segments": 2, "classes": 2, "norm_eps": 1e-12,
        "dtype": "float32",
    },
    "axformer-bert-small-encoder": {
        "heads": [12, 12, 12, 0, 12, 0, 0, 0, 0, 0, 0, 0], "hard": [], "keep": 0,
        "neurons": [3072, 3072, 0, 3072, 0, 2048, 0, 0, 0, 0, 0, 0], "hidden": 768, "head_dim": 64,
        "vocab": 30522, "max_position": 512, "segments": 2, "classes": 2, "norm_eps": 1e-12,
        "dtype": "float32",
    },
    "axformer-bert-small-total": {
        "heads": [12, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "hard": [], "keep": 0,
        "neurons": [3072, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "hidden": 768, "head_dim": 64,
        "vocab": 30522, "max_position": 512, "segments": 2, "classes": 2, "norm_eps": 1e-12,
        "dtype": "float32",
    },
    "axformer-bert-hard": {
        "heads": [12, 12, 12, 0, 8, 0, 8, 0, 0, 0, 0, 0], "hard": [4, 6], "keep": 32,
        "neurons": [3072, 3072, 0, 3072, 0, 3072, 0, 3072, 0, 0, 0, 0], "hidden": 768, "head_dim": 64,
        "vocab": 30522, "max_position": 512, "segments": 2, "classes": 2, "norm_eps": 1e-12,
        "dtype": "float32",
    },
    "axformer-distilbert": {
        "heads": [12, 12, 12, 0, 12, 0], "hard": [], "keep": 0,
        "neurons": [3072, 3072, 0, 3072, 0, 0], "hidden": 768, "head_dim": 64,
        "vocab": 30522, "max_position": 512, "segments": 0, "classes": 2, "norm_eps": 1e-12,
        "dtype": "float32",
    },
    "distilbert-base": {
        "heads": [12, 12, 12, 12, 12, 12], "hard": [], "keep": 0,
        "neurons": [3072, 3072, 3072, 3072, 3072, 3072], "hidden": 768, "head_dim": 64,
        "vocab": 30522, "max_position": 512, "segments": 0, "classes": 2, "norm_eps": 1e-12,
        "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "seq": {"default": 128, "min": 1, "max": "max_position", "meaning": "tokens per sequence"},
}
GUARDS = {"forward": ["seq <= max_position"]}
BASELINES = {
    "axformer-bert-fast": ["bert-base"],
    "axformer-bert-small-encoder": ["bert-base"],
    "axformer-bert-small-total": ["bert-base"],
    "axformer-bert-hard": ["bert-base"],
    "axformer-distilbert": ["distilbert-base"],
}


class HardAttention(Attention):
    """Softmax over the `keep` highest scores of a query; the values of these are gathered."""

    def __init__(self, hidden: int, heads: int, head_dim: int, keep: int) -> None:
        super().__init__(hidden, heads, head_dim=head_dim)
        self.keep = keep

    def _attend(
        self, query: Tensor, pair: tuple[Tensor, Tensor], mask: Tensor | None, causal: bool
    ) -> Tensor:
        key, value = pair
        scores = query @ key.transpose(-2, -1) / math.sqrt(self.head_dim)
        best, place = scores.topk(self.keep, dim=-1)
        flat = value.flatten(0, 1)
        rows = torch.arange(flat.shape[0], device=flat.device)[:, None, None]
        picked = flat[rows, place.flatten(0, 1)].unflatten(0, value.shape[:2])
        mixed: Tensor = (best.softmax(-1).unsqueeze(-2) @ picked).squeeze(-2)
        return mixed.transpose(1, 2).flatten(2)


class Attend(nn.Module):
    """Attention with what is left of its heads, and LayerNorm over the residual sum."""

    def __init__(self, c: Mapping[str, Any], heads: int, *, hard: bool) -> None:
        super().__init__()
        self.attention = (
            HardAttention(c["hidden"], heads, c["head_dim"], c["keep"])
            if hard
            else Attention(c["hidden"], heads, head_dim=c["head_dim"])
        )
        self.norm = nn.LayerNorm(c["hidden"], eps=c["norm_eps"])

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x + self.attention(x)[0])
        return normed


class Feed(nn.Module):
    """MLP with what is left of its neurons, and LayerNorm over the residual sum."""

    def __init__(self, c: Mapping[str, Any], neurons: int) -> None:
        super().__init__()
        self.mlp = MLP(c["hidden"], neurons, "gelu")
        self.norm = nn.LayerNorm(c["hidden"], eps=c["norm_eps"])

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x + self.mlp(x))
        return normed


class Embedding(nn.Module):
    """Sum of token, position and (where there are any) segment embeddings, normalised."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.tokens = nn.Embedding(c["vocab"], c["hidden"])
        self.positions = nn.Embedding(c["max_position"], c["hidden"])
        self.segments = nn.Embedding(c["segments"], c["hidden"]) if c["segments"] else None
        self.norm = nn.LayerNorm(c["hidden"], eps=c["norm_eps"])

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.tokens(input_ids) + self.positions(torch.arange(input_ids.shape[1], device=input_ids.device))
        if self.segments is not None:
            x = x + self.segments(torch.zeros_like(input_ids))
        normed: Tensor = self.norm(x)
        return normed


class AxFormer(nn.Module):
    """Token ids to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.embedding = Embedding(c)
        blocks: list[nn.Module] = []
        for at, (heads, neurons) in enumerate(zip(c["heads"], c["neurons"], strict=True)):
            if heads:
                blocks.append(Attend(c, heads, hard=at in c["hard"]))
            if neurons:
                blocks.append(Feed(c, neurons))
        self.blocks = nn.ModuleList(blocks)
        self.pooler = nn.Linear(c["hidden"], c["hidden"])
        self.classifier = nn.Linear(c["hidden"], c["classes"])

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embedding(input_ids)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.classifier(torch.tanh(self.pooler(x[:, 0])))
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return AxFormer(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((token_ids("batch", "seq", config["vocab"]),))
