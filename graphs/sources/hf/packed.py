"""Images of one size packed as rows of patches: as many as a trace wants, and one attention over all.

Vision towers for many image sizes make indices and counts of the grids of their images. transformers keeps
the functions that do so apart (`get_vision_...`), since they cannot be traced. While such a tower is traced
they run for real on the grids of one image and of two, and what they give is stretched to `batch` images.
Attention is the one that flash kernels offer for packed sequences, over the lengths that one image has.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from graphs.errors import GraphError
from graphs.tracing.torch_private import constant_of, is_fake, mapped_tensors, tensors_in, without_modes

ATTENTION = "hwsim_flash_packed"  # a name with "flash" in it gets packed sequences
Rows = Mapping[int, tuple[int, ...]]


@dataclass(slots=True)
class _Stretched:
    """What is known of stretched tensors: their data for one image and for two."""

    rows: Rows
    known: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def call(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The function, with what it gives for one image and two stretched to as many as were passed."""
        given = tensors_in((args, kwargs))
        unknown = [tensor for tensor in given if is_fake(tensor) and constant_of(tensor) is None]
        if not unknown:
            return function(*args, **kwargs)
        first = unknown[0]
        if first.dim() == 1 and id(first) not in self.known and function.__name__ == "get_max_seqlen":
            return prod(self.rows[2])  # of images, where a model computed the ends itself
        images = self.images(first)
        with without_modes(), torch.no_grad():
            one, two = (
                function(*a, **k)
                for a, k in (mapped_tensors(self._real(n), (args, dict(kwargs))) for n in (1, 2))
            )
        return self._stretch(one, two, images)

    def images(self, tensor: torch.Tensor) -> Any:
        """How many images the tensor tells of."""
        if id(tensor) not in self.known:
            return tensor.shape[0]
        _, one, two = self.known[id(tensor)]
        return 1 + (tensor.shape[0] - one.shape[0]) // (two.shape[0] - one.shape[0])

    def groups(self, ends: torch.Tensor, total: Any) -> list[tuple[Any, Any]]:
        """How many sequences there are of each length; of one where a model computed the ends itself."""
        data = self.known[id(ends)][1] if id(ends) in self.known else constant_of(ends)
        if data is None:
            return [(ends.shape[0] - 1, total // (ends.shape[0] - 1))]
        with without_modes():
            lengths = [int(length) for length in data.diff()]
        images = total // sum(lengths)
        return [(images * count, length) for length, count in Counter(lengths).items()]

    def _real(self, images: int) -> Callable[[torch.Tensor], torch.Tensor]:
        def real(tensor: torch.Tensor) -> torch.Tensor:
            if id(tensor) in self.known:
                return self.known[id(tensor)][images]
            if not is_fake(tensor):
                return tensor
            if (data := constant_of(tensor)) is not None:
                return data
            columns = tensor.shape[1] if tensor.dim() == 2 else 0
            if tensor.dim() > 2 or columns not in self.rows:
                raise GraphError("indices of images are made of data")
            row = self.rows[columns]
            return torch.tensor([row if columns else row[0]] * images, dtype=tensor.dtype)

        return real

    def _stretch(self, one: Any, two: Any, images: Any) -> Any:
        if isinstance(one, tuple | list):
            return type(one)(self._stretch(a, b, images) for a, b in zip(one, two, strict=True))
        if isinstance(one, torch.Tensor):
            shape = [self._stretch(a, b, images) for a, b in zip(one.shape, two.shape, strict=True)]
            made = torch.empty(shape, dtype=one.dtype)
            self.known[id(made)] = (made, one, two)
            return made
        return one if one == two else one + (two - one) * (images - 1)


_active: list[_Stretched] = []


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """[1, heads, packed, width] -> [1, packed, heads, width]; sequences of one length attend together."""
    grouped = query.shape[1] != key.shape[1]
    if cu_seq_lens_q is None:
        made = scaled_dot_product_attention(
            query, key, value, attention_mask, scale=scaling, enable_gqa=grouped
        )
        return made.transpose(1, 2), None
    groups = _active[-1].groups(cu_seq_lens_q, query.shape[2])
    found, start = [], 0
    for sequences, length in groups:
        end = start + sequences * length
        q, k, v = (
            (t[0] if len(groups) == 1 else t[0, :, start:end])
            .unflatten(1, (sequences, length))
            .transpose(0, 1)
            for t in (query, key, value)
        )
        out = scaled_dot_product_attention(q, k, v, scale=scaling, enable_gqa=grouped)
        found.append(out.transpose(1, 2).reshape(1, sequences * length, query.shape[1], -1))
        start = end
    return found[0] if len(found) == 1 else torch.cat(found, 1), None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, ALL_MASK_ATTENTION_FUNCTIONS["flash_attention_2"])


def attend_packed(module: nn.Module) -> nn.Module:
    """The tower with the attention of packed sequences."""
    for part in module.modules():
        config: Any = getattr(part, "config", None)
        if hasattr(config, "_attn_implementation"):
            config._attn_implementation_internal = ATTENTION
    return module


@contextmanager
def packed_images(rows: Rows) -> Iterator[None]:
    """While the block runs, functions of grids know one image's row, by its number of columns."""
    stretched = _Stretched(rows)
    found = [
        (module, name, function)
        for path, module in list(sys.modules.items())
        if path.startswith("transformers.")
        for name, function in list(vars(module).items())
        if (name.startswith("get_vision_") or name == "get_max_seqlen") and callable(function)
    ]
    for module, name, function in found:
        setattr(module, name, _known_by(stretched, function))
    _active.append(stretched)
    try:
        yield
    finally:
        _active.remove(stretched)
        for module, name, function in found:
            setattr(module, name, function)


def _known_by(stretched: _Stretched, function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: stretched.call(function, args, kwargs)
