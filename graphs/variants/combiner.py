"""Full attention from sparse scores: own segment directly, every other segment through a summary. Combiner.

Ren et al., "Combiner: Full Attention Transformer with Sparse Computation Cost", arXiv:2107.05768, 2021. A
causal language model of 12 layers of 768 with 12 heads. `fixed`: the summary key of a segment is the
maximum of its keys, its summary value an attention of the maximal query over it; one softmax joins the
scores inside the segment with those of all earlier summaries. `axial`: attention inside rows first, its
output projected to keys per position, then scores between equal columns of different rows. `mixture`: five
families of scores, with running maxima along rows and columns (their exact arrangement simplified to the
widths the source gives). `logsparse`: one summary per power of two, by pooling and shifts. Segments of 128
at 2048 tokens as published; 128 at 8192 is assumed (own choice); vocabulary 32000. Baselines are the same
decoder with full, Performer and BigBird mixing (256 features, blocks of 64: assumed; BigBird without the
causal mask, which changes nothing of its cost).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, token_ids
from graphs.mixers.blocks import BigBird, blocked, unblocked
from graphs.mixers.encoder import MixerBlock, sinusoids
from graphs.mixers.features import Performer
from graphs.mixers.heads import Projected, Softmax

FAMILY = "decoder"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "combiner-fixed": {
        "mixing": "fixed", "segment": 128, "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072,
        "vocab": 32000, "max_position": 65536, "length": 2048, "dtype": "bfloat16",
    },
    "combiner-fixed-s32": {
        "mixing": "fixed", "segment": 32, "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072,
        "vocab": 32000, "max_position": 65536, "length": 1024, "dtype": "bfloat16",
    },
    "combiner-axial": {
        "mixing": "axial", "segment": 128, "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072,
        "vocab": 32000, "max_position": 65536, "length": 2048, "dtype": "bfloat16",
    },
    "combiner-mixture": {
        "mixing": "mixture", "segment": 128, "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072,
        "vocab": 32000, "max_position": 65536, "length": 2048, "dtype": "bfloat16",
    },
    "combiner-logsparse": {
        "mixing": "logsparse", "segment": 2, "levels": 11, "layers": 12, "hidden": 768, "heads": 12,
        "intermediate": 3072, "vocab": 32000, "max_position": 65536, "length": 2048, "dtype": "bfloat16",
    },
    "combiner-cifar": {
        "mixing": "fixed", "segment": 64, "layers": 6, "hidden": 512, "heads": 8, "intermediate": 2048,
        "vocab": 256, "max_position": 3072, "length": 3072, "dtype": "bfloat16",
    },
    "combiner-imagenet64": {
        "mixing": "fixed", "segment": 128, "layers": 6, "hidden": 512, "heads": 8, "intermediate": 2048,
        "vocab": 256, "max_position": 12288, "length": 12288, "dtype": "bfloat16",
    },
    "combiner-vanilla": {
        "mixing": "softmax", "segment": 2, "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072,
        "vocab": 32000, "max_position": 65536, "length": 2048, "dtype": "bfloat16",
    },
    "combiner-performer": {
        "mixing": "performer", "segment": 128, "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072,
        "vocab": 32000, "max_position": 65536, "length": 2048, "dtype": "bfloat16",
    },
    "combiner-bigbird": {
        "mixing": "bigbird", "segment": 64, "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072,
        "vocab": 32000, "max_position": 65536, "length": 2048, "dtype": "bfloat16",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "seq": {
        "default": "length",
        "min": "3 * segment",
        "max": "max_position",
        "meaning": "tokens per sequence, padded inside to whole segments",
    },
}
BASELINES = {
    "vanilla": "combiner-vanilla",
    "Performer": "combiner-performer",
    "BigBird": "combiner-bigbird",
}
_HIDDEN = float("-inf")


def _summary_value(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of each segment's maximal query over the segment, [batch, heads, segments, d]."""
    asked = query.amax(-2, keepdim=True)
    return F.scaled_dot_product_attention(asked, key, value).squeeze(-2)


def _own_scores(query: Tensor, key: Tensor) -> Tensor:
    """Causal scores inside segments, [batch, heads, segments, s, s]."""
    segment = query.shape[-2]
    later = torch.ones(segment, segment, dtype=torch.bool, device=query.device).triu(1)
    return (query @ key.transpose(-1, -2)).masked_fill(later, _HIDDEN)


def _earlier(segments: int, device: torch.device) -> Tensor:
    """True where a segment is not strictly before another, [segments, segments]."""
    return torch.ones(segments, segments, dtype=torch.bool, device=device).triu()


class Fixed(nn.Module):
    """Own segment, and one summary for each earlier segment."""

    def __init__(self, segment: int) -> None:
        super().__init__()
        self.segment = segment

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        tokens = query.shape[-2]
        query = query * query.shape[-1] ** -0.5
        query, key, value = (blocked(x, self.segment) for x in (query, key, value))
        summary, summary_value = key.amax(-2), _summary_value(query, key, value)
        own = _own_scores(query, key)
        wide = query.flatten(2, 3) @ summary.transpose(-1, -2)
        wide = wide.unflatten(2, (-1, self.segment))
        hidden = _earlier(summary.shape[2], query.device).unsqueeze(1)
        scores = torch.cat([own, wide.masked_fill(hidden, _HIDDEN)], dim=-1)
        weight = scores.softmax(-1)
        near, far = weight[..., : self.segment], weight[..., self.segment :]
        mixed = near @ value + (far.flatten(2, 3) @ summary_value).unflatten(2, (-1, self.segment))
        return unblocked(mixed, tokens)


