"""Panoptic segmentation whose queries are cluster centres, updated by hard assignment: kMaX-DeepLab.

Yu et al., "k-means Mask Transformer", 2022; sizes as in the authors' re-implementation. A backbone
(ResNet-50 or ConvNeXt), a pixel decoder of axial attention blocks at strides 32 and 16 and of bottlenecks
at 8 and 4, and six decoder layers, two on each of the first three resolutions. A layer scores every pixel
against 128 centres and gives each pixel to its best centre: a one-hot matrix times pixel values replaces
softmax cross-attention over pixels. Centres then attend to each other. Axial attention has learned relative
terms for queries, keys and values. Auxiliary heads and the post-processing outside the graph are left out.
Widths inside the centre path (256 before queries, keys and values) are an own choice where the description
leaves them open.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.image_layers import ChannelNorm, ConvNorm, depthwise
from graphs.inputs import Example, Input
from graphs.variants.convnext import Backbone as ConvNeXt
from graphs.variants.resnet import Backbone as ResNet

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "kmax-r50": {
        "dims": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3], "bottleneck": True, "height": 1281,
        "width": 1281, "centres": 128, "classes": 134, "base": [512, 256, 128, 64], "blocks": [1, 5, 1, 1],
        "layers": [2, 2, 2], "hidden": 256, "heads": 8, "channels": 3, "dtype": "float32",
    },
    "kmax-r50-801-1201": {
        "dims": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3], "bottleneck": True, "height": 801,
        "width": 1201, "centres": 128, "classes": 134, "base": [512, 256, 128, 64], "blocks": [1, 5, 1, 1],
        "layers": [2, 2, 2], "hidden": 256, "heads": 8, "channels": 3, "dtype": "float32",
    },
    "kmax-convnext-t": {
        "dims": [96, 192, 384, 768], "depths": [3, 3, 9, 3], "bottleneck": False, "height": 1281,
        "width": 1281, "centres": 128, "classes": 134, "base": [512, 256, 128, 64], "blocks": [1, 5, 1, 1],
        "layers": [2, 2, 2], "hidden": 256, "heads": 8, "channels": 3, "dtype": "float32",
    },
    "kmax-convnext-s": {
        "dims": [96, 192, 384, 768], "depths": [3, 3, 27, 3], "bottleneck": False, "height": 1281,
        "width": 1281, "centres": 128, "classes": 134, "base": [512, 256, 128, 64], "blocks": [1, 5, 1, 1],
        "layers": [2, 2, 2], "hidden": 256, "heads": 8, "channels": 3, "dtype": "float32",
    },
    "kmax-convnext-b": {
        "dims": [128, 256, 512, 1024], "depths": [3, 3, 27, 3], "bottleneck": False, "height": 1281,
        "width": 1281, "centres": 128, "classes": 134, "base": [512, 256, 128, 64], "blocks": [1, 5, 1, 1],
        "layers": [2, 2, 2], "hidden": 256, "heads": 8, "channels": 3, "dtype": "float32",
    },
    "kmax-convnext-l": {
        "dims": [192, 384, 768, 1536], "depths": [3, 3, 27, 3], "bottleneck": False, "height": 1281,
        "width": 1281, "centres": 128, "classes": 134, "base": [512, 256, 128, 64], "blocks": [1, 5, 1, 1],
        "layers": [2, 2, 2], "hidden": 256, "heads": 8, "channels": 3, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "images"}}
GUARDS: dict[str, list[str]] = {}
BASELINES = {"kmax-r50": ["kmax-convnext-t"]}
GROWTH = 4  # output channels of a block over its base
SPAN = 255  # longest line that the relative tables serve


class AxialAttention(nn.Module):
    """Attention along one axis with relative terms for queries, keys and values; [lines, width, length]."""

    relative: Tensor

    def __init__(self, width: int, heads: int, key_width: int, value_width: int, length: int) -> None:
        super().__init__()
        self.heads, self.splits = heads, [key_width, key_width, value_width]
        self.query_key_value = nn.Sequential(
            nn.Conv1d(width, sum(self.splits), 1, bias=False), nn.BatchNorm1d(sum(self.splits))
        )
        self.tables = nn.ParameterList(
            nn.Parameter(torch.zeros(2 * SPAN - 1, split // heads)) for split in self.splits
        )
        self.score_norms = nn.ModuleList(nn.BatchNorm2d(heads) for _ in range(3))
        self.out_norms = nn.ModuleList(nn.BatchNorm1d(value_width) for _ in range(2))
        place = torch.arange(length)
        self.register_buffer("relative", place[:, None] - place + SPAN - 1, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.query_key_value(x).split(self.splits, dim=1)
        query, key, value = (part.unflatten(1, (self.heads, -1)) for part in parts)  # [lines, heads, dim, at]
        of_query, of_key, of_value = (table[self.relative] for table in self.tables)  # [at, other, dim]
        scores = [
            torch.einsum("bhdl,bhdm->bhlm", query, key),
            torch.einsum("bhdl,lmd->bhlm", query, of_query),
            torch.einsum("bhdm,lmd->bhlm", key, of_key),
        ]
        normed = [norm(one) for norm, one in zip(self.score_norms, scores, strict=True)]
        weights = (normed[0] + normed[1] + normed[2]).softmax(-1)
        found = [
            torch.einsum("bhlm,bhdm->bhdl", weights, value),
            torch.einsum("bhlm,lmd->bhdl", weights, of_value),
        ]
        first, second = (norm(one.flatten(1, 2)) for norm, one in zip(self.out_norms, found, strict=True))
        out: Tensor = first + second
        return out


class AxialBlock(nn.Module):
    """Attention along columns, then rows, between 1x1 convolutions, in a residual."""

    def __init__(self, before: int, base: int, heads: int, sides: list[int]) -> None:
        super().__init__()
        middle, after = 2 * base, GROWTH * base
        self.enter, self.leave = ConvNorm(before, middle, 1), ConvNorm(middle, after, 1)
        self.down, self.across = (AxialAttention(middle, heads, base, middle, length) for length in sides)
        self.skip = nn.Identity() if before == after else ConvNorm(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape
        y = F.gelu(self.enter(F.gelu(x)))
        columns = self.down(y.permute(0, 3, 1, 2).flatten(0, 1)).unflatten(0, (shape[0], shape[3]))
        y = columns.permute(0, 3, 2, 1)  # [batch, height, width of features, columns]
        rows = self.across(y.flatten(0, 1)).unflatten(0, (shape[0], shape[2]))
        y = F.gelu(rows.permute(0, 2, 1, 3).contiguous())
        out: Tensor = self.leave(y) + self.skip(x)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions in a residual."""

    def __init__(self, before: int, base: int) -> None:
        super().__init__()
        after = GROWTH * base
        self.body = nn.Sequential(
            nn.GELU(),
            ConvNorm(before, base, 1, activation="gelu"),
            ConvNorm(base, base, 3, activation="gelu"),
            ConvNorm(base, after, 1),
        )
        self.skip = nn.Identity() if before == after else ConvNorm(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) + self.skip(x)
        return out


