"""Point cloud detector with sparse 3-D convolutions, the baseline of point transformers: CenterPoint.

Yin et al., "Center-based 3D Object Detection and Tracking", arXiv:2006.11275, 2021, in its voxel form for
Waymo (layers and widths from memory, unverified): voxels of 0.1 x 0.1 x 0.15 m, a residual encoder of
sparse convolutions with 16, 32, 64 and 128 channels that halves the grid three times, a map of 188 x 188
with 256 channels, two blocks of convolutions and the centre head. A sparse convolution gathers the inputs
of each kernel offset, multiplies them with the weights of that offset and adds the products up at their
outputs; its pairs of sites are arguments. They are found by a search among sorted sites, once per grid,
where releases use a hash table.

How many `sites` each grid has is data, and an own choice, as no count was at hand: `sites_1` to `sites_5`,
and `around`, of 27 neighbours (itself included) how many a site has, nine as on a surface. A strided
convolution pairs an input with 27/8 outputs on average, which is geometry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphs.image_layers import ConvNorm
from graphs.inputs import Example, Input

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "centerpoint": {
        "widths": [16, 32, 64, 128], "blocks": 2, "features": 5, "grid": 188, "map_widths": [128, 256],
        "map_depth": 5, "dtype": "float16",
    },
}
# fmt: on
SYMBOLS = {
    "points": {"default": 160000, "min": 2, "max": None, "meaning": "points of the frame"},
    "sites_1": {"default": 90000, "min": 27, "max": None, "meaning": "non-empty voxels of the frame"},
    "sites_2": {"default": 90000, "min": 27, "max": None, "meaning": "sites of the grid halved once"},
    "sites_3": {"default": 60000, "min": 27, "max": None, "meaning": "sites of the grid halved twice"},
    "sites_4": {"default": 30000, "min": 27, "max": None, "meaning": "sites of the grid halved three times"},
    "sites_5": {"default": 25000, "min": 2, "max": None, "meaning": "sites with the height halved once more"},
    "around": {
        "default": 9,
        "min": 1,
        "max": 27,
        "meaning": "sites among the 27 around one, itself included",
    },
}
GUARDS: dict[str, list[str]] = {}
BASELINES: dict[str, Any] = {}
BRANCHES = (3, 2, 1, 3, 2, 1)  # heat map of three classes, offset, height, size, rotation, overlap
KERNEL = 27


class SparseConv(nn.Module):
    """Sums over kernel offsets of gathered inputs times the weights of the offset, at the given outputs."""

    def __init__(self, offsets: int, before: int, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(offsets, before, after) * before**-0.5)
        self.norm = nn.BatchNorm1d(after)

    def forward(self, x: Tensor, pairs: Tensor, sites: int) -> Tensor:
        """Features [inputs, before] and pairs [2, offsets, n] of input and output to [sites, after]."""
        products = x[pairs[0]] @ self.weight
        summed = products.new_zeros(sites, products.shape[-1]).index_add(
            0, pairs[1].flatten(), products.flatten(0, 1)
        )
        out: Tensor = self.norm(summed)
        return out


class SparseBlock(nn.Module):
    """Two sparse convolutions that keep the sites, in a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (SparseConv(KERNEL, width, width) for _ in range(2))

    def forward(self, x: Tensor, pairs: Tensor) -> Tensor:
        y = self.first(x, pairs, x.shape[0]).relu()
        out: Tensor = (x + self.second(y, pairs, x.shape[0])).relu()
        return out


class Grid(nn.Module):
    """The convolution into one grid and the blocks on its sites."""

    def __init__(self, before: int, width: int, blocks: int) -> None:
        super().__init__()
        self.enter = SparseConv(KERNEL, before, width)
        self.blocks = nn.ModuleList(SparseBlock(width) for _ in range(blocks))

    def forward(self, x: Tensor, into: Tensor, pairs: Tensor, keys: Tensor) -> Tensor:
        """`into` leads here from the grid before, `pairs` joins neighbours among the sites of `keys`."""
        self._neighbours(keys)
        x = self.enter(x, into, keys.shape[0]).relu()
        for block in self.blocks:
            x = block(x, pairs)
        return x

    @staticmethod
    def _neighbours(keys: Tensor) -> Tensor:
        """Where each of the 27 neighbours of every site stands among the sorted sites."""
        steps = torch.arange(KERNEL, device=keys.device)[:, None] - KERNEL // 2
        return torch.searchsorted(keys.sort().values, (keys[None] + steps).flatten())


