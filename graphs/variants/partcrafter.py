"""Diffusion transformer over the parts of a 3-D object, local and global attention in turn: PartCrafter.

"PartCrafter: Structured 3D Mesh Generation via Compositional Latent Diffusion Transformers", 2025; sizes as
in the released code (facts only). Every part is a sequence of latent tokens with a time token and a part
embedding. Even blocks attend over all tokens of all parts, odd blocks inside parts; both cross-attend to
image tokens, whose keys and values are projected for every part although global blocks use one copy. The
second half of the blocks takes the outputs of the first half beside its input. One forward is one denoising
step; guidance doubles `batch`. The number of image tokens is a size (257 by own choice). "-vae" decodes
latents by reading them at `queries` points; "-image-encoder" is the ViT-L/14 before it all; the width of
the time MLP is an own choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.image_layers import split_heads
from graphs.inputs import Example, Input
from graphs.layers import MLP, Attention, PreNormBlock
from graphs.variants.dit import sinusoids
from graphs.variants.vit import ViT

FAMILY = "diffusion"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "partcrafter": {
        "module": "denoiser", "hidden": 2048, "layers": 21, "heads": 16, "intermediate": 8192,
        "latent": 64, "image_width": 1024, "most_parts": 32, "tokens_per_part": 1024, "dtype": "float16",
    },
    "partcrafter-512": {
        "module": "denoiser", "hidden": 2048, "layers": 21, "heads": 16, "intermediate": 8192,
        "latent": 64, "image_width": 1024, "most_parts": 32, "tokens_per_part": 512, "dtype": "float16",
    },
    "partcrafter-scene": {
        "module": "denoiser", "hidden": 2048, "layers": 21, "heads": 16, "intermediate": 8192,
        "latent": 64, "image_width": 1024, "most_parts": 32, "tokens_per_part": 2048, "dtype": "float16",
    },
    "partcrafter-vae": {
        "module": "vae", "hidden": 1024, "layers": 16, "heads": 8, "intermediate": 4096, "latent": 64,
        "frequencies": 8, "most_parts": 32, "tokens_per_part": 1024, "dtype": "float16",
    },
    "partcrafter-image-encoder": {
        "module": "image", "hidden": 1024, "layers": 24, "heads": 16, "intermediate": 4096, "side": 224,
        "patch": 14, "channels": 3, "classes": 1, "activation": "gelu", "norm_eps": 1e-6,
        "tokens_per_part": 1024, "most_parts": 32, "dtype": "float16",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "objects, twice that under guidance"},
    "parts": {"default": 8, "min": 1, "max": "most_parts", "meaning": "parts per object"},
    "tokens": {"default": "tokens_per_part", "min": 1, "max": None, "meaning": "latent tokens per part"},
    "image_tokens": {"default": 257, "min": 1, "max": None, "meaning": "tokens of the image encoder"},
    "queries": {"default": 65536, "min": 1, "max": None, "meaning": "points read at once"},
}
GUARDS: dict[str, list[str]] = {}
BASELINES = {"partcrafter": ["partcrafter-512"]}


class NormedAttention(nn.Module):
    """Attention without biases whose queries and keys are RMS-normed per head."""

    def __init__(self, hidden: int, heads: int, memory: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.key, self.value = (nn.Linear(memory, hidden, bias=False) for _ in range(2))
        self.out = nn.Linear(hidden, hidden)
        self.query_norm, self.key_norm = (nn.RMSNorm(hidden // heads, eps=1e-6) for _ in range(2))

    def forward(self, x: Tensor, memory: Tensor, parts: int) -> Tensor:
        """Tokens [batch x parts, tokens, hidden]; with `parts` above 1 as one sequence per object.

        Memory of a global block is the first part's copy where it is no part of x itself.
        """
        query, key, value = self.query(x), self.key(memory), self.value(memory)
        if parts > 1:
            query = query.unflatten(0, (-1, parts)).flatten(1, 2)
            if memory is x:
                key, value = (one.unflatten(0, (-1, parts)).flatten(1, 2) for one in (key, value))
            else:
                key, value = (one.unflatten(0, (-1, parts))[:, 0] for one in (key, value))
        query, key, value = (split_heads(one, self.heads) for one in (query, key, value))
        mixed = F.scaled_dot_product_attention(self.query_norm(query), self.key_norm(key), value)
        mixed = mixed.transpose(1, 2).flatten(2)
        if parts > 1:
            mixed = mixed.unflatten(1, (parts, -1)).flatten(0, 1)
        out: Tensor = self.out(mixed)
        return out


class Block(nn.Module):
    """Self-attention, cross-attention and MLP, each pre-normed in a residual, behind an optional skip."""

    def __init__(self, c: Mapping[str, Any], *, skips: bool) -> None:
        super().__init__()
        hidden, heads = c["hidden"], c["heads"]
        self.skip = nn.Linear(2 * hidden, hidden) if skips else None
        self.skip_norm = nn.LayerNorm(hidden) if skips else None
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(3))
        self.attention = NormedAttention(hidden, heads, hidden)
        self.cross_attention = NormedAttention(hidden, heads, c["image_width"])
        self.mlp = MLP(hidden, c["intermediate"], "gelu")

    def forward(self, x: Tensor, image: Tensor, parts: int, saved: Tensor | None) -> Tensor:
        if saved is not None and self.skip is not None and self.skip_norm is not None:
            x = self.skip_norm(self.skip(torch.cat([saved, x], dim=-1)))
        normed = self.norms[0](x)
        x = x + self.attention(normed, normed, parts)
        x = x + self.cross_attention(self.norms[1](x), image, parts)
        out: Tensor = x + self.mlp(self.norms[2](x))
        return out


class Denoiser(nn.Module):
    """Noisy latents of parts, a time step and image tokens to the velocity of every latent."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.hidden, self.layers = c["hidden"], c["layers"]
        self.enter, self.leave = nn.Linear(c["latent"], c["hidden"]), nn.Linear(c["hidden"], c["latent"])
        self.time = MLP(c["hidden"], c["hidden"], "gelu")
        self.part_embedding = nn.Embedding(c["most_parts"], c["hidden"])
        half = c["layers"] // 2
        self.blocks = nn.ModuleList(Block(c, skips=index > half) for index in range(c["layers"]))
        self.norm = nn.LayerNorm(c["hidden"])

    def forward(self, latents: Tensor, step: Tensor, image: Tensor) -> Tensor:
        """Latents [batch, parts, tokens, latent], steps [batch], image tokens [batch, tokens, width]."""
        batch, parts = latents.shape[:2]
        wave = sinusoids(step, self.hidden).to(latents.dtype)
        time = self.time(wave)[:, None, None].expand(-1, parts, -1, -1)
        x = torch.cat([time, self.enter(latents)], dim=2)
        x = (x + self.part_embedding(torch.arange(parts, device=x.device))[:, None]).flatten(0, 1)
        memory = image[:, None].expand(-1, parts, -1, -1).flatten(0, 1)
        kept: list[Tensor] = []
        half = self.layers // 2
        for index, block in enumerate(self.blocks):
            saved = kept.pop() if index > half else None
            x = block(x, memory, parts if index % 2 == 0 else 1, saved)
            if index < half:
                kept.append(x)
        out: Tensor = self.leave(self.norm(x)[:, 1:]).unflatten(0, (batch, parts))
        return out


