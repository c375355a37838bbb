"""Image restoration with attention inside given regions, as dense attention under a mask: RAT.

"Region Attention Transformer for Medical Image Restoration", 2024; sizes as in the released code. A U-shaped
network of gated convolutional blocks whose bottleneck, at a quarter of the side, alternates attention inside
semantic regions (an index map that comes from outside, painted by a segmentation model) with attention in
4 x 4 windows. The released code computes dense attention over all places with a large negative mask, so its
cost grows with the fourth power of the side; "-windows" replaces it by windows, "-sparse" attends inside
sixteen equal, sorted regions (own choices, baselines). Size `regions`: ids in the index map.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.image_layers import ChannelNorm, depthwise, from_windows, into_windows, split_heads
from graphs.inputs import Example, Input, SymbolValue

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "rat": {
        "width": 64, "blocks": 2, "groups": 4, "group_layers": 3, "heads": 8, "window": 4, "mlp_ratio": 2,
        "regional": "masked", "side": 128, "channels": 1, "dtype": "float32",
    },
    "rat-256": {
        "width": 64, "blocks": 2, "groups": 4, "group_layers": 3, "heads": 8, "window": 4, "mlp_ratio": 2,
        "regional": "masked", "side": 256, "channels": 1, "dtype": "float32",
    },
    "rat-256-sparse": {
        "width": 64, "blocks": 2, "groups": 4, "group_layers": 3, "heads": 8, "window": 4, "mlp_ratio": 2,
        "regional": "sorted", "side": 256, "channels": 1, "dtype": "float32",
    },
    "rat-256-windows": {
        "width": 64, "blocks": 2, "groups": 4, "group_layers": 3, "heads": 8, "window": 4, "mlp_ratio": 2,
        "regional": "windows", "side": 256, "channels": 1, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "images"},
    "regions": {"default": 16, "min": 1, "max": None, "meaning": "regions per image"},
}
GUARDS: dict[str, list[str]] = {}
BASELINES = {"rat-256": ["rat-256-sparse", "rat-256-windows"]}
SORTED_REGIONS = 16  # equal parts of the sparse baseline


class GatedBlock(nn.Module):
    """A gated depthwise mixer with channel attention and a gated 1x1 mixer, each a scaled residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ChannelNorm(width) for _ in range(2))
        self.spread = nn.ModuleList(nn.Conv2d(width, 2 * width, 1) for _ in range(2))
        self.local = depthwise(2 * width, 3)
        self.channel_gate = nn.Conv2d(width, width, 1)
        self.merge = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(2))
        self.gains = nn.ParameterList(nn.Parameter(torch.ones(1, width, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.local(self.spread[0](self.norms[0](x))).chunk(2, dim=1)
        mixed = first * second
        mixed = mixed * self.channel_gate(mixed.mean(dim=(2, 3), keepdim=True))
        x = x + self.merge[0](mixed) * self.gains[0]
        first, second = self.spread[1](self.norms[1](x)).chunk(2, dim=1)
        x = x + self.merge[1](first * second) * self.gains[1]
        return x


class RegionAttention(nn.Module):
    """Attention between places of one region, on maps [batch, width, height, side]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, hidden: Tensor | None) -> Tensor:
        """`hidden` is added to the scores; without it the places are taken as sorted into equal regions."""
        parts = self.query_key_value(x).flatten(2).transpose(1, 2)
        if hidden is None:
            parts = parts.unflatten(1, (SORTED_REGIONS, -1)).flatten(0, 1)
        query, key, value = (split_heads(part, self.heads) for part in parts.chunk(3, dim=-1))
        scale = self.heads**-0.5  # of the number of heads, as released
        mask = None if hidden is None else hidden[:, None]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
        mixed = mixed.transpose(1, 2).flatten(2)
        if hidden is None:
            mixed = mixed.unflatten(0, (-1, SORTED_REGIONS)).flatten(1, 2)
        out: Tensor = self.out(mixed.transpose(1, 2).unflatten(2, x.shape[2:]).contiguous())
        return out


class WindowAttention(nn.Module):
    """Attention inside windows, without shift or positions."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, hidden: Tensor | None) -> Tensor:
        rows, columns = x.shape[2] // self.window, x.shape[3] // self.window
        windows = into_windows(x.permute(0, 2, 3, 1), self.window).flatten(0, 1)
        parts = self.query_key_value(windows).chunk(3, dim=-1)
        query, key, value = (split_heads(part, self.heads) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        whole = from_windows(self.out(mixed).unflatten(0, (-1, rows * columns)), self.window, rows, columns)
        return whole.permute(0, 3, 1, 2).contiguous()


class Layer(nn.Module):
    """Region attention, MLP, window attention, MLP, each normed and scaled inside a residual."""

    def __init__(self, c: Mapping[str, Any], width: int) -> None:
        super().__init__()
        wide = c["mlp_ratio"] * width
        regional = (
            WindowAttention(width, c["heads"], c["window"])
            if c["regional"] == "windows"
            else RegionAttention(width, c["heads"])
        )
        self.regional, self.windowed = regional, WindowAttention(width, c["heads"], c["window"])
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, wide, 1), nn.GELU(), nn.Conv2d(wide, width, 1)) for _ in range(2)
        )
        self.norms = nn.ModuleList(ChannelNorm(width) for _ in range(4))
        self.gains = nn.ParameterList(nn.Parameter(torch.ones(1, width, 1, 1)) for _ in range(4))

    def forward(self, x: Tensor, hidden: Tensor | None) -> Tensor:
        for at, (mixer, mlp) in enumerate(zip((self.regional, self.windowed), self.mlps, strict=True)):
            x = x + mixer(self.norms[2 * at](x), hidden) * self.gains[2 * at]
            x = x + mlp(self.norms[2 * at + 1](x)) * self.gains[2 * at + 1]
        return x


class RAT(nn.Module):
    """Images [batch, channels, side, side] and region ids [batch, side, side] to restored images."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width, blocks = c["width"], c["blocks"]
        self.masked = c["regional"] == "masked"
        self.stem = nn.Conv2d(c["channels"], width, 3, padding=1)
        self.encoders = nn.ModuleList(
            nn.Sequential(*(GatedBlock(wide) for _ in range(blocks))) for wide in (width, 2 * width)
        )
        self.down = nn.ModuleList(nn.Conv2d(wide, 2 * wide, 2, stride=2) for wide in (width, 2 * width))
        self.groups = nn.ModuleList(
            nn.ModuleList(Layer(c, 4 * width) for _ in range(c["group_layers"])) for _ in range(c["groups"])
        )
        self.closing = nn.ModuleList(
            nn.Conv2d(4 * width, 4 * width, 3, padding=1) for _ in range(c["groups"])
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(wide, 2 * wide, 1, bias=False), nn.PixelShuffle(2))
            for wide in (4 * width, 2 * width)
        )
        self.decoders = nn.ModuleList(
            nn.Sequential(*(GatedBlock(wide) for _ in range(blocks))) for wide in (2 * width, width)
        )
        self.end = nn.Conv2d(width, c["channels"], 3, padding=1)

    def forward(self, image: Tensor, index: Tensor, regions: int) -> Tensor:
        hidden = self._hidden(index, regions, image) if self.masked else None
        x, skips = self.stem(image), []
        for encoder, down in zip(self.encoders, self.down, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        long = x
        for group, closing in zip(self.groups, self.closing, strict=True):
            before = x
            for layer in group:  # type: ignore[attr-defined]
                x = layer(x, hidden)
            x = closing(x) + before
        x = x + long
        for up, skip, decoder in zip(self.up, reversed(skips), self.decoders, strict=True):
            x = decoder(up(x) + skip)
        restored: Tensor = self.end(x) + image
        return restored

    def _hidden(self, index: Tensor, regions: int, like: Tensor) -> Tensor:
        """What is added to scores: 0 inside a region, -1000 across; [batch, places, places]."""
        ids = index[:, ::4, ::4].flatten(1)
        members = (ids[..., None] == torch.arange(regions, device=ids.device)).to(like.dtype)
        return (1 - members @ members.transpose(1, 2)) * -1000.0


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return RAT(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    side = config["side"]
    image = Input(("batch", config["channels"], side, side), "model")
    return Example((image, Input(("batch", side, side), "int64", high=2), SymbolValue("regions")))
