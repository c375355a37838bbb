"""Whole-body mesh recovery by one image encoder and small deformable decoders for hands and face: OSX.

Lin et al., "One-Stage 3D Whole-Body Mesh Recovery with Component Aware Transformer", 2023; sizes as in the
released code. A ViT encodes a 256 x 192 crop with 31 task tokens in front. Body joints come from a heat
volume and their tokens; a small network finds the boxes of hands and face; features inside the boxes are
upsampled and read by decoders of six layers, whose queries attend to themselves and, at learned offsets, to
three feature levels. Sampling is `grid_sample`, also where the release aligns regions. "-no-face" has no
face decoder, as the authors advise for speed, "-encoder" neither. The body model that turns parameters into
10 475 vertices is left out: its templates are data of others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input
from graphs.layers import MLP, Attention, PreNormBlock

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "osx-l": {
        "hidden": 1024, "layers": 24, "heads": 16, "height": 256, "width": 192, "patch": 16, "depth": 16,
        "decoder": 256, "decoder_layers": 6, "points": 4, "hand_joints": 20, "face_points": 72,
        "parts": ["hand", "face"], "channels": 3, "dtype": "float32",
    },
    "osx-b": {
        "hidden": 768, "layers": 12, "heads": 12, "height": 256, "width": 192, "patch": 16, "depth": 16,
        "decoder": 256, "decoder_layers": 6, "points": 4, "hand_joints": 20, "face_points": 72,
        "parts": ["hand", "face"], "channels": 3, "dtype": "float32",
    },
    "osx-l-no-face": {
        "hidden": 1024, "layers": 24, "heads": 16, "height": 256, "width": 192, "patch": 16, "depth": 16,
        "decoder": 256, "decoder_layers": 6, "points": 4, "hand_joints": 20, "face_points": 72,
        "parts": ["hand"], "channels": 3, "dtype": "float32",
    },
    "osx-l-encoder": {
        "hidden": 1024, "layers": 24, "heads": 16, "height": 256, "width": 192, "patch": 16, "depth": 16,
        "decoder": 256, "decoder_layers": 6, "points": 4, "hand_joints": 20, "face_points": 72,
        "parts": [], "channels": 3, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "person crops"}}
GUARDS: dict[str, list[str]] = {}
BASELINES = {"osx-l": ["osx-l-no-face", "osx-l-encoder"]}
JOINTS, POSE, TASKS = 25, 21, 6  # body joints, posed ones, other task tokens
HEADS, LEVELS = 8, 3


def expected_place(volume: Tensor) -> Tensor:
    """Soft-argmax of heat volumes [batch, joints, depth, height, width], each coordinate in [-1, 1]."""
    shape = volume.shape[2:]
    heat = volume.flatten(2).softmax(-1).unflatten(2, shape)
    axes = [torch.linspace(-1, 1, side, device=volume.device, dtype=volume.dtype) for side in shape]
    places = [
        (heat.sum(dim=[d for d in (2, 3, 4) if d != 2 + at]) * axis).sum(-1) for at, axis in enumerate(axes)
    ]
    return torch.stack(list(reversed(places)), dim=-1)


def sampled(x: Tensor, place: Tensor) -> Tensor:
    """Features [batch, width, height, side] at places [batch, n, m, 2], as [batch, n, m, width]."""
    return F.grid_sample(x, place, align_corners=False).permute(0, 2, 3, 1)


class Encoder(nn.Module):
    """Crops to task tokens and a feature map."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden = c["hidden"]
        self.grid = (c["height"] // c["patch"], c["width"] // c["patch"])
        self.patches = nn.Conv2d(
            c["channels"], hidden, c["patch"], stride=c["patch"], padding=c["patch"] // 4
        )
        self.positions = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1] + 1, hidden))
        self.tasks = nn.Parameter(torch.zeros(1, TASKS + JOINTS, hidden))
        self.blocks = nn.ModuleList(
            PreNormBlock(hidden, c["heads"], 4 * hidden, "gelu", eps=1e-6) for _ in range(c["layers"])
        )
        self.norm = nn.LayerNorm(hidden, eps=1e-6)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        x = x + self.positions[:, 1:] + self.positions[:, :1]
        x = torch.cat([self.tasks.expand(x.shape[0], -1, -1), x], dim=1)
        for block in self.blocks:
            x, _ = block(x)
        x = self.norm(x)
        count = TASKS + JOINTS
        return x[:, :count], x[:, count:].transpose(1, 2).unflatten(2, self.grid).contiguous()


