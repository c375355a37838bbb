"""Deep and narrow against one wide layer, with the same number of attention heads in all.

Brown et al., "Wide Attention Is The Way Forward For Transformers?", arXiv:2210.00640, 2022. L layers of H
heads become one layer of L x H heads: the heads survive, the feed-forward networks and the residual stream
are kept once. Byte-level text classification at the Long Range Arena's lengths; 48 heads in all, the sweep
6 x 8, 3 x 16, 2 x 24, 1 x 48 and the ten attention types are from memory, unverified. Head size stays 64,
so the attention of a wide layer is wider than the model; width 512 and 2048 inside are our reading, 256 and
1024 those of the arena. Mean pooling and a small classifier.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from graphs.inputs import Example, token_ids
from graphs.mixers.encoder import MixerBlock, sinusoids
from graphs.mixers.kinds import mixer

FAMILY = "encoder"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "wide-attention-6x8": {
        "mixer": "softmax", "layers": 6, "heads": 8, "head_dim": 64, "hidden": 512, "intermediate": 2048,
        "length": 1000, "vocab": 260, "max_position": 4096, "classes": 2, "least": 2, "dtype": "float32",
    },
    "wide-attention-3x16": {
        "mixer": "softmax", "layers": 3, "heads": 16, "head_dim": 64, "hidden": 512, "intermediate": 2048,
        "length": 1000, "vocab": 260, "max_position": 4096, "classes": 2, "least": 2, "dtype": "float32",
    },
    "wide-attention-2x24": {
        "mixer": "softmax", "layers": 2, "heads": 24, "head_dim": 64, "hidden": 512, "intermediate": 2048,
        "length": 1000, "vocab": 260, "max_position": 4096, "classes": 2, "least": 2, "dtype": "float32",
    },
    "wide-attention-1x48": {
        "mixer": "softmax", "layers": 1, "heads": 48, "head_dim": 64, "hidden": 512, "intermediate": 2048,
        "length": 1000, "vocab": 260, "max_position": 4096, "classes": 2, "least": 2, "dtype": "float32",
    },
    "wide-attention-lra-deep": {
        "mixer": "softmax", "layers": 4, "heads": 4, "head_dim": 64, "hidden": 256, "intermediate": 1024,
        "length": 1000, "vocab": 260, "max_position": 4096, "classes": 2, "least": 2, "dtype": "float32",
    },
    "wide-attention-lra-wide": {
        "mixer": "softmax", "layers": 1, "heads": 16, "head_dim": 64, "hidden": 256, "intermediate": 1024,
        "length": 1000, "vocab": 260, "max_position": 4096, "classes": 2, "least": 2, "dtype": "float32",
    },
    "wide-linear-6x8": {
        "mixer": "linear", "layers": 6, "heads": 8, "head_dim": 64, "hidden": 512, "intermediate": 2048,
        "length": 1000, "vocab": 260, "max_position": 4096, "classes": 2, "least": 2, "dtype": "float32",
    },
    "wide-linear-1x48": {
        "mixer": "linear", "layers": 1, "heads": 48, "head_dim": 64, "hidden": 512, "intermediate": 2048,
        "length": 1000, "vocab": 260, "max_position": 4096, "classes": 2, "least": 2, "dtype": "float32",
    },
    "wide-linformer-6x8": {
        "mixer": "linformer", "rank": 32, "shared": True, "layers": 6, "heads": 8, "head_dim": 64,
        "hidden": 512, "intermediate": 2048, "length": 1000, "vocab": 260, "max_position": 4096, "classes": 2,
        "least": 2, "dtype": "float32",
    },
    "wide-linformer-1x48": {
        "mixer": "linformer", "rank": 32, "shared": True, "layers": 1, "heads": 48, "head_dim": 64,
        "hidden": 512, "intermediate": 2048, "length": 1000, "vocab": 260, "max_position": 4096, "classes": 2,
        "least": 2, "dtype": "float32",
    },
    "wide-attention-local-6x8": {
        "mixer": "local", "block": 50, "layers": 6, "heads": 8, "head_dim": 64, "hidden": 512,
        "intermediate": 2048, "length": 1000, "vocab": 260, "max_position": 4096, "classes": 2, "least": 100,
        "dtype": "float32",
    },
    "wide-attention-local-1x48": {
        "mixer": "local", "block": 50, "layers": 1, "heads": 48, "head_dim": 64, "hidden": 512,
        "intermediate": 2048, "length": 1000, "vocab": 260, "max_position": 4096, "classes": 2, "least": 100,
        "dtype": "float32",
    },
    "wide-attention-listops": {
        "mixer": "softmax", "layers": 4, "heads": 8, "head_dim": 64, "hidden": 512, "intermediate": 1024,
        "length": 2000, "vocab": 20, "max_position": 4096, "classes": 10, "least": 2, "dtype": "float32",
    },
    "wide-attention-matching": {
        "mixer": "softmax", "layers": 4, "heads": 4, "head_dim": 32, "hidden": 128, "intermediate": 512,
        "length": 4000, "vocab": 260, "max_position": 4096, "classes": 2, "least": 2, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "seq": {"default": "length", "min": "least", "max": "max_position", "meaning": "bytes per sequence"},
}
BASELINES = {"deep": "wide-attention-6x8", "deep, arena sizes": "wide-attention-lra-deep"}


class Classifier(nn.Module):
    """Bytes to class scores."""

    positions: Tensor

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width = c["hidden"]
        self.embedding = nn.Embedding(c["vocab"], width)
        self.register_buffer("positions", sinusoids(c["max_position"], width), persistent=False)
        self.layers = nn.ModuleList(
            MixerBlock(
                width, c["intermediate"], mixer(c["mixer"], width, c["heads"], c, head_dim=c["head_dim"])
            )
            for _ in range(c["layers"])
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, c["classes"])

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embedding(input_ids) + self.positions[: input_ids.shape[1]]
        for layer in self.layers:
            x = layer(x)
        scores: Tensor = self.head(self.norm(x).mean(dim=1))
        return scores


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return Classifier(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((token_ids("batch", "seq", config["vocab"]),))
