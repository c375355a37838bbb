"""Promptable segmentation of 3-D parts: a triplane encoder of the shape, a decoder per prompt: PartSAM.

"PartSAM: A Scalable Promptable Part Segmentation Model Trained on Native 3D Data", 2025; sizes as in the
released configuration. Two branches of one shape, one frozen in training. Each turns points into voxels and
back (point-voxel blocks, of which the later ones are computed but unused, as released), averages them onto
three planes, passes a small U-Net that looks across planes, and a transformer over 3072 plane tokens;
points then sample the planes. 2000 centres and their 16 nearest points become patches. The decoder lets
prompt, mask and score tokens and patches attend to each other, interpolates patches back to all points and
multiplies them with mask vectors. Size `prompts`: clicks answered at once, over which every point's
features are repeated. "partsam-encoder" and "partsam-decoder" are the two halves. Widths of the U-Net
between its three levels are an own choice; the optional mask prompt is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.image_layers import attend, farthest_points
from graphs.inputs import Example, Input
from graphs.layers import MLP, PreNormBlock

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "partsam": {
        "halves": ["encoder", "decoder"], "plane": 128,
        "voxel_blocks": [[256, 32], [128, 16], [128, 16], [256, 8]], "unet": [32, 64, 128],
        "plane_width": 256, "hidden": 1024, "layers": 6, "heads": 8, "out": 512,
        "dropped": 64, "centres": 2000, "neighbours": 16, "decoder": 256, "decoder_layers": 4,
        "many_points": 100000, "dtype": "float32",
    },
    "partsam-encoder": {
        "halves": ["encoder"], "plane": 128,
        "voxel_blocks": [[256, 32], [128, 16], [128, 16], [256, 8]], "unet": [32, 64, 128],
        "plane_width": 256, "hidden": 1024, "layers": 6, "heads": 8, "out": 512,
        "dropped": 64, "centres": 2000, "neighbours": 16, "decoder": 256, "decoder_layers": 4,
        "many_points": 100000, "dtype": "float32",
    },
    "partsam-decoder": {
        "halves": ["decoder"], "plane": 128,
        "voxel_blocks": [[256, 32], [128, 16], [128, 16], [256, 8]], "unet": [32, 64, 128],
        "plane_width": 256, "hidden": 1024, "layers": 6, "heads": 8, "out": 512,
        "dropped": 64, "centres": 2000, "neighbours": 16, "decoder": 256, "decoder_layers": 4,
        "many_points": 100000, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {
    "points": {"default": "many_points", "min": 2, "max": None, "meaning": "points of the shape"},
    "prompts": {"default": 1, "min": 1, "max": None, "meaning": "clicks answered at once"},
}
GUARDS: dict[str, list[str]] = {}
BASELINES = {"partsam": ["partsam-encoder"]}
PLANES = ((0, 1), (1, 2), (0, 2))
MASKS, ANSWERS, NEAREST = 4, 3, 3


def cells(place: Tensor, side: int) -> Tensor:
    """The cell of each coordinate in [-1, 1] on a grid of `side`."""
    return ((place + 1) * (side / 2)).long().clamp(0, side - 1)


def averaged(features: Tensor, cell: Tensor, count: int) -> Tensor:
    """Means of features [points, width] per cell, [count, width]."""
    wide = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
    sums = wide.new_zeros(count, wide.shape[1]).index_add(0, cell, wide)
    return sums[:, :-1] / sums[:, -1:].clamp(min=1)


class PointVoxelBlock(nn.Module):
    """Voxels of the points through two 3-D convolutions, sampled back, plus a linear of the points."""

    def __init__(self, before: int, width: int, side: int) -> None:
        super().__init__()
        self.side = side
        layers: list[nn.Module] = []
        for inner in (before, width):
            layers += [nn.Conv3d(inner, width, 3, padding=1), nn.InstanceNorm3d(width), nn.LeakyReLU(0.1)]
        self.voxels = nn.Sequential(*layers)
        self.points = nn.Sequential(nn.Conv1d(before, width, 1), nn.InstanceNorm1d(width), nn.ReLU())

    def forward(self, features: Tensor, place: Tensor) -> Tensor:
        """Features [points, before] at places [points, 3]."""
        side = self.side
        cell = cells(place, side)
        flat = (cell[:, 2] * side + cell[:, 1]) * side + cell[:, 0]
        grid = averaged(features, flat, side**3).t().unflatten(1, (side, side, side))[None]
        found = F.grid_sample(self.voxels(grid), place[None, None, None], align_corners=False)
        out: Tensor = found[0, :, 0, 0].t() + self.points(features.t()[None])[0].t()
        return out


class CrossPlaneBlock(nn.Module):
    """Convolution, a 1x1 over the plane and the means of the others, convolution, in a residual."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(before, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.cross = nn.Conv2d(3 * width, width, 1)
        self.skip = nn.Identity() if before == width else nn.Conv2d(before, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Planes [3, before, side, side]."""
        y = F.silu(self.first(x))
        along = y.mean(2, keepdim=True).expand_as(y)[[1, 2, 0]]
        across = y.mean(3, keepdim=True).expand_as(y)[[2, 0, 1]]
        y = F.silu(self.cross(torch.cat([y, along, across], dim=1)))
        out: Tensor = self.last(y) + self.skip(x)
        return out


class PlaneUNet(nn.Module):
    """Three levels down and up over the planes."""

    def __init__(self, width: int, widths: list[int]) -> None:
        super().__init__()
        before = [width, *widths]
        self.down = nn.ModuleList(
            CrossPlaneBlock(inner, outer) for inner, outer in zip(before, widths, strict=False)
        )
        after = list(reversed(widths))
        self.up = nn.ModuleList(CrossPlaneBlock(deep + flat, flat) for deep, flat in pairwise(after))
        self.out = nn.Conv2d(widths[0], width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for level, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if level else x)
            kept.append(x)
        x = kept.pop()
        for block in self.up:
            flat = kept.pop()
            x = block(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), flat], dim=1))
        out: Tensor = self.out(x)
        return out


class PlaneTransformer(nn.Module):
    """Plane tokens through pre-norm layers and back to plane pixels."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width, hidden, out = c["plane_width"], c["hidden"], c["out"]
        self.side = c["plane"] // 4
        self.enter = nn.Sequential(
            nn.Conv2d(width, hidden, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.positions = nn.Parameter(torch.zeros(1, 3 * self.side**2, hidden))
        self.blocks = nn.ModuleList(
            PreNormBlock(hidden, c["heads"], 4 * hidden, "gelu") for _ in range(c["layers"])
        )
        self.leave = nn.ConvTranspose2d(hidden, out, 4, stride=4)
        self.skip = nn.Sequential(nn.Conv2d(width, out, 1), nn.ReLU(), nn.Conv2d(out, out, 1))

    def forward(self, planes: Tensor) -> Tensor:
        x = self.enter(planes).flatten(2).permute(0, 2, 1).flatten(0, 1)[None] + self.positions
        for block in self.blocks:
            x, _ = block(x)
        x = x[0].unflatten(0, (3, -1)).transpose(1, 2).unflatten(2, (self.side, self.side)).contiguous()
        out: Tensor = self.leave(x) + self.skip(planes)
        return out


class Branch(nn.Module):
    """Points to three planes of features."""

    def __init__(self, c: Mapping[str, Any], *, coloured: bool) -> None:
        super().__init__()
        self.plane = c["plane"]
        before = [8, *(width for width, _ in c["voxel_blocks"])]
        self.blocks = nn.ModuleList(
            PointVoxelBlock(inner, width, side)
            for inner, (width, side) in zip(before, c["voxel_blocks"], strict=False)
        )
        first, side = c["voxel_blocks"][0]
        self.colour = PointVoxelBlock(6, first, side) if coloured else None
        self.add_colour = nn.Conv1d(first, first, 1) if coloured else None
        self.unet, self.transformer = PlaneUNet(first, c["unet"]), PlaneTransformer(c)

    def forward(self, place: Tensor, look: Tensor) -> Tensor:
        """Places [points, 3] and colours with normals [points, 6] to planes [3, out, side, side]."""
        x = self.blocks[0](torch.cat([place, place, torch.zeros_like(place[:, :2])], dim=1), place)
        if self.colour is not None and self.add_colour is not None:
            x = x + self.add_colour(self.colour(look, place).t()[None])[0].t()
        unused = x
        for block in self.blocks[1:]:
            unused = block(unused, place)
        cell = cells(place, self.plane)
        planes = [
            averaged(x, cell[:, b] * self.plane + cell[:, a], self.plane**2)
            .t()
            .unflatten(1, (self.plane, self.plane))
            for a, b in PLANES
        ]
        out: Tensor = self.transformer(self.unet(torch.stack(planes)))
        return out


class PatchEncoder(nn.Module):
    """Groups of points around centres to one vector each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Linear(width + 3, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width)
        )
        self.second = nn.Sequential(
            nn.Linear(2 * width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width)
        )

    def forward(self, groups: Tensor) -> Tensor:
        """[centres, neighbours, width + 3] to [centres, width]."""
        x = self.first(groups)
        highest = x.amax(1, keepdim=True).expand_as(x)
        out: Tensor = self.second(torch.cat([x, highest], dim=-1)).amax(1)
        return out


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """[a, b] of all pairs, by one product."""
    return (a**2).sum(1, keepdim=True) - 2 * a @ b.t() + (b**2).sum(1)


class Encoder(nn.Module):
    """A shape to features of its points, of patches, and where patches stand."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.dropped, self.centres, self.neighbours = c["dropped"], c["centres"], c["neighbours"]
        self.frozen, self.trained = Branch(c, coloured=False), Branch(c, coloured=True)
        self.patches = PatchEncoder(c["out"] - c["dropped"])

    def forward(self, place: Tensor, look: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        planes = ((self.frozen(place, look) + self.trained(place, look)) / 2)[:, self.dropped :]
        at = torch.stack([place[:, list(axes)] for axes in PLANES])[:, None]
        features = F.grid_sample(planes, at, align_corners=False)[:, :, 0].sum(0).t().contiguous()
        chosen = farthest_points(place, self.centres)
        centre = place[chosen]
        near = squared_distance(centre, place).topk(self.neighbours, dim=1, largest=False).indices
        groups = torch.cat([place[near] - centre[:, None], features[near]], dim=-1)
        return features, self.patches(groups), centre


class TwoWayLayer(nn.Module):
    """Tokens attend to each other and to patches, pass an MLP; patches attend to tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        inner, self.heads = width // 2, heads
        self.own = nn.ModuleList(nn.Linear(width, width) for _ in range(4))
        self.to_patches, self.to_tokens = (
            nn.ModuleList([*(nn.Linear(width, inner) for _ in range(3)), nn.Linear(inner, width)])
            for _ in range(2)
        )
        self.mlp = MLP(width, 8 * width, "relu")
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))

    def forward(self, tokens: Tensor, patches: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.norms[0](tokens + attended(self.own, tokens, tokens, tokens, self.heads))
        mixed = attended(self.to_patches, tokens, patches + place, patches, self.heads)
        tokens = self.norms[1](tokens + mixed)
        tokens = self.norms[2](tokens + self.mlp(tokens))
        mixed = attended(self.to_tokens, patches + place, tokens, tokens, self.heads)
        return tokens, self.norms[3](patches + mixed)


def attended(linears: nn.ModuleList, query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Attention through four linears: queries, keys, values, output."""
    mixed = attend(linears[0](query), linears[1](key), linears[2](value), heads)
    out: Tensor = linears[3](mixed)
    return out


class Decoder(nn.Module):
    """Clicks on a shape to masks over its points, several answers each, and their scores."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width, features = c["decoder"], c["out"] - c["dropped"]
        self.mapper = nn.Sequential(
            nn.Linear(features, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
        )
        self.prompt_feature = nn.Linear(features, width)
        self.label = nn.Embedding(2, width)
        self.frequency = nn.Parameter(torch.randn(3, width // 2), requires_grad=False)
        self.tokens = nn.Parameter(torch.zeros(1, 1 + MASKS, width))
        self.layers = nn.ModuleList(TwoWayLayer(width, c["heads"]) for _ in range(c["decoder_layers"]))
        self.heads = c["heads"]
        inner = width // 2
        self.final = nn.ModuleList([*(nn.Linear(width, inner) for _ in range(3)), nn.Linear(inner, width)])
        self.final_norm = nn.LayerNorm(width)
        self.upsample = nn.Sequential(
            nn.Linear(width + features, width),
            nn.LayerNorm(width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.GELU(),
        )
        self.masks = nn.ModuleList(MLP(width, width, "relu") for _ in range(ANSWERS))
        self.score = MLP(width, width, "relu", out=MASKS)

    def forward(
        self, features: Tensor, patches: Tensor, centre: Tensor, place: Tensor, click: Tensor, label: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Features and places of points and patches, clicks [prompts, 3] with labels [prompts]."""
        prompts = click.shape[0]
        nearest = squared_distance(click, centre).argmin(1)
        prompt = self._waves(click) + self.prompt_feature(patches[nearest]) + self.label(label)
        tokens = torch.cat([self.tokens.expand(prompts, -1, -1), prompt[:, None]], dim=1)
        x = self.mapper(patches).expand(prompts, -1, -1)
        where = self._waves(centre)
        for layer in self.layers:
            tokens, x = layer(tokens, x, where)
        tokens = self.final_norm(tokens + attended(self.final, tokens, x + where, x, self.heads))
        spread = self._spread(x, centre, place)
        wide = self.upsample(torch.cat([spread, features.expand(prompts, -1, -1)], dim=-1))
        vectors = torch.stack([mlp(tokens[:, 1 + at]) for at, mlp in enumerate(self.masks)], dim=1)
        return vectors @ wide.transpose(1, 2), self.score(tokens[:, 0])

    def _waves(self, place: Tensor) -> Tensor:
        angle = place @ self.frequency
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    def _spread(self, x: Tensor, centre: Tensor, place: Tensor) -> Tensor:
        """Patch features at every point: the three nearest by inverse distance, [prompts, points, width]."""
        near = squared_distance(place, centre).topk(NEAREST, dim=1, largest=False)
        weights = 1 / near.values.clamp(min=1e-8)
        weights = weights / weights.sum(1, keepdim=True)
        return (x[:, near.indices] * weights[..., None]).sum(2)


class PartSAM(nn.Module):
    """Points, colours with normals, clicks and labels to masks and scores."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(c), Decoder(c)

    def forward(self, place: Tensor, look: Tensor, click: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        features, patches, centre = self.encoder(place, look)
        found: tuple[Tensor, Tensor] = self.decoder(features, patches, centre, place, click, label)
        return found


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    if config["halves"] == ["encoder"]:
        return Encoder(config)
    return Decoder(config) if config["halves"] == ["decoder"] else PartSAM(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    place, look = Input(("points", 3), "model"), Input(("points", 6), "model")
    click, label = Input(("prompts", 3), "model"), Input(("prompts",), "int64", high=2)
    if config["halves"] == ["encoder"]:
        return Example((place, look))
    if config["halves"] == ["decoder"]:
        width, centres = config["out"] - config["dropped"], config["centres"]
        known = (Input(("points", width), "model"), Input((centres, width), "model"))
        return Example((*known, Input((centres, 3), "model"), place, click, label))
    return Example((place, look, click, label))