class PixelDecoder(nn.Module):
    """Backbone maps, coarse to fine, to four maps of pixel features."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        dims = list(reversed(c["dims"]))
        self.norms = nn.ModuleList(ChannelNorm(width) for width in dims)
        self.low = nn.ModuleList(
            ConvNorm(GROWTH * base, after, 1) for base, after in zip(c["base"], c["base"][1:], strict=False)
        )
        self.high = nn.ModuleList(
            ConvNorm(width, base, 1) for width, base in zip(dims[1:], c["base"][1:], strict=True)
        )
        self.stages = nn.ModuleList()
        for stage, (base, count) in enumerate(zip(c["base"], c["blocks"], strict=True)):
            blocks: list[nn.Module] = []
            for at in range(count):
                before = GROWTH * base if at else (base if stage else dims[0])
                if stage < 2:
                    sides = [-(-c[axis] // 2 ** (5 - stage)) for axis in ("height", "width")]
                    blocks.append(AxialBlock(before, base, c["heads"], sides))
                else:
                    blocks.append(Bottleneck(before, base))
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        normed = [norm(x) for norm, x in zip(self.norms, reversed(maps), strict=True)]
        x = self.stages[0](normed[0])
        found = [x]
        for low, high, stage, finer in zip(self.low, self.high, self.stages[1:], normed[1:], strict=True):
            size = finer.shape[2:]
            x = F.interpolate(low(x), size=size, mode="bilinear", align_corners=True) + high(finer)
            x = stage(x)
            found.append(x)
        return found


class Predictor(nn.Module):
    """Mask logits of centres over pixels, and class logits of centres."""

    def __init__(self, c: Mapping[str, Any], width: int) -> None:
        super().__init__()
        embedding = c["hidden"] // 2
        self.pixels = nn.Sequential(
            depthwise(width, 5, bias=False),
            nn.BatchNorm2d(width),
            nn.GELU(),
            ConvNorm(width, c["hidden"], 1, activation="gelu"),
            nn.Conv2d(c["hidden"], embedding, 1),
        )
        self.kernels = nn.Sequential(
            nn.Conv1d(c["hidden"], embedding, 1, bias=False), nn.BatchNorm1d(embedding)
        )
        self.classes = nn.Conv1d(c["hidden"], c["classes"], 1)

    def forward(self, pixels: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits [batch, centres, places] and class logits [batch, classes, centres]."""
        places = F.normalize(self.pixels(pixels).flatten(2), dim=1)
        return self.kernels(centres).transpose(1, 2) @ places, self.classes(centres)


