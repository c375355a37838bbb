"""A decoder that attends to everything in a few layers only: MASFormer.

"Efficient Long-Range Transformers: You Need to Attend More, but Not Necessarily at Every Layer",
arXiv:2310.12442, 2023. Weights and linear work are those of the dense model; all but `full_layers` layers
attend causally inside blocks of `span` tokens (a `-sliding` configuration also to the block before). Base
model: the layout of GPT-Neo 1.3B (24 pre-norm layers of 2048, 16 heads of 128, 8192 inside, vocabulary
50257 tied, no bias on queries, keys and values), from memory, unverified, as are the number of full layers
and the span. Positions reach to 16384; which layers are full does not change the cost and is our own
choice, the lowest. Decoding keeps `span` keys in a sparse layer, so `context` says how many the full layers
hold. The masks inside blocks are causal; `masformer-1.3b-masked` says what a mask over dense scores would
save: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input, token_ids
from graphs.layers import MLP, KeyValue, append, step_mask
from graphs.mixers.blocks import Local

FAMILY = "decoder"
PHASES = ("forward", "decode")
# fmt: off
CONFIGS = {
    "masformer-1.3b-l4": {
        "layers": 24, "full_layers": 4, "span": 1024, "sliding": False, "masked": False, "hidden": 2048,
        "heads": 16, "intermediate": 8192, "vocab": 50257, "max_position": 16384, "dtype": "float16",
    },
    "masformer-1.3b-l8": {
        "layers": 24, "full_layers": 8, "span": 1024, "sliding": False, "masked": False, "hidden": 2048,
        "heads": 16, "intermediate": 8192, "vocab": 50257, "max_position": 16384, "dtype": "float16",
    },
    "masformer-1.3b-l4-m512": {
        "layers": 24, "full_layers": 4, "span": 512, "sliding": False, "masked": False, "hidden": 2048,
        "heads": 16, "intermediate": 8192, "vocab": 50257, "max_position": 16384, "dtype": "float16",
    },
    "masformer-1.3b-l4-sliding": {
        "layers": 24, "full_layers": 4, "span": 1024, "sliding": True, "masked": False, "hidden": 2048,
        "heads": 16, "intermediate": 8192, "vocab": 50257, "max_position": 16384, "dtype": "float16",
    },
    "masformer-1.3b-masked": {
        "layers": 24, "full_layers": 4, "span": 1024, "sliding": False, "masked": True, "hidden": 2048,
        "heads": 16, "intermediate": 8192, "vocab": 50257, "max_position": 16384, "dtype": "float16",
    },
    "masformer-1.3b-sparse": {
        "layers": 24, "full_layers": 0, "span": 1024, "sliding": False, "masked": False, "hidden": 2048,
        "heads": 16, "intermediate": 8192, "vocab": 50257, "max_position": 16384, "dtype": "float16",
    },
    "gpt-neo-1.3b-full": {
        "layers": 24, "full_layers": 24, "span": 1024, "sliding": False, "masked": False, "hidden": 2048,
        "heads": 16, "intermediate": 8192, "vocab": 50257, "max_position": 16384, "dtype": "float16",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "seq": {
        "default": {"forward": 8192, "decode": None},
        "min": "2 * span",
        "max": "max_position",
        "meaning": "tokens per sequence",
    },
    "context": {
        "default": {"forward": None, "decode": 8192},
        "min": "span",
        "max": "max_position - 1",
        "meaning": "cached tokens of a full layer",
    },
}
BASELINES = {"full attention": "gpt-neo-1.3b-full", "all-sparse": "masformer-1.3b-sparse"}


class Causal(nn.Module):
    """Scores over all earlier tokens, or with `span` a mask over them that leaves only the own block."""

    def __init__(self, span: int = 0) -> None:
        super().__init__()
        self.span = span

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if not self.span:
            return F.scaled_dot_product_attention(query, key, value, is_causal=True)
        place = torch.arange(query.shape[-2], device=query.device)
        seen = (place[:, None] // self.span == place[None] // self.span) & (place[:, None] >= place[None])
        return F.scaled_dot_product_attention(query, key, value, attn_mask=seen)


class Layer(nn.Module):
    """Attention over everything or over blocks, then the MLP, both pre-norm."""

    def __init__(self, c: Mapping[str, Any], *, full: bool) -> None:
        super().__init__()
        width = c["hidden"]
        self.heads = c["heads"]
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out = nn.Linear(width, width)
        sparse = Causal(c["span"]) if c["masked"] else Local(c["span"], look_back=c["sliding"], causal=True)
        self.mix = Causal() if full else sparse
        self.mlp = MLP(width, c["intermediate"], "gelu_tanh")

    def forward(self, x: Tensor, past: KeyValue | None) -> tuple[Tensor, KeyValue]:
        normed = self.attention_norm(x)
        query, key, value = (
            linear(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        pair = append(past, (key, value))
        if past is None:
            mixed = self.mix(query, *pair)
        else:
            mask = step_mask(x.shape[1], past[0].shape[2], False, x.device)
            mixed = F.scaled_dot_product_attention(query, *pair, attn_mask=mask)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.mlp_norm(x)), pair


class Decoder(nn.Module):
    """Token ids and the caches of every layer to logits and longer caches."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(c["vocab"], c["hidden"])
        self.positions = nn.Embedding(c["max_position"], c["hidden"])
        full = [index < c["full_layers"] for index in range(c["layers"])]
        self.layers = nn.ModuleList(Layer(c, full=one) for one in full)
        self.norm = nn.LayerNorm(c["hidden"])
        self.head = nn.Linear(c["hidden"], c["vocab"], bias=False)
        self.head.weight = self.embedding.weight

    def forward(
        self, input_ids: Tensor, cache: list[KeyValue] | None = None, past: int = 0
    ) -> tuple[Tensor, list[KeyValue]]:
        places = torch.arange(past, past + input_ids.shape[1], device=input_ids.device)
        x = self.embedding(input_ids) + self.positions(places)
        pairs = []
        for index, layer in enumerate(self.layers):
            x, pair = layer(x, None if cache is None else cache[index])
            pairs.append(pair)
        return self.head(self.norm(x)), pairs if cache is not None else []


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return Decoder(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    if phase == "forward":
        return Example((token_ids("batch", "seq", config["vocab"]),))
    head_dim = config["hidden"] // config["heads"]
    kept = 2 * config["span"] if config["sliding"] else config["span"]
    caches = []
    for index in range(config["layers"]):
        length = "context" if index < config["full_layers"] else kept
        one = Input(("batch", config["heads"], length, head_dim), "model", role="kv")
        caches.append((one, one))
    return Example((token_ids("batch", 1, config["vocab"]),), {"cache": caches})
