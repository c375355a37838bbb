"""A mixer by name, with the settings of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from graphs.errors import GraphError
from graphs.mixers.blocks import BigBird, Local, MaskedLongformer, MaskedSparse, Sinkhorn, SlidingWindow
from graphs.mixers.features import FlowAttention, LinearAttention, Performer
from graphs.mixers.hashing import Reformer
from graphs.mixers.heads import Projected, Softmax
from graphs.mixers.low_rank import Linformer, Synthesizer
from graphs.mixers.unattended import Convolution, DenseFourier, Fourier, StateSpace, TokenMLP

Settings = Mapping[str, Any]


def mixer(kind: str, width: int, heads: int, settings: Settings, *, head_dim: int | None = None) -> nn.Module:
    """The mixer called `kind`; it reads what it needs from `settings`."""
    inner = head_dim or width // heads
    if kind in _OF_HEADS:
        operands, make = _OF_HEADS[kind]
        return Projected(width, heads, inner, make(settings, heads, inner), operands=operands)
    if kind in _WHOLE:
        return _WHOLE[kind](settings, width, heads, inner)
    raise GraphError(f"no token mixer {kind!r}; mixers are {', '.join(sorted((*_OF_HEADS, *_WHOLE)))}")


# kind -> operands of the heads, and the mixing made from (settings, heads, head_dim)
_OF_HEADS: dict[str, tuple[str, Callable[[Settings, int, int], nn.Module]]] = {
    "softmax": ("qkv", lambda s, h, d: Softmax(dropout=s.get("attention_dropout", 0.0))),
    "local": ("qkv", lambda s, h, d: Local(s["block"])),
    "sparse": ("qkv", lambda s, h, d: MaskedSparse(s["block"], s["columns"])),
    "linformer": ("qkv", lambda s, h, d: Linformer(s["max_position"], s["rank"], shared=s["shared"])),
    "reformer": ("kv", lambda s, h, d: Reformer(d, s["rounds"], s["buckets"], s["chunk"])),
    "sinkhorn": ("qkv", lambda s, h, d: Sinkhorn(s["block"], d, s["max_blocks"])),
    "synthesizer": ("v", lambda s, h, d: Synthesizer(h, s["max_position"], s["rank"])),
    "bigbird": ("qkv", lambda s, h, d: BigBird(s["block"], s["random_blocks"])),
    "linear": ("qkv", lambda s, h, d: LinearAttention(chunk=s.get("prefix_chunk", 0))),
    "performer": (
        "qkv",
        lambda s, h, d: Performer(d, s["features"], s["kernel"], chunk=s.get("prefix_chunk", 0)),
    ),
    "flow": ("qkv", lambda s, h, d: FlowAttention()),
}
# kind -> the whole mixer made from (settings, width, heads, head_dim)
_WHOLE: dict[str, Callable[[Settings, int, int, int], nn.Module]] = {
    "longformer": lambda s, w, h, d: SlidingWindow(w, h, d, s["window"], s["global_tokens"]),
    "longformer_masked": lambda s, w, h, d: MaskedLongformer(w, h, d, s["window"], s["global_tokens"]),
    "fourier": lambda s, w, h, d: Fourier(),
    "fourier_dense": lambda s, w, h, d: DenseFourier(),
    "token_mlp": lambda s, w, h, d: TokenMLP(s["length"], s["token_hidden"]),
    "convolution": lambda s, w, h, d: Convolution(w, s["conv_kernel"]),
    "state_space": lambda s, w, h, d: StateSpace(w, s["states"]),
}
