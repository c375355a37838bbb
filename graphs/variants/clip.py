"""Image and text towers compared by cosine: CLIP.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020,
2021. A ViT with a norm before its layers and a causal text transformer, both pre-norm with the quick GELU,
each projected to a common width; the text is read at its end token, the one with the largest id. `batch`
images are scored against `texts` captions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input, token_ids
from graphs.layers import PreNormBlock

FAMILY = "multimodal"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "clip-vit-b-32": {
        "side": 224, "patch": 32, "channels": 3, "hidden": 768, "layers": 12, "heads": 12,
        "text_hidden": 512, "text_layers": 12, "text_heads": 8, "vocab": 49408, "max_position": 77,
        "shared": 512, "dtype": "float32",
    },
    "clip-vit-b-16": {
        "side": 224, "patch": 16, "channels": 3, "hidden": 768, "layers": 12, "heads": 12,
        "text_hidden": 512, "text_layers": 12, "text_heads": 8, "vocab": 49408, "max_position": 77,
        "shared": 512, "dtype": "float32",
    },
    "clip-vit-l-14": {
        "side": 224, "patch": 14, "channels": 3, "hidden": 1024, "layers": 24, "heads": 16,
        "text_hidden": 768, "text_layers": 12, "text_heads": 12, "vocab": 49408, "max_position": 77,
        "shared": 768, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "images"},
    "texts": {"default": "batch", "min": 1, "max": None, "meaning": "captions"},
    "seq": {"default": "max_position", "min": 1, "max": "max_position", "meaning": "tokens per caption"},
}
GUARDS = {"forward": ["seq <= max_position"]}
BASELINES: dict[str, Any] = {}


class ImageTower(nn.Module):
    """Images [batch, channels, side, side] to [batch, shared]."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden = c["hidden"]
        self.patches = nn.Conv2d(c["channels"], hidden, c["patch"], stride=c["patch"], bias=False)
        self.class_token = nn.Parameter(torch.zeros(hidden))
        self.positions = nn.Parameter(torch.zeros((c["side"] // c["patch"]) ** 2 + 1, hidden))
        self.first_norm = nn.LayerNorm(hidden)
        self.layers = nn.ModuleList(
            PreNormBlock(hidden, c["heads"], 4 * hidden, "quick_gelu") for _ in range(c["layers"])
        )
        self.norm = nn.LayerNorm(hidden)
        self.projection = nn.Linear(hidden, c["shared"], bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(x.shape[0], 1, -1), x], dim=1) + self.positions
        x = self.first_norm(x)
        for layer in self.layers:
            x, _ = layer(x)
        out: Tensor = self.projection(self.norm(x[:, 0]))
        return out


class TextTower(nn.Module):
    """Token ids [texts, seq] to [texts, shared]."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden = c["text_hidden"]
        self.embedding = nn.Embedding(c["vocab"], hidden)
        self.positions = nn.Embedding(c["max_position"], hidden)
        self.layers = nn.ModuleList(
            PreNormBlock(hidden, c["text_heads"], 4 * hidden, "quick_gelu") for _ in range(c["text_layers"])
        )
        self.norm = nn.LayerNorm(hidden)
        self.projection = nn.Linear(hidden, c["shared"], bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.embedding(input_ids) + self.positions(positions)
        for layer in self.layers:
            x, _ = layer(x, causal=True)
        texts = torch.arange(input_ids.shape[0], device=input_ids.device)
        out: Tensor = self.projection(self.norm(x)[texts, input_ids.argmax(dim=-1)])
        return out


class CLIP(nn.Module):
    """Images and captions to scaled cosines [batch, texts]."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.image = ImageTower(c)
        self.text = TextTower(c)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, pixels: Tensor, input_ids: Tensor) -> Tensor:
        image, text = F.normalize(self.image(pixels), dim=-1), F.normalize(self.text(input_ids), dim=-1)
        return self.log_scale.exp() * image @ text.t()


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return CLIP(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    pixels = Input(("batch", config["channels"], config["side"], config["side"]), "model")
    return Example((pixels, token_ids("texts", "seq", config["vocab"])))