class CentreAttention(nn.Module):
    """Centres attend to each other, then pass an MLP, all by normed 1x1 convolutions."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads, self.splits = heads, [hidden // 2, hidden // 2, hidden]
        self.query_key_value = nn.Sequential(
            nn.Conv1d(hidden, 2 * hidden, 1, bias=False), nn.BatchNorm1d(2 * hidden)
        )
        self.score_norm = nn.BatchNorm2d(heads)
        self.out = nn.Sequential(nn.Conv1d(hidden, hidden, 1, bias=False), nn.BatchNorm1d(hidden))
        self.mlp = nn.Sequential(
            nn.Conv1d(hidden, 8 * hidden, 1, bias=False),
            nn.BatchNorm1d(8 * hidden),
            nn.GELU(),
            nn.Conv1d(8 * hidden, hidden, 1, bias=False),
            nn.BatchNorm1d(hidden),
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = self.query_key_value(x).split(self.splits, dim=1)
        query, key, value = (part.unflatten(1, (self.heads, -1)) for part in parts)
        weights = self.score_norm(query.transpose(2, 3) @ key).softmax(-1)
        x = F.gelu(x + self.out((value @ weights.transpose(2, 3)).flatten(1, 2)))
        return F.gelu(x + self.mlp(x))


class DecoderLayer(nn.Module):
    """Centres become the mean of the pixels given to them, then attend to each other."""

    def __init__(self, c: Mapping[str, Any], pixel_width: int) -> None:
        super().__init__()
        hidden = c["hidden"]
        self.enter = ConvNorm(pixel_width, hidden, 1, activation="gelu")
        self.value = ConvNorm(hidden, hidden, 1)
        self.centre_enter = nn.Sequential(
            nn.Conv1d(hidden, hidden, 1, bias=False), nn.BatchNorm1d(hidden), nn.GELU()
        )
        self.predictor = Predictor(c, hidden)
        self.update_norm = nn.BatchNorm1d(hidden)
        self.update = nn.Sequential(nn.Conv1d(hidden, hidden, 1, bias=False), nn.BatchNorm1d(hidden))
        self.attention = CentreAttention(hidden, c["heads"])

    def forward(self, pixels: Tensor, centres: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """New centres [batch, hidden, centres] and this layer's prediction."""
        pixels = self.enter(F.gelu(pixels))
        centres_in = self.centre_enter(centres)
        masks, classes = self.predictor(pixels, centres_in)
        given = masks.argmax(1, keepdim=True) == torch.arange(masks.shape[1], device=masks.device)[:, None]
        gathered = self.value(pixels).flatten(2) @ given.to(pixels.dtype).transpose(1, 2)
        return self.attention(centres + self.update(self.update_norm(gathered))), (masks, classes)


class KMaX(nn.Module):
    """Images [batch, channels, height, width] to mask and class logits of 128 centres."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.backbone = ResNet(c) if c["bottleneck"] else ConvNeXt(c["channels"], c["dims"], c["depths"])
        self.pixel_decoder = PixelDecoder(c)
        self.centres = nn.Embedding(c["centres"], c["hidden"])
        self.layers = nn.ModuleList(
            nn.ModuleList(DecoderLayer(c, GROWTH * base) for _ in range(count))
            for base, count in zip(c["base"], c["layers"], strict=False)
        )
        self.predictor = Predictor(c, GROWTH * c["base"][-1])

    def forward(self, pixels: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The final prediction; in training those of the layers behind it."""
        maps = self.pixel_decoder(self.backbone(pixels))
        centres = self.centres.weight.t().expand(len(pixels), -1, -1)
        every = []
        for layers, features in zip(self.layers, maps, strict=False):
            for layer in layers:  # type: ignore[attr-defined]
                centres, predicted = layer(features, centres)
                every.append(predicted)
        final = self.predictor(maps[-1], centres)
        return [final, *every] if self.training else [final]


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return KMaX(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((Input(("batch", config["channels"], config["height"], config["width"]), "model"),))