class MapHead(nn.Module):
    """Two blocks of convolutions brought to one size, and the branches of the centre head."""

    def __init__(self, c: Mapping[str, Any], before: int) -> None:
        super().__init__()
        first, second = c["map_widths"]
        self.first = self._block(before, first, 1, c["map_depth"])
        self.second = self._block(first, second, 2, c["map_depth"])
        self.same = ConvNorm(first, second, 1, activation="relu")
        self.up = nn.Sequential(
            nn.ConvTranspose2d(second, second, 2, stride=2, bias=False), nn.BatchNorm2d(second), nn.ReLU()
        )
        shared = first // 2
        self.shared = ConvNorm(2 * second, shared, 3, bias=True, activation="relu")
        self.branches = nn.ModuleList(
            nn.Sequential(
                ConvNorm(shared, shared, 3, bias=True, activation="relu"),
                nn.Conv2d(shared, out, 3, padding=1),
            )
            for out in BRANCHES
        )

    @staticmethod
    def _block(before: int, width: int, stride: int, depth: int) -> nn.Sequential:
        return nn.Sequential(
            ConvNorm(before, width, 3, stride=stride, activation="relu"),
            *(ConvNorm(width, width, 3, activation="relu") for _ in range(depth)),
        )

    def forward(self, x: Tensor) -> Tensor:
        fine = self.first(x)
        x = self.shared(torch.cat([self.same(fine), self.up(self.second(fine))], dim=1))
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class CenterPoint(nn.Module):
    """One frame to the maps of the centre head."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        widths = c["widths"]
        self.side = c["grid"]
        self.layers = nn.ModuleList(
            Grid(before, width, c["blocks"])
            for before, width in zip([c["features"], *widths], widths, strict=False)
        )
        self.flatten = SparseConv(3, widths[-1], widths[-1])
        self.head = MapHead(c, 2 * widths[-1])

    def forward(
        self,
        points: Tensor,
        voxel: Tensor,
        keys: list[Tensor],
        into: list[Tensor],
        pairs: list[Tensor],
        last: Tensor,
        place: Tensor,
    ) -> Tensor:
        """Points with their voxels; sites and pairs of every grid; the map places of the last sites."""
        wide = torch.cat([points, torch.ones_like(points[:, :1])], dim=1)
        sums = wide.new_zeros(keys[0].shape[0], wide.shape[1]).index_add(0, voxel, wide)
        x = sums[:, :-1] / sums[:, -1:].clamp(min=1)
        for grid, key, before, joined in zip(self.layers, keys, into, pairs, strict=True):
            x = grid(x, before, joined, key)
        x = self.flatten(x, last, place.shape[0]).relu()
        canvas = x.new_zeros(2 * self.side**2, x.shape[1]).index_put((place,), x)
        planes = canvas.t().unflatten(1, (2, self.side, self.side)).flatten(0, 1)
        out: Tensor = self.head(planes[None].contiguous())
        return out


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return CenterPoint(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""

    def index(*shape: str | int) -> Input:
        return Input(shape, "int64", high=2)

    count = len(config["widths"])
    near = [index(2, KERNEL, f"sites_{at + 1}*around//{KERNEL}") for at in range(count)]
    strided = [index(2, KERNEL, f"sites_{at + 1}//8") for at in range(count - 1)]
    keys = [index(f"sites_{at + 1}") for at in range(count)]
    points = (Input(("points", config["features"]), "model"), index("points"))
    last = index(2, 3, f"sites_{count}//2")
    return Example((*points, keys, [near[0], *strided], near, last, index("sites_5")))
