"""Bidirectional encoder with learned positions and a pooler: BERT.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
arXiv:1810.04805, 2019. Token, position and segment embeddings, then layers of attention and a GELU MLP,
each followed by LayerNorm over the residual sum (post-norm); the pooler is a tanh linear on the first
token. No padding mask: every sequence has `seq` tokens. `-mlm` adds the heads of pre-training: a linear with
GELU and LayerNorm, then scores over the vocabulary by the token embedding; and whether two segments follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphs.inputs import Example, token_ids
from graphs.layers import ACTIVATIONS, MLP, Attention

FAMILY = "encoder"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "bert-base": {
        "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072, "vocab": 30522, "max_position": 512,
        "segments": 2, "activation": "gelu", "norm_eps": 1e-12, "dropout": 0.1, "dtype": "float32",
    },
    "bert-base-mlm": {
        "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072, "vocab": 30522, "max_position": 512,
        "segments": 2, "activation": "gelu", "norm_eps": 1e-12, "dropout": 0.1, "dtype": "float32",
        "loss": "cross_entropy",
    },
    "bert-large-mlm": {
        "layers": 24, "hidden": 1024, "heads": 16, "intermediate": 4096, "vocab": 30522,
        "max_position": 512, "segments": 2, "activation": "gelu", "norm_eps": 1e-12, "dropout": 0.1,
        "dtype": "float32", "loss": "cross_entropy",
    },
    "bert-large": {
        "layers": 24, "hidden": 1024, "heads": 16, "intermediate": 4096, "vocab": 30522,
        "max_position": 512, "segments": 2, "activation": "gelu", "norm_eps": 1e-12, "dropout": 0.1,
        "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "seq": {"default": 512, "min": 1, "max": "max_position", "meaning": "tokens per sequence"},
}
GUARDS = {"forward": ["seq <= max_position"]}
BASELINES: dict[str, Any] = {}


class Block(nn.Module):
    """Attention and MLP, each with LayerNorm over its residual sum."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.attention = Attention(c["hidden"], c["heads"], dropout=c["dropout"])
        self.attention_norm = nn.LayerNorm(c["hidden"], eps=c["norm_eps"])
        self.mlp = MLP(c["hidden"], c["intermediate"], c["activation"])
        self.mlp_norm = nn.LayerNorm(c["hidden"], eps=c["norm_eps"])
        self.dropout = nn.Dropout(c["dropout"])

    def forward(self, x: Tensor) -> Tensor:
        mixed, _ = self.attention(x)
        x = self.attention_norm(self.dropout(mixed) + x)
        x = self.mlp_norm(self.dropout(self.mlp(x)) + x)
        return x


class Bert(nn.Module):
    """Token ids to hidden states and the pooled first token."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(c["vocab"], c["hidden"])
        self.positions = nn.Embedding(c["max_position"], c["hidden"])
        self.segments = nn.Embedding(c["segments"], c["hidden"])
        self.norm = nn.LayerNorm(c["hidden"], eps=c["norm_eps"])
        self.dropout = nn.Dropout(c["dropout"])
        self.layers = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.pooler = nn.Linear(c["hidden"], c["hidden"])

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states [batch, seq, hidden] and pooled [batch, hidden]; all of the first segment."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.embedding(input_ids) + self.segments(torch.zeros_like(input_ids)) + self.positions(positions)
        x = self.dropout(self.norm(x))
        for layer in self.layers:
            x = layer(x)
        return x, torch.tanh(self.pooler(x[:, 0]))


class PretrainedBert(nn.Module):
    """Token ids to scores of every position's token and of what follows."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.bert = Bert(c)
        self.transform = nn.Linear(c["hidden"], c["hidden"])
        self.norm = nn.LayerNorm(c["hidden"], eps=c["norm_eps"])
        self.head = nn.Linear(c["hidden"], c["vocab"])
        self.head.weight = self.bert.embedding.weight
        self.follows = nn.Linear(c["hidden"], 2)

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        x, pooled = self.bert(input_ids)
        return self.head(self.norm(ACTIVATIONS["gelu"](self.transform(x)))), self.follows(pooled)


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return PretrainedBert(config) if "loss" in config else Bert(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((token_ids("batch", "seq", config["vocab"]),))
