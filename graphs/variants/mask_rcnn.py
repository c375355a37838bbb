"""Two-stage detector with masks around an image backbone: Mask R-CNN with a feature pyramid.

He et al., "Mask R-CNN", arXiv:1703.06870, 2017, with the pyramid of Lin et al., "Feature Pyramid Networks
for Object Detection", arXiv:1612.03144, 2017; widths and counts as detection tool boxes configure it (from
memory, unverified): five levels of 256 channels, three anchors per place, a box head of two linears on 7 x
7 bins, a mask head of four convolutions and one transposed on 14 x 14 bins, 80 classes. Work is counted as
these tool boxes count it: `boxes` proposals and `masked` detections are given from outside, dealt in equal
parts to four levels, so the choice among anchors (sorting, suppression of overlaps) is left out; a bin is
one bilinear sample. Backbones are those of the files `resnet`, `swin` and `smt`, here at 800 x 1280 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input
from graphs.variants import resnet, smt, swin

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "mask-rcnn-r50": {
        "backbone": "resnet", "widths": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3], "bottleneck": True,
        "height": 800, "image_width": 1280, "channels": 3, "pyramid": 256, "anchors": 3, "boxes": 1000,
        "masked": 100, "hidden": 1024, "classes": 80, "dtype": "float32",
    },
    "mask-rcnn-swin-t": {
        "backbone": "swin", "widths": [96, 192, 384, 768], "depths": [2, 2, 6, 2], "side": 800, "width": 96,
        "heads": [3, 6, 12, 24], "window": 7, "patch": 4, "mlp_ratio": 4, "norm_eps": 1e-5, "height": 800,
        "image_width": 1280, "channels": 3, "pyramid": 256, "anchors": 3, "boxes": 1000, "masked": 100,
        "hidden": 1024, "classes": 80, "dtype": "float32",
    },
    "mask-rcnn-smt-s": {
        "backbone": "smt", "widths": [64, 128, 256, 512], "dims": [64, 128, 256, 512],
        "depths": [3, 4, 18, 2], "mlp_ratios": [4, 4, 4, 2], "head_conv": 3, "heads": [0, 0, 8, 16],
        "layer_scale": False, "norm_eps": 1e-6, "height": 800, "image_width": 1280, "channels": 3,
        "pyramid": 256, "anchors": 3, "boxes": 1000, "masked": 100, "hidden": 1024, "classes": 80,
        "dtype": "float32",
    },
    "mask-rcnn-smt-b": {
        "backbone": "smt", "widths": [64, 128, 256, 512], "dims": [64, 128, 256, 512],
        "depths": [4, 6, 28, 2], "mlp_ratios": [8, 6, 4, 2], "head_conv": 7, "heads": [0, 0, 8, 16],
        "layer_scale": False, "norm_eps": 1e-6, "height": 800, "image_width": 1280, "channels": 3,
        "pyramid": 256, "anchors": 3, "boxes": 1000, "masked": 100, "hidden": 1024, "classes": 80,
        "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "images"}}
GUARDS: dict[str, list[str]] = {}
BASELINES = {
    "mask-rcnn-smt-s": ["mask-rcnn-swin-t", "mask-rcnn-r50"],
    "mask-rcnn-smt-b": ["mask-rcnn-swin-t", "mask-rcnn-r50"],
}
LEVELS = 4  # of the pyramid that boxes are read from; the coarsest fifth serves proposals alone


class SMTMaps(nn.Module):
    """Images to the maps of the four SMT stages."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(smt.Stage(c, index) for index in range(len(c["dims"])))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x, found = pixels, []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class SwinMaps(nn.Module):
    """Images to the maps of the four Swin stages, each normed."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        whole = swin.Swin({**c, "classes": 1})
        self.patches, self.patch_norm, self.layers = whole.patches, whole.patch_norm, whole.layers
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=c["norm_eps"]) for width in c["widths"])

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = self.patch_norm(self.patches(pixels).permute(0, 2, 3, 1))
        found: list[Tensor] = []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, swin.Stage):
                found.append(self.norms[len(found)](x).permute(0, 3, 1, 2))
        return found


BACKBONES = {"resnet": resnet.Backbone, "swin": SwinMaps, "smt": SMTMaps}


class Pyramid(nn.Module):
    """Maps of four stages to five of one width, coarse ones added to finer ones."""

    def __init__(self, widths: list[int], out: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, out, 1) for width in widths)
        self.smooth = nn.ModuleList(nn.Conv2d(out, out, 3, padding=1) for _ in widths)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        levels = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for at in range(len(levels) - 1, 0, -1):
            finer = levels[at - 1]
            levels[at - 1] = finer + F.interpolate(levels[at], size=finer.shape[2:], mode="nearest")
        levels = [smooth(x) for smooth, x in zip(self.smooth, levels, strict=True)]
        return [*levels, F.max_pool2d(levels[-1], 1, stride=2)]


class Proposals(nn.Module):
    """Score and shift of every anchor at every place, the same convolutions on all levels."""

    def __init__(self, width: int, anchors: int) -> None:
        super().__init__()
        self.shared = nn.Conv2d(width, width, 3, padding=1)
        self.score, self.shift = nn.Conv2d(width, anchors, 1), nn.Conv2d(width, 4 * anchors, 1)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        found = []
        for x in levels:
            x = self.shared(x).relu()
            found += [self.score(x), self.shift(x)]
        return found


def binned(levels: list[Tensor], boxes: Tensor, side: int) -> Tensor:
    """Features of boxes [batch, levels, n, 4] on bins, as [batch x levels x n, width, side, side]."""
    line = torch.linspace(-1, 1, side, device=boxes.device, dtype=boxes.dtype)
    unit = torch.stack([line.repeat(side), line.repeat_interleave(side)], dim=-1)
    found = []
    for level, some in zip(levels, boxes.unbind(1), strict=False):
        place = some[:, :, None, :2] + some[:, :, None, 2:] * unit
        found.append(F.grid_sample(level, place, align_corners=False).transpose(1, 2))
    bins: Tensor = torch.stack(found, dim=1).flatten(0, 2).unflatten(2, (side, side)).contiguous()
    return bins


class BoxHead(nn.Module):
    """Class scores and box shifts of every proposal."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Linear(49 * c["pyramid"], c["hidden"]),
            nn.Linear(c["hidden"], c["hidden"]),
        )
        self.score, self.shift = (
            nn.Linear(c["hidden"], c["classes"] + 1),
            nn.Linear(c["hidden"], 4 * c["classes"]),
        )

    def forward(self, bins: Tensor) -> tuple[Tensor, Tensor]:
        x = self.second(self.first(bins.flatten(1)).relu()).relu()
        return self.score(x), self.shift(x)


