"""Building blocks of the image and volume models: token layouts, convolution with a norm, windows.

As in `graphs.layers`, blocks never branch on a size and attention goes through
`F.scaled_dot_product_attention`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.layers import ACTIVATIONS


def to_tokens(x: Tensor) -> Tensor:
    """Maps [batch, channels, ...] to tokens [batch, places, channels], copied into their order.

    What follows would copy them for most batches anyway; here, so that every batch runs the same ops.
    """
    return x.flatten(2).transpose(1, 2).contiguous()


def to_map(x: Tensor, *sides: int) -> Tensor:
    """Tokens [batch, places, channels] to a map [batch, channels, *sides]; a view."""
    image: Tensor = x.transpose(1, 2).unflatten(2, sides)
    return image


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm and, where named, an activation."""

    def __init__(
        self,
        inner: int,
        outer: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = False,
        activation: str = "",
        eps: float = 1e-5,
    ) -> None:
        pad = kernel // 2 if padding is None else padding
        layers: list[nn.Module] = [
            nn.Conv2d(inner, outer, kernel, stride=stride, padding=pad, groups=groups, bias=bias),
            nn.BatchNorm2d(outer, eps=eps),
        ]
        super().__init__(*layers, *([Activation(activation)] if activation else []))


class Activation(nn.Module):
    """An activation by name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = ACTIVATIONS[name]

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map [batch, channels, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Scale(nn.Module):
    """A learned factor per channel (LayerScale, Touvron et al. 2021), the last dimension being channels."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


def depthwise(width: int, kernel: int, *, stride: int = 1, dilation: int = 1, bias: bool = True) -> nn.Conv2d:
    """A convolution of every channel by itself that keeps the size at stride 1."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(
        width, width, kernel, stride=stride, padding=padding, dilation=dilation, groups=width, bias=bias
    )


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[batch, tokens, heads x dim] to [batch, heads, tokens, dim]; a view."""
    split: Tensor = x.unflatten(-1, (heads, -1)).transpose(1, 2)
    return split


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, *, scale: float | None = None) -> Tensor:
    """Softmax attention of [batch, tokens, width] tensors with `heads` heads, back in that layout."""
    query, key, value = (split_heads(x, heads) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, scale=scale).transpose(1, 2).flatten(2)


def _copied(x: Tensor) -> Tensor:
    """A copy even where one window makes it needless, so that every image size runs the same ops."""
    return x.clone(memory_format=torch.contiguous_format)


def into_windows(x: Tensor, window: int) -> Tensor:
    """[batch, height, width, channels] to [batch, windows, window*window, channels]."""
    rows, columns = x.shape[1] // window, x.shape[2] // window
    x = x.unflatten(2, (columns, window)).unflatten(1, (rows, window))
    return _copied(x.transpose(2, 3)).flatten(3, 4).flatten(1, 2)


def from_windows(x: Tensor, window: int, rows: int, columns: int) -> Tensor:
    """The inverse of `into_windows` for rows x columns windows."""
    x = x.unflatten(2, (window, window)).unflatten(1, (rows, columns))
    return _copied(x.transpose(2, 3)).flatten(3, 4).flatten(1, 2)


@torch.library.custom_op("hwsim::farthest_points", mutates_args=())
def farthest_points(place: Tensor, count: int) -> Tensor:
    """Indices of `count` points of [points, dims], each the farthest from those before it; one kernel."""
    chosen = torch.zeros(count, dtype=torch.long, device=place.device)
    apart = torch.full((place.shape[0],), float("inf"), dtype=place.dtype, device=place.device)
    for at in range(1, count):
        apart = torch.minimum(apart, ((place - place[chosen[at - 1]]) ** 2).sum(1))
        chosen[at] = apart.argmax()
    return chosen


@farthest_points.register_fake
def _farthest_points_shape(place: Tensor, count: int) -> Tensor:
    return place.new_empty(count, dtype=torch.long)
