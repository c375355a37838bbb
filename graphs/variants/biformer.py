"""Image backbone whose attention first chooses regions, then attends inside the chosen ones: BiFormer.

Zhu et al., "BiFormer: Vision Transformer with Bi-Level Routing Attention", 2023; sizes as in the released
code (rayleizhu/BiFormer). The grid is cut into 7 x 7 regions. Mean queries and keys of the regions score
each other, every region keeps the best k, and a gather copies the keys and values of its k regions before
dense attention: k times the traffic of the pair. k grows from stage to stage so that every token sees 64
keys; the last stage attends to all 49 tokens. Depthwise convolutions give positions (3x3) and local detail
of the values (5x5). "-stl" has the layout of Swin-T and no positional convolution. "-full" routes nothing,
k being all 49 regions (own choice, a baseline that isolates the saving).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.image_layers import ConvNorm, attend, depthwise, from_windows, into_windows, split_heads
from graphs.inputs import Example, Input
from graphs.layers import MLP

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "biformer-t": {
        "depths": [2, 2, 8, 2], "dims": [64, 128, 256, 512], "heads": [2, 4, 8, 8], "top_k": [1, 4, 16, 0],
        "mlp_ratio": 3, "regions": 7, "swin_layout": False, "side": 224, "channels": 3, "classes": 1000,
        "dtype": "float32",
    },
    "biformer-s": {
        "depths": [4, 4, 18, 4], "dims": [64, 128, 256, 512], "heads": [2, 4, 8, 8], "top_k": [1, 4, 16, 0],
        "mlp_ratio": 3, "regions": 7, "swin_layout": False, "side": 224, "channels": 3, "classes": 1000,
        "dtype": "float32",
    },
    "biformer-b": {
        "depths": [4, 4, 18, 4], "dims": [96, 192, 384, 768], "heads": [3, 6, 12, 8], "top_k": [1, 4, 16, 0],
        "mlp_ratio": 3, "regions": 7, "swin_layout": False, "side": 224, "channels": 3, "classes": 1000,
        "dtype": "float32",
    },
    "biformer-stl": {
        "depths": [2, 2, 6, 2], "dims": [96, 192, 384, 768], "heads": [3, 6, 12, 24],
        "top_k": [1, 4, 16, 0], "mlp_ratio": 4, "regions": 7, "swin_layout": True, "side": 224,
        "channels": 3, "classes": 1000, "dtype": "float32",
    },
    "biformer-t-full": {
        "depths": [2, 2, 8, 2], "dims": [64, 128, 256, 512], "heads": [2, 4, 8, 8], "top_k": [49, 49, 49, 0],
        "mlp_ratio": 3, "regions": 7, "swin_layout": False, "side": 224, "channels": 3, "classes": 1000,
        "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "images"}}
GUARDS: dict[str, list[str]] = {}
BASELINES = {"biformer-t": ["biformer-t-full"], "biformer-stl": ["swin-t"]}


class RoutedAttention(nn.Module):
    """Attention of each region's tokens to those of its k best, on maps [batch, side, side, width]."""

    def __init__(self, width: int, heads: int, regions: int, top_k: int) -> None:
        super().__init__()
        self.width, self.heads, self.regions, self.top_k = width, heads, regions, top_k
        self.query_key_value = nn.Linear(width, 3 * width)
        self.local = depthwise(width, 5)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        window = x.shape[1] // self.regions
        query, key_value = self.query_key_value(into_windows(x, window)).split(
            [self.width, 2 * self.width], dim=-1
        )
        key, value = self._gathered(key_value, self._routes(query, key_value)).chunk(2, dim=-1)
        scale = self.width**-0.5  # of the whole width, as released
        query = split_heads(query.flatten(0, 1), self.heads)
        key, value = (split_heads(part.flatten(0, 1), self.heads) for part in (key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, scale=scale).transpose(1, 2).flatten(2)
        mixed = from_windows(mixed.unflatten(0, (-1, self.regions**2)), window, self.regions, self.regions)
        values = from_windows(key_value[..., self.width :], window, self.regions, self.regions)
        local = self.local(values.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = self.out(mixed + local)
        return out

    def _routes(self, query: Tensor, key_value: Tensor) -> Tensor:
        """Indices of the chosen regions, [batch, regions, k]; not differentiated."""
        with torch.no_grad():
            scores = (query.mean(2) * self.width**-0.5) @ key_value[..., : self.width].mean(2).transpose(1, 2)
            out: Tensor = scores.topk(self.top_k, dim=-1).indices
            return out

    def _gathered(self, key_value: Tensor, routes: Tensor) -> Tensor:
        """Keys and values of the chosen regions side by side, [batch, regions, k x tokens, 2 x width]."""
        count, tokens, wide = key_value.shape[1:]
        every = key_value[:, None].expand(-1, count, -1, -1, -1)
        index = routes[..., None, None].expand(-1, -1, -1, tokens, wide)
        return every.gather(2, index).flatten(2, 3)


class FullAttention(nn.Module):
    """Attention over all tokens of a map plus a depthwise convolution of the input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.local = depthwise(width, 5)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        local = self.local(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        query, key, value = self.query_key_value(x).flatten(1, 2).chunk(3, dim=-1)
        mixed = attend(query, key, value, self.heads).unflatten(1, x.shape[1:3])
        out: Tensor = self.out(mixed + local)
        return out


class Block(nn.Module):
    """Positions by convolution, attention and MLP, each in a residual; maps [batch, width, side, side]."""

    def __init__(self, c: Mapping[str, Any], stage: int) -> None:
        super().__init__()
        width, heads, top_k = c["dims"][stage], c["heads"][stage], c["top_k"][stage]
        self.position = None if c["swin_layout"] else depthwise(width, 3)
        self.attention_norm, self.mlp_norm = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.attention = (
            RoutedAttention(width, heads, c["regions"], top_k) if top_k else FullAttention(width, heads)
        )
        self.mlp = MLP(width, c["mlp_ratio"] * width, "gelu")

    def forward(self, x: Tensor) -> Tensor:
        if self.position is not None:
            x = x + self.position(x)
        x = x.permute(0, 2, 3, 1).contiguous()
        x = x + self.attention(self.attention_norm(x))
        x = x + self.mlp(self.mlp_norm(x))
        return x.permute(0, 3, 1, 2).contiguous()


def reduction(c: Mapping[str, Any], stage: int) -> nn.Sequential:
    """The stem before the first stage and the halving before each other one."""
    width = c["dims"][stage]
    if c["swin_layout"]:
        if stage == 0:
            return nn.Sequential(nn.Conv2d(c["channels"], width, 4, stride=4), nn.BatchNorm2d(width))
        before = c["dims"][stage - 1]
        return nn.Sequential(nn.BatchNorm2d(before), nn.Conv2d(before, width, 2, stride=2))
    if stage == 0:
        return nn.Sequential(
            ConvNorm(c["channels"], width // 2, 3, stride=2, bias=True, activation="gelu"),
            ConvNorm(width // 2, width, 3, stride=2, bias=True),
        )
    return ConvNorm(c["dims"][stage - 1], width, 3, stride=2, bias=True)


class BiFormer(nn.Module):
    """Images [batch, channels, side, side] to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(reduction(c, stage), *(Block(c, stage) for _ in range(depth)))
            for stage, depth in enumerate(c["depths"])
        )
        self.norm = nn.BatchNorm2d(c["dims"][-1])
        self.head = nn.Linear(c["dims"][-1], c["classes"])

    def forward(self, pixels: Tensor) -> Tensor:
        x = pixels
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.head(self.norm(x).mean(dim=(2, 3)))
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return BiFormer(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((Input(("batch", config["channels"], config["side"], config["side"]), "model"),))
