"""Image tokenizer of Parti: a ViT encoder, nearest codes of a small codebook, a ViT decoder (ViT-VQGAN).

Yu et al., "Vector-Quantized Image Modeling with Improved VQGAN", 2022, in the sizes Parti used (from
memory, unverified): 256 x 256 pixels in patches of 8 become 1024 tokens of an l2-normalised codebook of
8192 entries of dimension 32. "parti-vit-vqgan" is the small tokenizer both ways; "parti-detokenizer" the
decoder of 32 layers, 1280 wide, that turns generated tokens into pixels. The MLP's activation (tanh in the
original, from memory) is GELU here, an own choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input, token_ids
from graphs.layers import PreNormBlock

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "parti-vit-vqgan": {
        "hidden": 512, "layers": 8, "heads": 8, "intermediate": 2048, "side": 256, "patch": 8,
        "channels": 3, "codes": 8192, "code_width": 32, "encodes": True, "dtype": "float32",
    },
    "parti-detokenizer": {
        "hidden": 1280, "layers": 32, "heads": 16, "intermediate": 5120, "side": 256, "patch": 8,
        "channels": 3, "codes": 8192, "code_width": 32, "encodes": False, "dtype": "bfloat16",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "images"}}
GUARDS: dict[str, list[str]] = {}
BASELINES: dict[str, Any] = {}


class Layers(nn.Module):
    """Learned positions, pre-norm layers and a closing norm."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(1, (c["side"] // c["patch"]) ** 2, c["hidden"]))
        self.blocks = nn.ModuleList(
            PreNormBlock(c["hidden"], c["heads"], c["intermediate"], "gelu") for _ in range(c["layers"])
        )
        self.norm = nn.LayerNorm(c["hidden"])

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.positions
        for block in self.blocks:
            x, _ = block(x)
        out: Tensor = self.norm(x)
        return out


class Encoder(nn.Module):
    """Images to l2-normalised vectors of code width, one per patch."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.patches = nn.Conv2d(c["channels"], c["hidden"], c["patch"], stride=c["patch"])
        self.layers, self.narrow = Layers(c), nn.Linear(c["hidden"], c["code_width"])

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patches(pixels).flatten(2).transpose(1, 2).contiguous()
        return F.normalize(self.narrow(self.layers(x)), dim=-1)


class Tokenizer(nn.Module):
    """Token ids to pixels, or pixels to ids and back."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.grid, self.patch = c["side"] // c["patch"], c["patch"]
        self.encoder = Encoder(c) if c["encodes"] else None
        self.codebook = nn.Embedding(c["codes"], c["code_width"])
        self.widen, self.layers = nn.Linear(c["code_width"], c["hidden"]), Layers(c)
        self.pixels = nn.Linear(c["hidden"], c["channels"] * c["patch"] ** 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.encoder is None:
            code = F.normalize(self.codebook(x), dim=-1)
        else:
            found = self.encoder(x)
            codes = F.normalize(self.codebook.weight, dim=-1)
            code = F.embedding((found @ codes.t()).argmax(-1), codes)
            code = found + (code - found)  # the encoder learns through the chosen code
        x = self.pixels(self.layers(self.widen(code)))
        x = x.unflatten(1, (self.grid, self.grid)).unflatten(-1, (-1, self.patch, self.patch))
        return x.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return Tokenizer(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    if config["encodes"]:
        return Example((Input(("batch", config["channels"], config["side"], config["side"]), "model"),))
    return Example((token_ids("batch", (config["side"] // config["patch"]) ** 2, config["codes"]),))