def upsampled(before: int, after: int) -> nn.Sequential:
    """A transposed convolution to twice the side."""
    return nn.Sequential(
        nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )


class BoxNet(nn.Module):
    """Boxes of face and hands from features and the body's heat volume."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        wide, hidden = c["hidden"] + JOINTS * c["depth"], c["decoder"]
        self.up = nn.Sequential(upsampled(wide, hidden), upsampled(hidden, hidden), upsampled(hidden, hidden))
        self.heat = nn.Conv2d(hidden, 3, 1)
        self.sizes = nn.ModuleList(MLP(hidden, hidden, "relu", out=2) for _ in range(3))

    def forward(self, features: Tensor, volume: Tensor) -> Tensor:
        """Centres and sizes, [batch, 3, 4]."""
        x = self.up(torch.cat([features, volume], dim=1))
        centre = expected_place(self.heat(x)[:, :, None])[..., :2]
        at = sampled(x, centre[:, :, None])[:, :, 0]
        size = torch.stack([mlp(at[:, index]) for index, mlp in enumerate(self.sizes)], dim=1)
        return torch.cat([centre, torch.sigmoid(size)], dim=-1)


class Levels(nn.Module):
    """Features at one, two and four times the side, read inside boxes."""

    def __init__(self, hidden: int, sides: tuple[int, int, int]) -> None:
        super().__init__()
        self.sides = sides
        self.levels = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(hidden, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU()),
                upsampled(hidden, hidden // 2),
                nn.Sequential(upsampled(hidden, hidden // 2), upsampled(hidden // 2, hidden // 4)),
            ]
        )

    def forward(self, features: Tensor, boxes: Tensor) -> list[Tensor]:
        """Maps of each level for boxes [batch, boxes, 4], as [batch x boxes, width, side, side]."""
        return [
            self._cropped(level(features), boxes, side)
            for level, side in zip(self.levels, self.sides, strict=True)
        ]

    def _cropped(self, x: Tensor, boxes: Tensor, side: int) -> Tensor:
        line = torch.linspace(-1, 1, side, device=x.device, dtype=x.dtype)
        unit = torch.stack([line.repeat(side), line.repeat_interleave(side)], dim=-1)
        place = boxes[:, :, None, :2] + boxes[:, :, None, 2:] * unit
        out: Tensor = sampled(x, place).flatten(0, 1).transpose(1, 2).unflatten(2, (side, side)).contiguous()
        return out


class DeformableLayer(nn.Module):
    """Queries attend to each other, then to samples of all levels around their reference, then an MLP."""

    def __init__(self, width: int, points: int) -> None:
        super().__init__()
        self.points = points
        self.attention, self.mlp = Attention(width, HEADS, fused=True), MLP(width, 4 * width, "relu")
        self.offsets = nn.Linear(width, HEADS * LEVELS * points * 2)
        self.weights = nn.Linear(width, HEADS * LEVELS * points)
        self.value = nn.Parameter(torch.randn(HEADS, width, width // HEADS) * width**-0.5)
        self.out = nn.Linear(width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.refine = MLP(width, width, "relu", out=2)

    def forward(self, x: Tensor, reference: Tensor, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Queries [batch, queries, width] and their refined references [batch, queries, 2]."""
        mixed, _ = self.attention(x)
        x = self.norms[0](x + mixed)
        x = self.norms[1](x + self._looked(x, reference, levels))
        x = self.norms[2](x + self.mlp(x))
        return x, reference + self.refine(x)

    def _looked(self, x: Tensor, reference: Tensor, levels: list[Tensor]) -> Tensor:
        offsets = self.offsets(x).unflatten(-1, (LEVELS, HEADS * self.points, 2))
        weights = self.weights(x).unflatten(-1, (HEADS, LEVELS * self.points)).softmax(-1)
        found = [
            sampled(level, reference[:, :, None] + offsets[:, :, at]).unflatten(2, (HEADS, self.points))
            for at, level in enumerate(levels)
        ]
        gathered = (torch.cat(found, dim=3) * weights[..., None]).sum(3)  # [batch, queries, heads, width]
        valued = torch.einsum("bqhw,hwv->bqhv", gathered, self.value).flatten(2)
        out: Tensor = self.out(valued)
        return out


