"""Robust token attention on FAN: a learned mixture of dilated average pools before every attention (TAP).

"Robustifying Token Attention for Vision Transformers (TAP + ADL)", 2023, on the FAN hybrid: a short
ConvNeXt, then blocks of token attention and of channel processing, then class attention. TAP predicts four
weights per token by two small convolutions and mixes the token with 3x3 means at dilations 1, 2 and 3;
unfolding writes nine-fold maps, so the cost is traffic, not arithmetic. ADL is a training loss on attention
maps and free at inference; it is not part of these graphs. "fan-b-hybrid" is the network without TAP. "tap-
rvt-b" is RVT-B* with TAP as released: a convolutional patch embedding, 12 blocks whose MLP is made of
convolutions with batch norms, and in the first five of them scores multiplied by the sigmoid of a learned
map of all pairs of tokens. Four scales there too (own choice, as for FAN). Fourier positions (64 sines and
cosines into a 1x1 convolution) and the class attention blocks (gains, 4x MLP) follow FAN from memory,
unverified.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.image_layers import ChannelNorm, Scale, attend, depthwise, split_heads, to_map, to_tokens
from graphs.inputs import Example, Input
from graphs.layers import MLP
from graphs.variants.convnext import Block as ConvNeXtBlock

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "tap-fan-b-hybrid": {
        "hidden": 448, "layers": 16, "heads": 8, "mlp_ratio": 4, "scales": 4, "conv_depths": [3, 3],
        "conv_dims": [128, 256], "class_layers": 2, "position_width": 32, "side": 224, "channels": 3,
        "classes": 1000, "dtype": "float32",
    },
    "fan-b-hybrid": {
        "hidden": 448, "layers": 16, "heads": 8, "mlp_ratio": 4, "scales": 0, "conv_depths": [3, 3],
        "conv_dims": [128, 256], "class_layers": 2, "position_width": 32, "side": 224, "channels": 3,
        "classes": 1000, "dtype": "float32",
    },
    "tap-rvt-b": {
        "hidden": 768, "layers": 12, "heads": 12, "mlp_ratio": 4, "scales": 4, "masked": 5, "stem": 32,
        "side": 224, "channels": 3, "classes": 1000, "dtype": "float32",
    },
    "rvt-b": {
        "hidden": 768, "layers": 12, "heads": 12, "mlp_ratio": 4, "scales": 0, "masked": 5, "stem": 32,
        "side": 224, "channels": 3, "classes": 1000, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "images"}}
GUARDS: dict[str, list[str]] = {}
BASELINES = {"tap-fan-b-hybrid": ["fan-b-hybrid", "deit-s"], "tap-rvt-b": ["rvt-b", "vit-b-16"]}


class TokenPooling(nn.Module):
    """Every token mixed with means of its neighbourhood at several dilations, by predicted weights."""

    def __init__(self, width: int, scales: int) -> None:
        super().__init__()
        self.predict = nn.Sequential(
            nn.Conv2d(width, scales, 3, padding=1, bias=False),
            nn.BatchNorm2d(scales),
            nn.Conv2d(scales, scales, 3, padding=1, bias=False),
        )
        self.scales = scales

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        x = to_map(tokens, height, width).contiguous()
        weights = self.predict(x).softmax(1)
        mixed = weights[:, :1] * x
        for dilation in range(1, self.scales):
            patches = F.unfold(x, 3, dilation=dilation, padding=dilation)
            pooled = patches.unflatten(1, (x.shape[1], 9)).mean(2).unflatten(2, (height, width))
            mixed = mixed + weights[:, dilation : dilation + 1] * pooled
        return to_tokens(mixed)


class TokenAttention(nn.Module):
    """Softmax attention over tokens, queries and keys with values in two linears."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        key, value = self.key_value(x).chunk(2, dim=-1)
        out: Tensor = self.out(attend(self.query(x), key, value, self.heads))
        return out


class ConvMLP(nn.Module):
    """Linear, two depthwise convolutions beside it, linear; no other activation."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        inner = ratio * width
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.local = nn.Sequential(depthwise(inner, 3), nn.GELU(), nn.BatchNorm2d(inner), depthwise(inner, 3))
        self.gain = Scale(inner, 1.0)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        x = self.up(x)
        x = x + self.gain(to_tokens(self.local(to_map(x, height, width))))
        out: Tensor = self.down(x)
        return out


class ChannelProcessing(nn.Module):
    """An MLP of the tokens, every channel gated by how queries and pooled keys agree over all tokens."""

    def __init__(self, width: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.mlp, self.norm = ConvMLP(width, ratio), nn.LayerNorm(width)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        query = split_heads(self.query(x), self.heads).softmax(2)
        key = split_heads(x, self.heads).softmax(2).mean(-1, keepdim=True)
        gate = torch.sigmoid(query.transpose(2, 3) @ key * self.temperature)
        value: Tensor = self.norm(self.mlp(x, height, width))
        return value * gate.flatten(1)[:, None]


class Block(nn.Module):
    """Token attention behind the pooling, then channel processing, each in a scaled residual."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width, heads = c["hidden"], c["heads"]
        self.pooling = TokenPooling(width, c["scales"]) if c["scales"] else None
        self.attention_norm, self.channel_norm = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.attention = TokenAttention(width, heads)
        self.channels = ChannelProcessing(width, heads, c["mlp_ratio"])
        self.attention_gain, self.channel_gain = Scale(width, 1.0), Scale(width, 1.0)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        pooled = x if self.pooling is None else self.pooling(x, height, width)
        x = x + self.attention_gain(self.attention(self.attention_norm(pooled)))
        out: Tensor = x + self.channel_gain(self.channels(self.channel_norm(x), height, width))
        return out


