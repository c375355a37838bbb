"""Local layers inside groups of tokens, global layers over a few latents per group: FIT.

Chen & Li, "FIT: Far-reaching Interleaved Transformers", arXiv:2305.12689, 2023. Tokens are cut into groups;
`local` layers work inside a group, latents read their group by cross-attention, `wide` layers work over the
latents of all groups, and the tokens read back what these found, except after the last block. Reads and
writes have no MLP; their heads are the fewer of both sides and as wide as the narrower side allows.
Published are the mechanism, 160000 tokens of a 6400 x 6400 image and 16 GB; widths, group sizes, latents
and depths are our own choice around them, and so are the 1024-pixel encoder and the autoregressive model
(causal inside groups, latents of earlier groups only, latents shifted by one group, tied output).
`fit-local` has no global layers; `fit-full` is full attention over the same tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input
from graphs.layers import PreNormBlock

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "fit-6400": {
        "blocks": [2, 4, 2, 4, 2], "group": 256, "latents": 8, "width": 256, "latent_width": 512, "heads": 4,
        "latent_heads": 8, "patch": 768, "vocab": 0, "default_groups": 625, "dtype": "bfloat16",
    },
    "fit-1024": {
        "blocks": [4, 8, 4], "group": 256, "latents": 32, "width": 512, "latent_width": 768, "heads": 8,
        "latent_heads": 12, "patch": 768, "vocab": 0, "default_groups": 16, "dtype": "bfloat16",
    },
    "fit-ar": {
        "blocks": [4, 8, 4], "group": 256, "latents": 16, "width": 512, "latent_width": 768, "heads": 8,
        "latent_heads": 12, "patch": 0, "vocab": 256, "default_groups": 48, "dtype": "bfloat16",
    },
    "fit-local": {
        "blocks": [2, 0, 2, 0, 2], "group": 256, "latents": 8, "width": 256, "latent_width": 512, "heads": 4,
        "latent_heads": 8, "patch": 768, "vocab": 0, "default_groups": 625, "dtype": "bfloat16",
    },
    "fit-full": {
        "blocks": [6], "group": 160000, "latents": 8, "width": 256, "latent_width": 512, "heads": 4,
        "latent_heads": 8, "patch": 768, "vocab": 0, "default_groups": 1, "dtype": "bfloat16",
    },
    "fit-slope-4k": {
        "blocks": [1, 1, 1], "group": 16, "latents": 1, "width": 256, "latent_width": 256, "heads": 4,
        "latent_heads": 4, "patch": 768, "vocab": 0, "default_groups": 256, "dtype": "bfloat16",
    },
    "fit-slope-262k": {
        "blocks": [1, 1, 1], "group": 64, "latents": 1, "width": 256, "latent_width": 256, "heads": 4,
        "latent_heads": 4, "patch": 768, "vocab": 0, "default_groups": 4096, "dtype": "bfloat16",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "images"},
    "groups": {"default": "default_groups", "min": 1, "max": None, "meaning": "groups of tokens"},
}
BASELINES = {"full self-attention": "fit-full", "local-only": "fit-local"}


class Cross(nn.Module):
    """Asking tokens attend to others of another width; LayerNorm on both, residual, no MLP."""

    def __init__(self, asking: int, asked: int, heads: int) -> None:
        super().__init__()
        inner = min(asking, asked)
        self.heads = heads
        self.asking_norm, self.asked_norm = nn.LayerNorm(asking), nn.LayerNorm(asked)
        self.query, self.out = nn.Linear(asking, inner), nn.Linear(inner, asking)
        self.key, self.value = nn.Linear(asked, inner), nn.Linear(asked, inner)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        memory = self.asked_norm(memory)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(self.asking_norm(x)), self.key(memory), self.value(memory))
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = x + self.out(mixed.transpose(1, 2).flatten(2))
        return out


class Fit(nn.Module):
    """Groups of patches [batch, groups, group, 768] or of token ids to hidden states or logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width, wide = c["width"], c["latent_width"]
        self.latent_count, self.causal = c["latents"], c["vocab"] > 0
        self.embed = nn.Embedding(c["vocab"], width) if c["vocab"] else nn.Linear(c["patch"], width)
        self.positions = nn.Parameter(torch.zeros(c["group"], width))
        self.latents = nn.Parameter(torch.zeros(c["latents"], wide))
        self.norm = nn.LayerNorm(width)
        local, above = c["blocks"][::2], c["blocks"][1::2]
        self.depths = above
        self.local = nn.ModuleList(_layers(count, width, c["heads"]) for count in local)
        self.wide = nn.ModuleList(_layers(count, wide, c["latent_heads"]) for count in above)
        heads = min(c["heads"], c["latent_heads"])
        self.read = nn.ModuleList(Cross(wide, width, heads) if count else nn.Identity() for count in above)
        self.write = nn.ModuleList(Cross(width, wide, heads) if count else nn.Identity() for count in above)
        self.last_norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, groups = tokens.shape[:2]
        x = (self.norm(self.embed(tokens)) + self.positions).flatten(0, 1)
        latents = self.latents.expand(batch * groups, -1, -1)
        for index, layers in enumerate(self.local):
            x = _through(layers, x, causal=self.causal)
            if index < len(self.depths) and self.depths[index] > 0:
                latents = self._wide(self.wide[index], self.read[index](latents, x), groups)
                x = self.write[index](x, self._seen(latents, groups))
        x = self.last_norm(x)
        if self.causal:
            x = F.linear(x, self.embed.weight)
        out: Tensor = x.unflatten(0, (-1, groups))
        return out

    def _wide(self, layers: nn.Module, latents: Tensor, groups: int) -> Tensor:
        """Global layers over the latents of all groups; those of later groups are hidden when causal."""
        together = latents.unflatten(0, (-1, groups)).flatten(1, 2)
        mask = None
        if self.causal:
            owner = torch.arange(together.shape[1], device=together.device) // self.latent_count
            mask = owner[:, None] >= owner[None]
        together = _through(layers, together, mask=mask)
        apart: Tensor = together.unflatten(1, (groups, -1))
        return apart.flatten(0, 1)

    def _seen(self, latents: Tensor, groups: int) -> Tensor:
        """The latents a group reads: its own, or those of the group before when causal."""
        if not self.causal:
            return latents
        apart: Tensor = latents.unflatten(0, (-1, groups))
        return F.pad(apart, (0, 0, 0, 0, 1, 0))[:, :-1].flatten(0, 1)


def _layers(count: int, width: int, heads: int) -> nn.ModuleList:
    return nn.ModuleList(PreNormBlock(width, heads, 4 * width, "gelu") for _ in range(count))


def _through(layers: nn.Module, x: Tensor, *, causal: bool = False, mask: Tensor | None = None) -> Tensor:
    for layer in layers.children():
        x, _ = layer(x, causal=causal, mask=mask)
    return x


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return Fit(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    if config["vocab"]:
        return Example((Input(("batch", "groups", config["group"]), "int64", high=config["vocab"]),))
    return Example((Input(("batch", "groups", config["group"], config["patch"]), "model"),))
