"""Person re-identification with part tokens that see random stripes of the image: Part-Aware Transformer.

Ni et al., "Part-Aware Transformer for Generalizable Person Re-identification", 2023; sizes as in the released
code. A ViT on 256 x 128 crops with three part tokens beside the class token. One random mask per forward,
in testing too, shared by the batch: each part token sees itself, the class token and a random rectangle of
its stripe. The released attention is written out, scores masked before and weights masked after the softmax,
which rules out fused kernels; "-fused" is the same network with one masked attention operator (own choice),
"-plain" the ViT without part tokens. The final norm is applied to the tokens of all layers; the answer is
the class token of the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.image_layers import split_heads
from graphs.inputs import Example, Input
from graphs.layers import MLP

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "pat-vit-b-16": {
        "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072, "height": 256, "width": 128,
        "patch": 16, "channels": 3, "parts": 3, "fused": False, "dtype": "float32",
    },
    "pat-deit-s-16": {
        "layers": 12, "hidden": 384, "heads": 6, "intermediate": 1536, "height": 256, "width": 128,
        "patch": 16, "channels": 3, "parts": 3, "fused": False, "dtype": "float32",
    },
    "pat-vit-l-16": {
        "layers": 24, "hidden": 1024, "heads": 16, "intermediate": 4096, "height": 256, "width": 128,
        "patch": 16, "channels": 3, "parts": 3, "fused": False, "dtype": "float32",
    },
    "pat-vit-b-16-fused": {
        "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072, "height": 256, "width": 128,
        "patch": 16, "channels": 3, "parts": 3, "fused": True, "dtype": "float32",
    },
    "pat-vit-b-16-plain": {
        "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072, "height": 256, "width": 128,
        "patch": 16, "channels": 3, "parts": 0, "fused": True, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "person crops"}}
GUARDS: dict[str, list[str]] = {}
BASELINES = {"pat-vit-b-16": ["pat-vit-b-16-plain", "pat-vit-b-16-fused"]}


class MaskedAttention(nn.Module):
    """Attention under a mask, written out as released or as one operator."""

    def __init__(self, hidden: int, heads: int, *, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.query_key_value, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        query, key, value = (
            split_heads(part, self.heads) for part in self.query_key_value(x).chunk(3, dim=-1)
        )
        if self.fused or seen is None:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        else:
            scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
            mixed = scores.masked_fill(~seen, -1000.0).softmax(-1) * seen @ value
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Masked attention and MLP, each pre-normed inside a residual."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = (nn.LayerNorm(c["hidden"], eps=1e-6) for _ in range(2))
        self.attention = MaskedAttention(c["hidden"], c["heads"], fused=c["fused"])
        self.mlp = MLP(c["hidden"], c["intermediate"], "gelu")

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), seen)
        x = x + self.mlp(self.mlp_norm(x))
        return x


class PartAware(nn.Module):
    """Crops [batch, channels, height, width] to the class token."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.parts, self.rows, self.columns = c["parts"], c["height"] // c["patch"], c["width"] // c["patch"]
        tokens = 1 + self.parts + self.rows * self.columns
        self.patches = nn.Conv2d(c["channels"], c["hidden"], c["patch"], stride=c["patch"])
        self.leading = nn.Parameter(torch.zeros(1, 1 + self.parts, c["hidden"]))
        self.positions = nn.Parameter(torch.zeros(1, tokens, c["hidden"]))
        self.layers = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.norm = nn.LayerNorm(c["hidden"], eps=1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.leading.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        seen = self._seen(x.device) if self.parts else None
        every = []
        for layer in self.layers:
            x = layer(x, seen)
            every.append(self.norm(x))
        out: Tensor = every[-1][:, 0]
        return out

    def _seen(self, device: torch.device) -> Tensor:
        """[tokens, tokens]: patches and class token see each other, a part only its rectangle, both ways."""
        leading, patches = 1 + self.parts, self.rows * self.columns
        row = torch.arange(self.rows, device=device).repeat_interleave(self.columns)
        column = torch.arange(self.columns, device=device).repeat(self.rows)
        rectangles = torch.stack([self._rectangle(part, row, column) for part in range(self.parts)])
        top = torch.cat([torch.ones(1, patches, dtype=torch.bool, device=device), rectangles])
        corner = torch.eye(leading, dtype=torch.bool, device=device)
        corner = corner | (torch.arange(leading, device=device) == 0)
        corner = corner | corner.t()
        patch_rows = torch.cat(
            [top.t(), torch.ones(patches, patches, dtype=torch.bool, device=device)], dim=1
        )
        return torch.cat([torch.cat([corner, top], dim=1), patch_rows])

    def _rectangle(self, part: int, row: Tensor, column: Tensor) -> Tensor:
        """A random rectangle inside the stripe of a part: half the rows, a quarter further down each."""
        start = part * self.rows // (self.parts + 1)
        rows = start + torch.rand(2, device=row.device) * (self.rows // 2)
        columns = torch.rand(2, device=row.device) * self.columns
        inside_rows = (row >= rows.amin().floor()) & (row <= rows.amax())
        out: Tensor = inside_rows & (column >= columns.amin().floor()) & (column <= columns.amax())
        return out


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return PartAware(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((Input(("batch", config["channels"], config["height"], config["width"]), "model"),))