class ClassBlock(nn.Module):
    """The class token attends to all tokens, then passes an MLP."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width, self.heads = c["hidden"], c["heads"]
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.mlp = MLP(width, c["mlp_ratio"] * width, "gelu")
        self.attention_gain, self.mlp_gain = Scale(width, 1.0), Scale(width, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norms[0](x)
        mixed = attend(self.query(normed[:, :1]), self.key(normed), self.value(normed), self.heads)
        x = x + self.attention_gain(torch.cat([self.out(mixed), normed[:, 1:]], dim=1))
        x = self.norms[1](x)
        token = x[:, :1]
        return torch.cat([token + self.mlp_gain(self.mlp(token)), x[:, 1:]], dim=1)


def fourier_positions(height: int, width: int, count: int, device: torch.device) -> Tensor:
    """Sines and cosines of both coordinates, [1, 2 x count, height, width]."""
    exponent = torch.arange(count // 2, device=device) * 2 / count
    frequency = 10000.0**-exponent

    def waves(side: int) -> Tensor:
        place = torch.arange(1, side + 1, device=device) / side * 2 * math.pi
        angle = place[:, None] * frequency
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    rows = waves(height)[:, None].expand(-1, width, -1)
    columns = waves(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=2).permute(2, 0, 1)[None]


class FAN(nn.Module):
    """Images [batch, channels, side, side] to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        first, second = c["conv_dims"]
        self.convolutions = nn.Sequential(
            nn.Conv2d(c["channels"], first, 4, stride=4),
            ChannelNorm(first, eps=1e-6),
            *(ConvNeXtBlock(first) for _ in range(c["conv_depths"][0])),
            ChannelNorm(first, eps=1e-6),
            nn.Conv2d(first, second, 2, stride=2),
            *(ConvNeXtBlock(second) for _ in range(c["conv_depths"][1])),
        )
        self.embed = nn.Conv2d(second, c["hidden"], 2, stride=2)
        self.position_width = c["position_width"]
        self.position = nn.Conv2d(2 * c["position_width"], c["hidden"], 1)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.class_token = nn.Parameter(torch.zeros(1, 1, c["hidden"]))
        self.class_blocks = nn.ModuleList(ClassBlock(c) for _ in range(c["class_layers"]))
        self.norm, self.head = nn.LayerNorm(c["hidden"], eps=1e-6), nn.Linear(c["hidden"], c["classes"])

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.embed(self.convolutions(pixels))
        height, width = x.shape[2:]
        places = fourier_positions(height, width, self.position_width, x.device).to(x.dtype)
        x = to_tokens(x + self.position(places))
        for block in self.blocks:
            x = block(x, height, width)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1)
        for block in self.class_blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits


class PairAttention(nn.Module):
    """Attention; with `tokens`, scores are multiplied by the sigmoid of a learned map of their pairs."""

    def __init__(self, width: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.pairs = nn.Parameter(torch.zeros(heads, tokens, tokens)) if tokens else None

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.query_key_value(x).chunk(3, dim=-1)
        if self.pairs is None:
            mixed = attend(query, key, value, self.heads)
        else:
            query, key, value = (split_heads(part, self.heads) for part in (query, key, value))
            scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
            mixed = ((scores * torch.sigmoid(self.pairs)).softmax(-1) @ value).transpose(1, 2).flatten(2)
        out: Tensor = self.out(mixed)
        return out


class ConvolvedMLP(nn.Sequential):
    """1x1, depthwise 3x3 and 1x1 convolutions, a batch norm behind each, on maps."""

    def __init__(self, width: int, ratio: int) -> None:
        inner = ratio * width
        super().__init__(
            nn.Conv2d(width, inner, 1),
            nn.BatchNorm2d(inner),
            nn.GELU(),
            depthwise(inner, 3),
            nn.BatchNorm2d(inner),
            nn.GELU(),
            nn.Conv2d(inner, width, 1),
            nn.BatchNorm2d(width),
        )


class RVTBlock(nn.Module):
    """Attention behind the pooling, then the convolved MLP, each in a residual."""

    def __init__(self, c: Mapping[str, Any], tokens: int) -> None:
        super().__init__()
        width = c["hidden"]
        self.pooling = TokenPooling(width, c["scales"]) if c["scales"] else None
        self.attention_norm, self.mlp_norm = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.attention, self.mlp = (
            PairAttention(width, c["heads"], tokens),
            ConvolvedMLP(width, c["mlp_ratio"]),
        )

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        pooled = x if self.pooling is None else self.pooling(x, height, width)
        x = x + self.attention(self.attention_norm(pooled))
        out: Tensor = x + to_tokens(self.mlp(to_map(self.mlp_norm(x), height, width)))
        return out


class RVT(nn.Module):
    """Images [batch, channels, side, side] to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        stem, width, side = c["stem"], c["hidden"], c["side"] // 16
        self.patches = nn.Sequential(
            nn.Conv2d(c["channels"], stem, 7, stride=2, padding=2),
            nn.BatchNorm2d(stem),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Conv2d(stem, width, 4, stride=4),
        )
        self.blocks = nn.ModuleList(
            RVTBlock(c, side**2 if at < c["masked"] else 0) for at in range(c["layers"])
        )
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, c["classes"])

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patches(pixels)
        height, width = x.shape[2:]
        x = to_tokens(x)
        for block in self.blocks:
            x = block(x, height, width)
        logits: Tensor = self.head(self.norm(x.mean(1)))
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return RVT(config) if "stem" in config else FAN(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((Input(("batch", config["channels"], config["side"], config["side"]), "model"),))