class MaskHead(nn.Module):
    """A mask per class of every detection."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(4):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        up = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.layers = nn.Sequential(*layers, up, nn.ReLU(), nn.Conv2d(width, classes, 1))

    def forward(self, bins: Tensor) -> Tensor:
        out: Tensor = self.layers(bins)
        return out


class MaskRCNN(nn.Module):
    """Images, proposals and detections to what is predicted of anchors, boxes and masks."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.backbone = BACKBONES[c["backbone"]](c)
        self.pyramid = Pyramid(c["widths"], c["pyramid"])
        self.proposals = Proposals(c["pyramid"], c["anchors"])
        self.box_head, self.mask_head = BoxHead(c), MaskHead(c["pyramid"], c["classes"])

    def forward(self, pixels: Tensor, boxes: Tensor, masked: Tensor) -> list[Tensor]:
        """Boxes [batch, levels, n, 4] as centres and half sizes in [-1, 1]."""
        levels = self.pyramid(self.backbone(pixels))
        scores, shifts = self.box_head(binned(levels, boxes, 7))
        return [*self.proposals(levels), scores, shifts, self.mask_head(binned(levels, masked, 14))]


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return MaskRCNN(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    pixels = Input(("batch", config["channels"], config["height"], config["image_width"]), "model")
    boxes, masked = (
        Input(("batch", LEVELS, config[count] // LEVELS, 4), "model") for count in ("boxes", "masked")
    )
    return Example((pixels, boxes, masked))
