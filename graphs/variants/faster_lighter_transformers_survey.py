"""One 12-layer backbone with five attentions, and one layer shared: a survey's techniques side by side.

Fournier et al., "A Practical Survey on Faster and Lighter Transformers", arXiv:2103.14636, 2021. The survey
explains the techniques and measures none, so the backbone is our own choice: 12 pre-norm layers of 768, 12
heads, 3072 inside, 512 to 65536 tokens. Longformer runs in chunks (window 512, one global token), Reformer
with 4 hash rounds, chunks of 64 and 32 buckets (own choice), Linformer with rank 256 shared per layer,
Performer with 256 random features; `survey-linformer-12l-k128` is the setting of a claim from memory,
unverified. `albert-base` shares one layer 12 times behind a factorised embedding of 128: weights once, work
twelve times. `survey-*-lra` are the small text encoders of the Long Range Arena.
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
    "survey-vanilla-12l": {
        "mixer": "softmax", "layers": 12, "shared_layer": False, "hidden": 768, "embedding": 768, "heads": 12,
        "intermediate": 3072, "vocab": 30522, "max_position": 65536, "learned_positions": False,
        "post_norm": False, "pooler": False, "dropout": 0.1, "least": 2, "dtype": "float32",
    },
    "survey-longformer-12l": {
        "mixer": "longformer", "window": 512, "global_tokens": 1, "layers": 12, "shared_layer": False,
        "hidden": 768, "embedding": 768, "heads": 12, "intermediate": 3072, "vocab": 30522,
        "max_position": 65536, "learned_positions": False, "post_norm": False, "pooler": False,
        "dropout": 0.1,
        "least": 512, "dtype": "float32",
    },
    "survey-reformer-12l": {
        "mixer": "reformer", "rounds": 4, "buckets": 32, "chunk": 64, "layers": 12, "shared_layer": False,
        "hidden": 768, "embedding": 768, "heads": 12, "intermediate": 3072, "vocab": 30522,
        "max_position": 65536, "learned_positions": False, "post_norm": False, "pooler": False,
        "dropout": 0.1,
        "least": 128, "dtype": "float32",
    },
    "survey-linformer-12l": {
        "mixer": "linformer", "rank": 256, "shared": True, "layers": 12, "shared_layer": False, "hidden": 768,
        "embedding": 768, "heads": 12, "intermediate": 3072, "vocab": 30522, "max_position": 65536,
        "learned_positions": False, "post_norm": False, "pooler": False, "dropout": 0.1, "least": 2,
        "dtype": "float32",
    },
    "survey-linformer-12l-k128": {
        "mixer": "linformer", "rank": 128, "shared": True, "layers": 12, "shared_layer": False, "hidden": 768,
        "embedding": 768, "heads": 12, "intermediate": 3072, "vocab": 30522, "max_position": 65536,
        "learned_positions": False, "post_norm": False, "pooler": False, "dropout": 0.1, "least": 2,
        "dtype": "float32",
    },
    "survey-performer-12l": {
        "mixer": "performer", "features": 256, "kernel": "softmax", "layers": 12, "shared_layer": False,
        "hidden": 768, "embedding": 768, "heads": 12, "intermediate": 3072, "vocab": 30522,
        "max_position": 65536, "learned_positions": False, "post_norm": False, "pooler": False,
        "dropout": 0.1,
        "least": 2, "dtype": "float32",
    },
    "survey-causal-performer": {
        "mixer": "performer", "features": 256, "kernel": "relu", "prefix_chunk": 128, "layers": 12,
        "shared_layer": False, "hidden": 768, "embedding": 768, "heads": 12, "intermediate": 3072,
        "vocab": 30522, "max_position": 65536, "learned_positions": False, "post_norm": False,
        "pooler": False,
        "dropout": 0.1, "least": 256, "dtype": "float32",
    },
    "survey-longformer-lra": {
        "mixer": "longformer", "window": 512, "global_tokens": 1, "layers": 4, "shared_layer": False,
        "hidden": 256, "embedding": 256, "heads": 4, "intermediate": 1024, "vocab": 260, "max_position": 4096,
        "learned_positions": False, "post_norm": False, "pooler": False, "dropout": 0.1, "least": 512,
        "dtype": "float32",
    },
    "albert-base": {
        "mixer": "softmax", "layers": 12, "shared_layer": True, "hidden": 768, "embedding": 128, "heads": 12,
        "intermediate": 3072, "vocab": 30000, "max_position": 512, "learned_positions": True,
        "post_norm": True, "pooler": True, "dropout": 0.0, "least": 2, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "seq": {
        "default": "min(1024, max_position)",
        "min": "least",
        "max": "max_position",
        "meaning": "tokens per sequence",
    },
}
BASELINES = {"vanilla Transformer": "survey-vanilla-12l", "BERT-base": "bert-base"}


class Encoder(nn.Module):
    """Token ids to hidden states, and the pooled first token where the model has a pooler."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.embedding = Embedding(c)
        distinct = 1 if c["shared_layer"] else c["layers"]
        layers = [_block(c) for _ in range(distinct)]
        self.layers = nn.ModuleList(layers)
        self.order = [index % distinct for index in range(c["layers"])]
        self.norm = nn.Identity() if c["post_norm"] else nn.LayerNorm(c["hidden"], eps=1e-6)
        self.pooler = nn.Linear(c["hidden"], c["hidden"]) if c["pooler"] else None

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        x = self.embedding(input_ids)
        for index in self.order:
            x = self.layers[index](x)
        x = self.norm(x)
        return (x,) if self.pooler is None else (x, torch.tanh(self.pooler(x[:, 0])))


class Embedding(nn.Module):
    """Tokens and positions, widened from the embedding's size where it is narrower than the model.

    With learned positions also two token types, as BERT and ALBERT have.
    """

    fixed: Tensor | None

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        narrow, wide = c["embedding"], c["hidden"]
        self.tokens = nn.Embedding(c["vocab"], narrow)
        self.learned = nn.Embedding(c["max_position"], narrow) if c["learned_positions"] else None
        self.types = nn.Embedding(2, narrow) if c["learned_positions"] else None
        fixed = None if c["learned_positions"] else sinusoids(c["max_position"], narrow)
        self.register_buffer("fixed", fixed, persistent=False)
        self.norm = nn.LayerNorm(narrow, eps=1e-12) if c["post_norm"] else nn.Identity()
        self.widen = nn.Linear(narrow, wide) if narrow != wide else nn.Identity()
        self.dropout = nn.Dropout(c["dropout"])

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.tokens(input_ids)
        if self.fixed is not None:
            x = x + self.fixed[: input_ids.shape[1]]
        if self.learned is not None and self.types is not None:
            x = x + self.learned(torch.arange(input_ids.shape[1], device=input_ids.device))
            x = x + self.types(torch.zeros_like(input_ids))
        widened: Tensor = self.widen(self.dropout(self.norm(x)))
        return widened


def _block(c: Mapping[str, Any]) -> MixerBlock:
    mixing = mixer(c["mixer"], c["hidden"], c["heads"], c)
    return MixerBlock(
        c["hidden"], c["intermediate"], mixing, dropout=c["dropout"], post_norm=c["post_norm"], eps=1e-12
    )


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return Encoder(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((token_ids("batch", "seq", config["vocab"]),))