class Decoder(nn.Module):
    """Latents of parts to occupancy at query points: self-attention, then one cross-attention."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden, heads = c["hidden"], c["heads"]
        self.enter = nn.Linear(c["latent"], hidden)
        self.blocks = nn.ModuleList(
            PreNormBlock(hidden, heads, c["intermediate"], "gelu", fused=False) for _ in range(c["layers"])
        )
        self.frequencies = c["frequencies"]
        self.query = nn.Linear(3 * (2 * c["frequencies"] + 1), hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(4))
        self.cross_attention = Attention(hidden, heads)
        self.mlp = MLP(hidden, c["intermediate"], "gelu")
        self.leave = nn.Linear(hidden, 1)

    def forward(self, latents: Tensor, points: Tensor) -> Tensor:
        """Latents [batch, parts, tokens, latent] and points [batch, parts, queries, 3]."""
        x = self.enter(latents).flatten(0, 1)
        for block in self.blocks:
            x, _ = block(x)
        memory = self.cross_attention.keys_values(self.norms[0](x))
        octave = 2.0 ** torch.arange(self.frequencies, device=points.device, dtype=points.dtype)
        angle = (points.flatten(0, 1)[..., None] * octave).flatten(2)
        place = torch.cat([points.flatten(0, 1), angle.sin(), angle.cos()], dim=-1)
        query = self.query(place)
        query = query + self.cross_attention.cross(self.norms[1](query), memory)
        query = query + self.mlp(self.norms[2](query))
        out: Tensor = self.leave(self.norms[3](query))
        return out


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    if config["module"] == "image":
        return ViT(config)
    return Denoiser(config) if config["module"] == "denoiser" else Decoder(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    if config["module"] == "image":
        return Example((Input(("batch", config["channels"], config["side"], config["side"]), "model"),))
    latents = Input(("batch", "parts", "tokens", config["latent"]), "model")
    if config["module"] == "vae":
        return Example((latents, Input(("batch", "parts", "queries", 3), "model")))
    image = Input(("batch", "image_tokens", config["image_width"]), "model")
    return Example((latents, Input(("batch",), "int64", high=1000), image))
