"""Images as rows of patches beside the grid they lie on, as vision towers for many sizes take them.

A model makes counts of the grid, so it is known while tracing: images of the size the model was made for, as
many as `batch` where its code allows (`packed`), otherwise one.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

from graphs.inputs import Input, Size, known

if TYPE_CHECKING:
    from graphs.sources.hf.inputs import Facts

_GRIDS = ("grid_thw", "image_grid_thw", "spatial_shapes", "pixel_position_ids", "target_sizes")


def takes_patches(model_class: Any) -> bool:
    """Whether the forward cannot do without a grid."""
    return bool(grids_of(model_class))


def grids_of(model_class: Any) -> list[str]:
    """The grids that the forward takes and needs: a tower alone needs those that it calls optional, too."""
    taken = inspect.signature(model_class.forward).parameters
    alone = "pixel_values" in taken and "input_ids" not in taken
    return [n for n in _GRIDS if n in taken and (alone or taken[n].default is taken[n].empty)]


def patches(f: Facts) -> list[Input]:
    """The rows of the images; what a row holds is the model's own."""
    count, side = _side(f) ** 2, _patch(f)
    depth = _one(f.first("temporal_patch_size", default=1))
    width = f.channels * depth * side**2
    shapes: list[tuple[Size, ...]] = [
        (_times(f, count), width), (_images(f), count, width), (_times(f, count), f.channels, side, side),
        (_times(f, count // 4), 4 * width), (1, f.channels, side, _times(f, count * side)),
    ]  # fmt: skip
    return [Input(shape, "model") for shape in shapes]


def rows(f: Facts) -> dict[int, tuple[int, ...]]:
    """One image's row in a table of grids, by its columns; in a plain list (0) how patches merge."""
    side = _side(f)
    return {3: (1, side, side), 2: (side, side), 0: (_merge(f),)}


def grids(f: Facts) -> list[Input]:
    """Frames, rows and columns of patches."""
    return _row(f, (1, _side(f), _side(f)))


def merged_grids(f: Facts) -> list[Input]:
    """The same in groups that become one token."""
    merged = _side(f) // _merge(f)
    return grids(f) if f.batched else [*_row(f, (1, merged, merged)), *grids(f)]


def flat_grids(f: Facts) -> list[Input]:
    """Rows and columns of patches."""
    return _row(f, (_side(f), _side(f)))


def masks(f: Facts) -> list[Input]:
    """Which patches are of the image, or which images there are: all."""
    several = [] if f.packed else [Input(("batch", 1), "int64", low=1, high=2)]
    return [*several, Input((_images(f), _side(f) ** 2), "int64", low=1, high=2)]


def places(f: Facts) -> list[Input]:
    """Column and row of every patch."""
    return [Input((_images(f), _side(f) ** 2, 2), "int64")]


def merges(f: Facts) -> list[Input]:
    """Patches per side that become one token."""
    return [Input(("batch",), "int64")] if f.batched else [known((_merge(f),))]


def _row(f: Facts, values: tuple[int, ...]) -> list[Input]:
    return [Input(("batch", len(values)), "int64")] if f.batched else [known((values,))]


def _images(f: Facts) -> Size:
    return "batch" if f.batched else 1


def _times(f: Facts, count: int) -> Size:
    return f"batch*{count}" if f.batched else count


def windows(model_class: Any, f: Facts) -> dict[str, Input]:
    """Which patches share a window, by the model's own function: counts are made of what it computes."""
    make = vars(sys.modules[model_class.__module__]).get("get_vision_window_index")
    size = f.first("window_size")
    if make is None or size is None or f.batched or not takes_patches(model_class):
        return {}
    import torch

    index, ends = make(torch.tensor(grids(f)[0].values), _merge(f), size, _patch(f))
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
