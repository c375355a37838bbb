"""Images as rows of patches beside the grid they lie on, as vision towers for many sizes take them.

A model makes counts of the grid, so it is known while tracing: one image of the size the model was made for.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

from graphs.inputs import Input, Size, known

if TYPE_CHECKING:
    from graphs.sources.hf.inputs import Facts

_GRIDS = ("grid_thw", "image_grid_thw", "spatial_shapes")


def takes_patches(model_class: Any) -> bool:
    """Whether the forward cannot do without a grid."""
    taken = inspect.signature(model_class.forward).parameters
    return any(name in taken and taken[name].default is taken[name].empty for name in _GRIDS)


def patches(f: Facts) -> list[Input]:
    """The rows of one image; what a row holds is the model's own."""
    count, side = _side(f) ** 2, _patch(f)
    depth = _one(f.first("temporal_patch_size", default=1))
    width = f.channels * depth * side**2
    shapes: list[tuple[Size, ...]] = [
        (count, width), (1, count, width), (count, f.channels, side, side), (count // 4, 4 * width),
    ]  # fmt: skip
    return [Input(shape, "model") for shape in shapes]


def grids(f: Facts) -> list[Input]:
    """Frames, rows and columns of patches."""
    return [known(((1, _side(f), _side(f)),))]


def merged_grids(f: Facts) -> list[Input]:
    """The same in groups that become one token."""
    return [known(((1, _side(f) // _merge(f), _side(f) // _merge(f)),)), *grids(f)]


def flat_grids(f: Facts) -> list[Input]:
    """Rows and columns of patches."""
    return [known(((_side(f), _side(f)),))]


def masks(f: Facts) -> list[Input]:
    """Which patches are of the image: all."""
    return [Input((1, _side(f) ** 2), "int64", low=1, high=2)]


def merges(f: Facts) -> list[Input]:
    """Patches per side that become one token."""
    return [known((_merge(f),))]


def windows(model_class: Any, f: Facts) -> dict[str, Input]:
    """Which patches share a window, by the model's own function: counts are made of what it computes."""
    make = vars(sys.modules[model_class.__module__]).get("get_vision_window_index")
    if make is None or not takes_patches(model_class):
        return {}
    import torch

    index, ends = make(torch.tensor(grids(f)[0].values), _merge(f), f.first("window_size"), _patch(f))
    return {"window_index": known(tuple(index.tolist())), "cu_window_seqlens": known(tuple(ends.tolist()))}


def _side(f: Facts) -> int:
    merge = _merge(f)
    return max(1, f.image[0] // _patch(f) // merge) * merge


def _patch(f: Facts) -> int:
    return _one(f.first("patch_size", default=14))


def _merge(f: Facts) -> int:
    return _one(f.first("spatial_merge_size", "merge_size", "merge_kernel_size", default=2))


def _one(value: Any) -> int:
    return int(value[-1] if isinstance(value, list | tuple) else value)
