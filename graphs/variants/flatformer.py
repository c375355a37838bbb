"""Point cloud detector that sorts pillars and attends in groups of equal size: FlatFormer, and SST.

Liu et al., "FlatFormer: Flattened Window Attention for Efficient Point Cloud Transformer", 2023; sizes as
in the released Waymo configuration (facts only). Points become pillars by a small MLP and a maximum per
pillar. A layer gathers pillars in one of four orders (windows along x or y, shifted or not, serpentine
inside), cuts them into groups of 144 and attends inside groups, so nothing is padded but the last group.
Results are scattered to a 468 x 468 map for convolutions and a centre head; suppression of overlaps is left
out. How many `points` and non-empty `pillars` a frame has is data: 20 000 pillars and eight points each are
an own choice.

"sst" is the baseline that pads: windows of 12 x 12 pillars in buckets of 30, 60 and 144 tokens, 12 layers
(from memory, unverified). Its number of windows per bucket, half, a third and a sixth of the pillars held
at 75 % filling, is an own choice, as no histogram was at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.image_layers import ConvNorm, split_heads
from graphs.inputs import Example, Input
from graphs.layers import MLP
from graphs.variants.dit import sinusoids

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "flatformer": {
        "hidden": 128, "heads": 8, "intermediate": 256, "blocks": 2, "group": 144, "window": 13,
        "grid": 468, "features": 5, "buckets": [], "dtype": "float16",
    },
    "sst": {
        "hidden": 128, "heads": 8, "intermediate": 256, "blocks": 6, "group": 0, "window": 12, "grid": 468,
        "features": 5, "buckets": [30, 60, 144], "dtype": "float16",
    },
}
# fmt: on
SYMBOLS = {
    "pillars": {"default": 20000, "min": 2, "max": None, "meaning": "non-empty pillars of the frame"},
    "points": {"default": "8*pillars", "min": 2, "max": None, "meaning": "points of the frame"},
    "windows_1": {"default": "pillars//45", "min": 1, "max": None, "meaning": "windows of the least bucket"},
    "windows_2": {"default": "pillars//135", "min": 1, "max": None, "meaning": "windows of the next bucket"},
    "windows_3": {
        "default": "pillars//648",
        "min": 1,
        "max": None,
        "meaning": "windows of the largest bucket",
    },
}
GUARDS: dict[str, list[str]] = {}
BASELINES = {"flatformer": ["sst", "centerpoint"]}
BRANCHES = (3, 2, 1, 3, 2, 2, 1)  # heat map of three classes, offset, height, size, rotation, speed, overlap


class PillarEncoder(nn.Module):
    """Points [points, features] and their pillar to features per pillar."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        half = hidden // 2
        self.first = nn.Sequential(nn.Linear(features + 6, half, bias=False), nn.BatchNorm1d(half), nn.ReLU())
        self.second = nn.Sequential(
            nn.Linear(2 * half, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()
        )

    def forward(self, points: Tensor, pillar: Tensor, centres: Tensor) -> Tensor:
        place = points[:, :3]
        ones = torch.ones_like(place[:, :1])
        sums = place.new_zeros(centres.shape[0], 4).index_add(0, pillar, torch.cat([place, ones], dim=1))
        means = sums[:, :3] / sums[:, 3:].clamp(min=1)
        x = self.first(torch.cat([points, place - means[pillar], place - centres[pillar]], dim=1))
        x = self.second(torch.cat([x, self._highest(x, pillar, centres)[pillar]], dim=1))
        return self._highest(x, pillar, centres)

    def _highest(self, x: Tensor, pillar: Tensor, centres: Tensor) -> Tensor:
        index = pillar[:, None].expand(-1, x.shape[1])
        return x.new_zeros(centres.shape[0], x.shape[1]).scatter_reduce(0, index, x, "amax")


class Layer(nn.Module):
    """Attention inside rows of gathered pillars and an MLP, each normed after its residual."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden, self.heads = c["hidden"], c["heads"]
        self.query, self.key, self.value, self.out = (nn.Linear(hidden, hidden) for _ in range(4))
        self.attention_norm, self.mlp_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.mlp = MLP(hidden, c["intermediate"], "gelu")

    def attend(self, x: Tensor, position: Tensor, seen: Tensor | None = None) -> Tensor:
        """Rows [rows, tokens, hidden] with their positions; `seen` hides padding."""
        placed = x + position
        query, key, value = (
            split_heads(part, self.heads) for part in (self.query(placed), self.key(placed), self.value(x))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen).transpose(1, 2).flatten(2)
        out: Tensor = self.out(mixed)
        return out

    def close(self, x: Tensor, mixed: Tensor) -> Tensor:
        """What follows attention, per pillar."""
        x = self.attention_norm(x + mixed)
        out: Tensor = self.mlp_norm(x + self.mlp(x))
        return out


class FlatLayers(nn.Module):
    """Blocks of four layers, one for each order."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.group, self.window, self.grid = c["group"], c["window"], c["grid"]
        self.layers = nn.ModuleList(Layer(c) for _ in range(4 * c["blocks"]))

    def forward(self, x: Tensor, place: Tensor, position: Tensor) -> Tensor:
        orders = [
            self._order(place[:, axis], place[:, 1 - axis], shift)
            for axis in (0, 1)
            for shift in (0, self.window // 2)
        ]
        for index, layer in enumerate(self.layers):
            rows, back = orders[index % len(orders)]
            grouped = x[rows].unflatten(0, (-1, self.group))
            mixed = layer.attend(grouped, position[rows].unflatten(0, (-1, self.group)))  # type: ignore[operator]
            x = layer.close(x, mixed.flatten(0, 1)[back])  # type: ignore[operator]
        return x

    def _order(self, along: Tensor, across: Tensor, shift: int) -> tuple[Tensor, Tensor]:
        """Rows to gather, whole groups of them, and where each pillar stands among them."""
        window, count = self.window, along.shape[0]
        first, second = along + shift, across + shift
        inner = second % window
        serpentine = torch.where(inner % 2 == 0, first % window, window - 1 - first % window)
        windows = self.grid // window + 2
        key = ((second // window) * windows + first // window) * window**2 + inner * window + serpentine
        order = key.sort().indices
        groups = (count + self.group - 1) // self.group
        at = torch.arange(groups * self.group, device=order.device)
        at = torch.where(at < count, at, at - self.group).clamp(
            min=0, max=count - 1
        )  # the last group repeats
        back = torch.zeros_like(order).scatter(0, order, torch.arange(count, device=order.device))
        return order[at], back


class PaddedLayers(nn.Module):
    """Two layers per block on windows padded to the size of their bucket."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(c) for _ in range(2 * c["blocks"]))

    def forward(self, x: Tensor, position: Tensor, buckets: list[Tensor]) -> Tensor:
        """Buckets hold pillar numbers [windows, tokens]; number 0 pads."""
        for layer in self.layers:
            mixed = torch.zeros_like(x)
            for rows in buckets:
                seen = (rows > 0)[:, None, None]
                found = layer.attend(x[rows], position[rows], seen | ~seen.any(-1, keepdim=True))  # type: ignore[operator]
                mixed = mixed.index_put((rows,), found)
            x = layer.close(x, mixed)  # type: ignore[operator]
        return x


class MapHead(nn.Module):
    """Two stages of convolutions on the map, brought to one size, and the branches of the centre head."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        half = hidden // 2
        self.first = nn.Sequential(
            ConvNorm(hidden, half, 3, activation="relu"),
            *(ConvNorm(half, half, 3, activation="relu") for _ in range(3)),
        )
        self.second = nn.Sequential(
            ConvNorm(half, hidden, 3, stride=2, activation="relu"),
            *(ConvNorm(hidden, hidden, 3, activation="relu") for _ in range(3)),
        )
        self.same = ConvNorm(half, hidden, 1, activation="relu")
        self.up = nn.Sequential(
            nn.ConvTranspose2d(hidden, hidden, 2, stride=2, bias=False), nn.BatchNorm2d(hidden), nn.ReLU()
        )
        self.shared = ConvNorm(2 * hidden, half, 3, bias=True, activation="relu")
        self.branches = nn.ModuleList(
            nn.Sequential(
                ConvNorm(half, half, 3, bias=True, activation="relu"), nn.Conv2d(half, out, 3, padding=1)
            )
            for out in BRANCHES
        )

    def forward(self, x: Tensor) -> Tensor:
        fine = self.first(x)
        x = self.shared(torch.cat([self.same(fine), self.up(self.second(fine))], dim=1))
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class Detector(nn.Module):
    """One frame to the maps of the centre head."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.hidden, self.grid = c["hidden"], c["grid"]
        self.encoder = PillarEncoder(c["features"], c["hidden"])
        self.layers = PaddedLayers(c) if c["buckets"] else FlatLayers(c)
        self.head = MapHead(c["hidden"])

    def forward(self, points: Tensor, pillar: Tensor, place: Tensor, *buckets: Tensor) -> Tensor:
        """Points, the pillar of each, the map place of each pillar, and of a padding layer its windows."""
        centres = F.pad(place.to(points.dtype), (0, 1))
        x = self.encoder(points, pillar, centres)
        waves = [sinusoids(place[:, axis], self.hidden // 2) for axis in (0, 1)]
        position = torch.cat(waves, dim=1).to(x.dtype)
        x = self.layers(x, position, list(buckets)) if buckets else self.layers(x, place, position)
        canvas = x.new_zeros(self.grid**2, self.hidden).index_put((place[:, 1] * self.grid + place[:, 0],), x)
        out: Tensor = self.head(canvas.t().unflatten(1, (self.grid, self.grid))[None].contiguous())
        return out


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return Detector(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    points = Input(("points", config["features"]), "model")
    pillar = Input(("points",), "int64", high=2)
    place = Input(("pillars", 2), "int64", high=config["grid"])
    buckets = (
        Input((f"windows_{index + 1}", tokens), "int64", high=2)
        for index, tokens in enumerate(config["buckets"])
    )
    return Example((points, pillar, place, *buckets))
