"""Encoders of the Long Range Arena: one body, eleven ways to mix tokens.

Tay et al., "Long Range Arena: A Benchmark for Efficient Transformers", arXiv:2011.04006, 2020. Token
embedding, sinusoidal positions (the benchmark allows learned ones), a class token, pre-norm layers, and a
head of two linears; only the mixer changes between rows. Sizes are those of the public JAX code: text
(bytes) for all mixers, the other tasks for the full Transformer. As in that code the Sparse Transformer and
Longformer are dense scores under masks and save nothing; local attention, Sinkhorn and BigBird are true
blocks; Reformer hashes once into 10 buckets with chunks of 10; linear attention and Performer have no
scores. The benchmark measured training steps on 16 TPU v3 chips with 32 sequences: two per chip, one per
core.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphs.inputs import Example, token_ids
from graphs.mixers.encoder import MixerBlock, sinusoids
from graphs.mixers.kinds import mixer

FAMILY = "encoder"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "lra-transformer": {
        "mixer": "softmax", "layers": 4, "hidden": 256, "heads": 4, "intermediate": 1024, "vocab": 260,
        "max_position": 4097, "classes": 2, "dropout": 0.1, "attention_dropout": 0.1, "least": 2,
        "length": 1000,
        "dtype": "float32",
    },
    "lra-local": {
        "mixer": "local", "block": 50, "layers": 4, "hidden": 256, "heads": 4, "intermediate": 1024,
        "vocab": 260, "max_position": 4097, "classes": 2, "dropout": 0.1, "least": 100, "length": 1000,
        "dtype": "float32",
    },
    "lra-sparse-transformer": {
        "mixer": "sparse", "block": 128, "columns": 32, "layers": 4, "hidden": 256, "heads": 4,
        "intermediate": 1024, "vocab": 260, "max_position": 4097, "classes": 2, "dropout": 0.1, "least": 2,
        "length": 1000, "dtype": "float32",
    },
    "lra-longformer": {
        "mixer": "longformer_masked", "window": 512, "global_tokens": 1, "layers": 4, "hidden": 256,
        "heads": 4, "intermediate": 1024, "vocab": 260, "max_position": 4097, "classes": 2, "dropout": 0.1,
        "least": 2, "length": 1000, "dtype": "float32",
    },
    "lra-linformer": {
        "mixer": "linformer", "rank": 32, "shared": True, "layers": 4, "hidden": 256, "heads": 4,
        "intermediate": 1024, "vocab": 260, "max_position": 4097, "classes": 2, "dropout": 0.1, "least": 2,
        "length": 1000, "dtype": "float32",
    },
    "lra-reformer": {
        "mixer": "reformer", "rounds": 1, "buckets": 10, "chunk": 10, "layers": 4, "hidden": 256, "heads": 4,
        "intermediate": 1024, "vocab": 260, "max_position": 4097, "classes": 2, "dropout": 0.1, "least": 20,
        "length": 1000, "dtype": "float32",
    },
    "lra-sinkhorn": {
        "mixer": "sinkhorn", "block": 50, "max_blocks": 128, "layers": 4, "hidden": 256, "heads": 4,
        "intermediate": 1024, "vocab": 260, "max_position": 4097, "classes": 2, "dropout": 0.1, "least": 100,
        "length": 1000, "dtype": "float32",
    },
    "lra-synthesizer": {
        "mixer": "synthesizer", "rank": 32, "layers": 4, "hidden": 256, "heads": 4, "intermediate": 1024,
        "vocab": 260, "max_position": 4097, "classes": 2, "dropout": 0.1, "least": 2, "length": 1000,
        "dtype": "float32",
    },
    "lra-bigbird": {
        "mixer": "bigbird", "block": 64, "random_blocks": 3, "layers": 4, "hidden": 256, "heads": 4,
        "intermediate": 1024, "vocab": 260, "max_position": 4097, "classes": 2, "dropout": 0.1, "least": 192,
        "length": 1000, "dtype": "float32",
    },
    "lra-linear-transformer": {
        "mixer": "linear", "layers": 4, "hidden": 256, "heads": 4, "intermediate": 1024, "vocab": 260,
        "max_position": 4097, "classes": 2, "dropout": 0.1, "least": 2, "length": 1000, "dtype": "float32",
    },
    "lra-performer": {
        "mixer": "performer", "features": 256, "kernel": "relu", "layers": 4, "hidden": 256, "heads": 4,
        "intermediate": 1024, "vocab": 260, "max_position": 4097, "classes": 2, "dropout": 0.1, "least": 2,
        "length": 1000, "dtype": "float32",
    },
    "lra-listops": {
        "mixer": "softmax", "layers": 4, "hidden": 512, "heads": 8, "intermediate": 1024, "vocab": 20,
        "max_position": 2049, "classes": 10, "dropout": 0.1, "attention_dropout": 0.1, "least": 2,
        "length": 2000,
        "dtype": "float32",
    },
    "lra-retrieval": {
        "mixer": "softmax", "layers": 4, "hidden": 128, "heads": 4, "intermediate": 512, "vocab": 260,
        "max_position": 4097, "classes": 2, "dropout": 0.1, "attention_dropout": 0.1, "least": 2,
        "length": 4000,
        "dtype": "float32",
    },
    "lra-image": {
        "mixer": "softmax", "layers": 1, "hidden": 32, "heads": 1, "intermediate": 64, "vocab": 256,
        "max_position": 1025, "classes": 10, "dropout": 0.1, "attention_dropout": 0.1, "least": 2,
        "length": 1024,
        "dtype": "float32",
    },
    "lra-pathfinder": {
        "mixer": "softmax", "layers": 1, "hidden": 32, "inner": 16, "heads": 2, "intermediate": 32,
        "vocab": 256,
        "max_position": 16385, "classes": 2, "dropout": 0.1, "attention_dropout": 0.1, "least": 2,
        "length": 1024,
        "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences; a pair of documents is two"},
    "seq": {
        "default": "length",
        "min": "least",
        "max": "max_position - 1",
        "meaning": "tokens per sequence without the class token, padded inside to whole blocks",
    },
}
BASELINES = {"Transformer": "lra-transformer"}


class Encoder(nn.Module):
    """Token ids to class scores."""

    positions: Tensor

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width = c["hidden"]
        head_dim = c.get("inner", width) // c["heads"]
        self.embedding = nn.Embedding(c["vocab"], width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", sinusoids(c["max_position"], width), persistent=False)
        self.dropout = nn.Dropout(c["dropout"])
        self.layers = nn.ModuleList(
            MixerBlock(
                width,
                c["intermediate"],
                mixer(c["mixer"], width, c["heads"], c, head_dim=head_dim),
                dropout=c["dropout"],
            )
            for _ in range(c["layers"])
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Sequential(
            nn.Linear(width, c["intermediate"]), nn.ReLU(), nn.Linear(c["intermediate"], c["classes"])
        )

    def forward(self, input_ids: Tensor) -> Tensor:
        first = self.class_token.expand(input_ids.shape[0], -1, -1)
        x = torch.cat([first, self.embedding(input_ids)], dim=1)
        x = self.dropout(x + self.positions[: x.shape[1]])
        for layer in self.layers:
            x = layer(x)
        scores: Tensor = self.head(self.norm(x)[:, 0])
        return scores


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return Encoder(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((token_ids("batch", "seq", config["vocab"]),))