class Axial(nn.Module):
    """Own row, and of earlier rows what their row attention left in the same column."""

    def __init__(self, width: int, heads: int, segment: int) -> None:
        super().__init__()
        self.heads, self.segment = heads, segment
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.row_out, self.row_key, self.row_norm = (
            nn.Linear(width, width), nn.Linear(width, width), nn.LayerNorm(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.shape[1]
        query, key, value = (self._rows(linear(x)) for linear in (self.query, self.key, self.value))
        row = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        left = unblocked(row, tokens).transpose(1, 2).flatten(2)
        keys = self._rows(self.row_key(self.row_norm(x + self.row_out(left))))
        query = query * query.shape[-1] ** -0.5
        own = _own_scores(query, key)
        down, up = (part.transpose(2, 3) for part in (query, keys))  # columns first
        hidden = _earlier(query.shape[2], x.device)
        columns = (down @ up.transpose(-1, -2)).masked_fill(hidden, _HIDDEN).transpose(2, 3)
        weight = torch.cat([own, columns], dim=-1).softmax(-1)
        near, far = weight[..., : self.segment], weight[..., self.segment :]
        mixed = near @ value + (far.transpose(2, 3) @ row.transpose(2, 3)).transpose(2, 3)
        out: Tensor = self.out(unblocked(mixed, tokens).transpose(1, 2).flatten(2))
        return out

    def _rows(self, x: Tensor) -> Tensor:
        return blocked(x.unflatten(-1, (self.heads, -1)).transpose(1, 2), self.segment)


class Mixture(nn.Module):
    """Rows, columns, row summaries and running column summaries under one softmax: 3 S + 2 s scores."""

    def __init__(self, segment: int) -> None:
        super().__init__()
        self.segment = segment

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        tokens = query.shape[-2]
        query = query * query.shape[-1] ** -0.5
        query, key, value = (blocked(x, self.segment) for x in (query, key, value))
        hidden = _earlier(query.shape[2], query.device)
        down = query.transpose(2, 3)
        running = [key.cummax(3).values, key.flip(3).cummax(3).values.flip(3)]
        above = key.cummax(2).values
        families = [
            (_own_scores(query, key), value),
            (_own_scores(query, above), value),
            *((self._columns(down, one, hidden), None) for one in (key, *running)),
        ]
        weight = torch.cat([scores for scores, _ in families], dim=-1).softmax(-1)
        widths = [scores.shape[-1] for scores, _ in families]
        mixed = torch.zeros_like(query)
        for part, (_, rows) in zip(weight.split(widths, dim=-1), families, strict=True):
            if rows is not None:
                mixed = mixed + part @ rows
            else:
                mixed = mixed + (part.transpose(2, 3) @ value.transpose(2, 3)).transpose(2, 3)
        return unblocked(mixed, tokens)

    def _columns(self, down: Tensor, keys: Tensor, hidden: Tensor) -> Tensor:
        scores = down @ keys.transpose(2, 3).transpose(-1, -2)
        return scores.masked_fill(hidden, _HIDDEN).transpose(2, 3)


class LogSparse(nn.Module):
    """One score for the token itself and one for each of `levels` spans of doubling length before it."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query = query * query.shape[-1] ** -0.5
        scores, values = [(query * key).sum(-1)], [value]
        span_key, span_value = key, value
        for level in range(self.levels):
            shift = 2**level
            earlier_key = F.pad(span_key, (0, 0, shift, 0))[..., :-shift, :]
            earlier_value = F.pad(span_value, (0, 0, shift, 0))[..., :-shift, :]
            scores.append((query * earlier_key).sum(-1))
            values.append(earlier_value)
            span_key = torch.maximum(span_key, earlier_key)
            gate = (span_key * earlier_key).sum(-1, keepdim=True).sigmoid()
            span_value = torch.lerp(span_value, earlier_value, gate)
        weight = torch.stack(scores, dim=-1).softmax(-1)
        return (weight.unsqueeze(-2) @ torch.stack(values, dim=-2)).squeeze(-2)


def _mixing(c: Mapping[str, Any]) -> nn.Module:
    width, heads, segment = c["hidden"], c["heads"], c["segment"]
    if c["mixing"] == "axial":
        return Axial(width, heads, segment)
    head_dim = width // heads
    made: Mapping[str, Any] = {
        "fixed": lambda: Fixed(segment),
        "mixture": lambda: Mixture(segment),
        "logsparse": lambda: LogSparse(c["levels"]),
        "softmax": lambda: Softmax(causal=True),
        "performer": lambda: Performer(head_dim, 256, "relu", chunk=segment),
        "bigbird": lambda: BigBird(segment, 3),
    }
    return Projected(width, heads, head_dim, made[c["mixing"]]())


class Decoder(nn.Module):
    """Token ids to logits; the embedding is also the head, as language models of this size do."""

    positions: Tensor

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.scale = math.sqrt(c["hidden"])
        self.embedding = nn.Embedding(c["vocab"], c["hidden"])
        self.register_buffer("positions", sinusoids(c["max_position"], c["hidden"]), persistent=False)
        self.layers = nn.ModuleList(
            MixerBlock(c["hidden"], c["intermediate"], _mixing(c)) for _ in range(c["layers"])
        )
        self.norm = nn.LayerNorm(c["hidden"])

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embedding(input_ids) * self.scale + self.positions[: input_ids.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return F.linear(self.norm(x), self.embedding.weight)


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return Decoder(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((token_ids("batch", "seq", config["vocab"]),))