class PartDecoder(nn.Module):
    """Keypoints of a part from its levels, refined by deformable layers."""

    def __init__(self, c: Mapping[str, Any], count: int, depth: int) -> None:
        super().__init__()
        width, hidden = c["decoder"], c["hidden"]
        self.count, self.depth = count, depth
        self.heat = nn.Conv2d(hidden // 2, count * depth, 1)
        self.narrow = nn.ModuleList(
            nn.Sequential(nn.Conv2d(hidden // 2**level, width, 1), nn.GroupNorm(32, width))
            for level in range(LEVELS)
        )
        self.layers = nn.ModuleList(DeformableLayer(width, c["points"]) for _ in range(c["decoder_layers"]))
        self.widen = nn.Linear(width, 2 * width)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """What every keypoint knows, with its place, flattened: [batch, keypoints x (2 x width + 3)]."""
        volume = self.heat(levels[1]).unflatten(1, (self.count, self.depth))
        place = expected_place(volume)
        narrow = [one(level) for one, level in zip(self.narrow, levels, strict=True)]
        reference = place[..., :2]
        x = sampled(narrow[1], reference[:, :, None])[:, :, 0]
        for layer in self.layers:
            x, reference = layer(x, reference, narrow)
        return torch.cat([self.widen(x), reference, place[..., 2:]], dim=-1).flatten(1)


class OSX(nn.Module):
    """Crops [batch, channels, height, width] to body, hand and face parameters."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden, middle = c["hidden"], 512
        known = 2 * c["decoder"] + 3
        self.depth, self.parts = c["depth"], c["parts"]
        self.encoder = Encoder(c)
        self.heat = nn.Conv2d(hidden, JOINTS * c["depth"], 1)
        self.joints = nn.Linear(hidden, middle)
        self.root, self.pose = (nn.Linear(JOINTS * (middle + 3), out) for out in (6, POSE * 6))
        self.shape, self.camera = nn.Linear(hidden, 10), nn.Linear(hidden, 3)
        self.boxes = BoxNet(c) if self.parts else None
        if "hand" in self.parts:
            self.hand_levels = Levels(hidden, (8, 16, 32))
            self.hand_decoder = PartDecoder(c, c["hand_joints"], 16)
            self.hand_pose = nn.Linear(c["hand_joints"] * known, 15 * 6)
        if "face" in self.parts:
            self.face_levels = Levels(hidden, (4, 8, 16))
            self.face_decoder = PartDecoder(c, c["face_points"], 8)
            self.face_feature = nn.Linear(hidden, middle)
            wide = c["face_points"] * known + middle
            self.expression, self.jaw = nn.Linear(wide, 10), nn.Linear(wide, 6)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        tokens, features = self.encoder(pixels)
        heat = self.heat(features)
        place = expected_place(heat.unflatten(1, (JOINTS, self.depth)))
        joints = torch.cat([self.joints(tokens[:, TASKS:]), place], dim=-1).flatten(1)
        found = [self.root(joints), self.pose(joints), self.shape(tokens[:, 0]), self.camera(tokens[:, 1])]
        if self.boxes is not None:
            boxes = self.boxes(features, heat)
            if "hand" in self.parts:
                known = self.hand_decoder(self.hand_levels(features, boxes[:, 1:]))
                found.append(self.hand_pose(known).unflatten(0, (-1, 2)))
            if "face" in self.parts:
                known = self.face_decoder(self.face_levels(features, boxes[:, :1]))
                known = torch.cat([known, self.face_feature(features.mean(dim=(2, 3)))], dim=1)
                found += [self.expression(known), self.jaw(known)]
        return found


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return OSX(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((Input(("batch", config["channels"], config["height"], config["width"]), "model"),))
