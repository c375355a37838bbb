"""Encoder-decoder with relative position biases: T5, and the sparse layers Switch puts into it.

Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
arXiv:1910.10683, 2020. RMS norm before every sublayer, no biases in linears, unscaled scores, one learned
bias per head and distance bucket shared by all layers of a stack, and one embedding for encoder, decoder
and head (the released t5-* checkpoints). Phases: forward is teacher forcing, `source` tokens in, `seq` out;
prefill runs the encoder, every layer's cross keys and values, and `seq` decoder tokens after `context`
cached ones; decode runs one decoder token and no encoder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphs.inputs import Example, key_value_cache, token_ids
from graphs.layers import MLP, Attention, KeyValue, RMSNorm, causal_mask, step_mask
from graphs.variants.mixtral import SparseMLP

FAMILY = "encoder-decoder"
PHASES = ("forward", "prefill", "decode")
LOSS = "cross_entropy"
# fmt: off
CONFIGS = {
    "t5-small": {
        "hidden": 512, "layers": 6, "heads": 8, "head_dim": 64, "intermediate": 2048, "vocab": 32128,
        "buckets": 32, "max_distance": 128, "activation": "relu", "norm_eps": 1e-6, "dropout": 0.1,
        "dtype": "float32",
    },
    "t5-base": {
        "hidden": 768, "layers": 12, "heads": 12, "head_dim": 64, "intermediate": 3072, "vocab": 32128,
        "buckets": 32, "max_distance": 128, "activation": "relu", "norm_eps": 1e-6, "dropout": 0.1,
        "dtype": "float32",
    },
    "t5-large": {
        "hidden": 1024, "layers": 24, "heads": 16, "head_dim": 64, "intermediate": 4096, "vocab": 32128,
        "buckets": 32, "max_distance": 128, "activation": "relu", "norm_eps": 1e-6, "dropout": 0.1,
        "dtype": "float32",
    },
    "t5-3b": {
        "hidden": 1024, "layers": 24, "heads": 32, "head_dim": 128, "intermediate": 16384, "vocab": 32128,
        "buckets": 32, "max_distance": 128, "activation": "relu", "norm_eps": 1e-6, "dropout": 0.1,
        "dtype": "float32",
    },
    "t5-11b": {
        "hidden": 1024, "layers": 24, "heads": 128, "head_dim": 128, "intermediate": 65536, "vocab": 32128,
        "buckets": 32, "max_distance": 128, "activation": "relu", "norm_eps": 1e-6, "dropout": 0.1,
        "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "source": {"default": 512, "min": 1, "max": None, "meaning": "encoder tokens per sequence"},
    "seq": {
        "default": {"forward": 512, "prefill": 1},
        "min": 1,
        "max": None,
        "meaning": "new decoder tokens per sequence",
    },
    "context": {
        "default": {"prefill": 0, "decode": 128},
        "min": 0,
        "max": None,
        "meaning": "decoder tokens already cached per sequence",
    },
}
GUARDS: dict[str, list[str]] = {}
BASELINES: dict[str, Any] = {}

Counts = tuple[int | None, int | None]


class RelativeBias(nn.Module):
    """A learned bias per head and bucket of distance: half the buckets exact, half logarithmic."""

    def __init__(self, c: Mapping[str, Any], both_ways: bool) -> None:
        super().__init__()
        self.buckets, self.max_distance, self.both_ways = c["buckets"], c["max_distance"], both_ways
        self.table = nn.Embedding(c["buckets"], c["heads"])

    def forward(self, start: int, queries: int, keys: int, device: torch.device) -> Tensor:
        """[1, heads, queries, keys] for queries at positions from `start` on and keys from 0 on."""
        query = torch.arange(start, start + queries, device=device)
        apart = torch.arange(keys, device=device)[None, :] - query[:, None]
        bias: Tensor = self.table(self._bucket(apart))
        return bias.permute(2, 0, 1).unsqueeze(0)

    def _bucket(self, apart: Tensor) -> Tensor:
        buckets = self.buckets // 2 if self.both_ways else self.buckets
        distance = apart.abs() if self.both_ways else (-apart).clamp(min=0)
        exact = buckets // 2
        # logarithms in float32 whatever the model's dtype: half precision moves bucket borders
        growth = (distance.to(torch.float32) / exact).log() / math.log(self.max_distance / exact)
        far = (exact + growth * (buckets - exact)).to(torch.int64).clamp(max=buckets - 1)
        bucket = torch.where(distance < exact, distance, far)
        return bucket + (apart > 0).to(torch.int64) * buckets if self.both_ways else bucket


class Block(nn.Module):
    """Self-attention, in a decoder cross-attention, and MLP, each behind an RMS norm inside a residual."""

    def __init__(self, c: Mapping[str, Any], *, decoder: bool, sparse: bool) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(c["hidden"], c["norm_eps"])
        self.attention = _attention(c)
        self.cross_norm = RMSNorm(c["hidden"], c["norm_eps"]) if decoder else None
        self.cross_attention = _attention(c) if decoder else None
        self.mlp_norm = RMSNorm(c["hidden"], c["norm_eps"])
        self.mlp = _sparse_mlp(c) if sparse else _mlp(c)
        self.sparse = sparse
        self.dropout = nn.Dropout(c["dropout"])

    def forward(
        self,
        x: Tensor,
        bias: Tensor,
        counts: Counts,
        past: KeyValue | None = None,
        encoded: Tensor | None = None,
        memory: KeyValue | None = None,
    ) -> tuple[Tensor, KeyValue, KeyValue | None]:
        """Hidden states, self-attention cache, cross keys and values (made of `encoded` unless given)."""
        mixed, pair = self.attention(self.attention_norm(x), past=past, mask=bias)
        x = x + self.dropout(mixed)
        if self.cross_attention is not None and self.cross_norm is not None:
            if memory is None and encoded is not None:
                memory = self.cross_attention.keys_values(encoded)
            if memory is not None:
                x = x + self.dropout(self.cross_attention.cross(self.cross_norm(x), memory))
        normed = self.mlp_norm(x)
        return x + self.dropout(self.mlp(normed, *counts) if self.sparse else self.mlp(normed)), pair, memory


def _attention(c: Mapping[str, Any]) -> Attention:
    return Attention(
        c["hidden"], c["heads"], head_dim=c["head_dim"], bias=False, scale=1.0, dropout=c["dropout"]
    )


def _mlp(c: Mapping[str, Any]) -> nn.Module:
    return MLP(c["hidden"], c["intermediate"], c["activation"], bias=False, dropout=c["dropout"])


def _sparse_mlp(c: Mapping[str, Any]) -> nn.Module:
    return SparseMLP(
        c["hidden"],
        c["intermediate"],
        c["experts"],
        c["top_k"],
        c["activation"],
        gated=False,
        normalise=False,
    )


class Stack(nn.Module):
    """The layers of one side; with `experts` in the config every second MLP is sparse."""

    def __init__(self, c: Mapping[str, Any], *, decoder: bool) -> None:
        super().__init__()
        self.bias = RelativeBias(c, both_ways=not decoder)
        self.blocks = nn.ModuleList(
            Block(c, decoder=decoder, sparse="experts" in c and index % 2 == 1)
            for index in range(c["layers"])
        )
        self.norm = RMSNorm(c["hidden"], c["norm_eps"])
        self.dropout = nn.Dropout(c["dropout"])


class T5(nn.Module):
    """Source and target token ids to target logits, with or without caches."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(c["vocab"], c["hidden"])
        self.encoder = Stack(c, decoder=False)
        self.decoder = Stack(c, decoder=True)
        self.head = nn.Linear(c["hidden"], c["vocab"], bias=False)
        self.head.weight = self.embedding.weight
        self.head_scale = c["hidden"] ** -0.5

    def encode(self, source_ids: Tensor, counts: Counts) -> Tensor:
        """Hidden states of the source, [batch, source, hidden]."""
        stack = self.encoder
        x = stack.dropout(self.embedding(source_ids))
        bias = stack.bias(0, source_ids.shape[1], source_ids.shape[1], x.device)
        for block in stack.blocks:
            x, _, _ = block(x, bias, counts)
        out: Tensor = stack.dropout(stack.norm(x))
        return out

    def forward(
        self,
        source_ids: Tensor | None,
        input_ids: Tensor,
        cache: list[KeyValue] | None = None,
        memory: list[KeyValue] | None = None,
        last_only: bool = False,
        encoder_counts: Counts = (None, None),
        counts: Counts = (None, None),
    ) -> tuple[Tensor, list[KeyValue], list[KeyValue]]:
        """Logits, the longer self-attention cache and the cross keys and values (both empty without `cache`).

        `memory` holds the cross keys and values of an earlier call and replaces `source_ids`; the counts
        are the active experts and expert tokens of sparse layers.
        """
        encoded = self.encode(source_ids, encoder_counts) if source_ids is not None else None
        stack = self.decoder
        x = stack.dropout(self.embedding(input_ids))
        length = input_ids.shape[1]
        start = 0 if cache is None else cache[0][0].shape[2]
        if cache is None:
            mask: Tensor | None = causal_mask(length, length, x.device)
        else:
            mask = step_mask(length, start, last_only, x.device)
        bias = stack.bias(start, length, start + length, x.device)
        if mask is not None:
            bias = bias.masked_fill(~mask, float("-inf"))
        grown: list[KeyValue] = []
        crossed: list[KeyValue] = []
        for index, block in enumerate(stack.blocks):
            past = None if cache is None else cache[index]
            known = None if memory is None else memory[index]
            x, pair, cross = block(x, bias, counts, past, encoded, known)
            if cache is not None:
                grown.append(pair)
                crossed.append(cross)
        if last_only:
            x = x[:, -1:]
        return self.head(stack.dropout(stack.norm(x)) * self.head_scale), grown, crossed


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return T5(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    source = token_ids("batch", "source", config["vocab"])
    if phase == "forward":
        return Example((source, token_ids("batch", "seq", config["vocab"])))
    heads, head_dim = config["heads"], config["head_dim"]
    cache = key_value_cache(config["layers"], "batch", heads, "context", head_dim)
    if phase == "prefill":
        ids = token_ids("batch", "seq", config["vocab"])
        return Example((source, ids), {"cache": cache, "last_only": True})
    memory = key_value_cache(config["layers"], "batch", heads, "source", head_dim)
    return Example((None, token_ids("batch", 1, config["vocab"])), {"cache": cache, "memory": memory})
