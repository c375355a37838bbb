"""A decoder whose linear layers are hashed lookups: MemoryFormer.

Ding et al., "MemoryFormer: Minimize Transformer Computation by Removing Fully-Connected Layers",
arXiv:2411.12992, 2024; sizes as in the released code (C0-Design/MemoryFormer). An input is cut into chunks
of `tau` numbers; the signs of a chunk pick one row of its table, weighted by how far the chunk is from the
decision boundary, and the picked rows are summed. Queries, keys and values share one hash; attention has no
output projection; the MLP is two lookups with LayerNorm between, the second with `extra_bits` more bits per
chunk. The output head stays dense. The vocabulary (Pythia's 50304, padded) is from memory, unverified. The
released yaml of the small model says 6 layers and 8 heads; here are the paper's 12 layers and Pythia-160M's
12. `lookups: False` is the Pythia model compared with: the same skeleton with dense layers, GELU inside,
and attention and MLP beside each other in the original but one after the other here, which costs the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, key_value_cache, token_ids
from graphs.layers import MLP, KeyValue, RMSNorm, Rotary, append, rotate, step_mask
from graphs.lookups import lookup_sum

FAMILY = "decoder"
PHASES = ("forward", "prefill", "decode")
# fmt: off
CONFIGS = {
    "memoryformer-tiny": {
        "lookups": True, "layers": 6, "hidden": 512, "heads": 8, "tau": 8, "extra_bits": 2,
        "vocab": 50304, "max_position": 2048, "rotary_share": 0.25, "dtype": "float16",
    },
    "memoryformer-small": {
        "lookups": True, "layers": 12, "hidden": 768, "heads": 12, "tau": 8, "extra_bits": 2,
        "vocab": 50304, "max_position": 2048, "rotary_share": 0.25, "dtype": "float16",
    },
    "memoryformer-base": {
        "lookups": True, "layers": 24, "hidden": 1024, "heads": 16, "tau": 8, "extra_bits": 2,
        "vocab": 50304, "max_position": 2048, "rotary_share": 0.25, "dtype": "float16",
    },
    "memoryformer-tiny-tau4": {
        "lookups": True, "layers": 6, "hidden": 512, "heads": 8, "tau": 4, "extra_bits": 2,
        "vocab": 50304, "max_position": 2048, "rotary_share": 0.25, "dtype": "float16",
    },
    "memoryformer-tiny-tau10": {
        "lookups": True, "layers": 6, "hidden": 510, "heads": 5, "tau": 10, "extra_bits": 2,
        "vocab": 50304, "max_position": 2048, "rotary_share": 0.25, "dtype": "float16",
    },
    "memoryformer-tiny-bits0": {
        "lookups": True, "layers": 6, "hidden": 512, "heads": 8, "tau": 8, "extra_bits": 0,
        "vocab": 50304, "max_position": 2048, "rotary_share": 0.25, "dtype": "float16",
    },
    "memoryformer-tiny-bits1": {
        "lookups": True, "layers": 6, "hidden": 512, "heads": 8, "tau": 8, "extra_bits": 1,
        "vocab": 50304, "max_position": 2048, "rotary_share": 0.25, "dtype": "float16",
    },
    "memoryformer-tiny-bits3": {
        "lookups": True, "layers": 6, "hidden": 512, "heads": 8, "tau": 8, "extra_bits": 3,
        "vocab": 50304, "max_position": 2048, "rotary_share": 0.25, "dtype": "float16",
    },
    "pythia-70m": {
        "lookups": False, "layers": 6, "hidden": 512, "heads": 8, "tau": 0, "extra_bits": 0,
        "vocab": 50304, "max_position": 2048, "rotary_share": 0.25, "dtype": "float16",
    },
    "pythia-160m": {
        "lookups": False, "layers": 12, "hidden": 768, "heads": 12, "tau": 0, "extra_bits": 0,
        "vocab": 50304, "max_position": 2048, "rotary_share": 0.25, "dtype": "float16",
    },
    "pythia-410m": {
        "lookups": False, "layers": 24, "hidden": 1024, "heads": 16, "tau": 0, "extra_bits": 0,
        "vocab": 50304, "max_position": 2048, "rotary_share": 0.25, "dtype": "float16",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "seq": {"default": 2048, "min": 1, "max": "max_position", "meaning": "new tokens per sequence"},
    "context": {
        "default": {"prefill": 0, "decode": "max_position - 1"},
        "min": 0,
        "max": "max_position",
        "meaning": "tokens already cached per sequence",
    },
}
GUARDS = {
    "forward": ["seq <= max_position"],
    "prefill": ["context + seq <= max_position"],
    "decode": ["context + 1 <= max_position"],
}
BASELINES = {
    "memoryformer-tiny": ["pythia-70m"],
    "memoryformer-small": ["pythia-160m"],
    "memoryformer-base": ["pythia-410m"],
}
Hash = tuple[Tensor, Tensor]


class Hashing(nn.Module):
    """Row and weight of every chunk of `bits` numbers."""

    powers: Tensor
    offsets: Tensor

    def __init__(self, chunks: int, bits: int) -> None:
        super().__init__()
        self.chunks, self.bits = chunks, bits
        self.register_buffer("powers", 2 ** torch.arange(bits), persistent=False)
        self.register_buffer("offsets", 2**bits * torch.arange(chunks), persistent=False)

    def forward(self, x: Tensor) -> Hash:
        """Of [tokens, chunks * bits]: rows and weights, each [tokens, chunks]."""
        pieces = x.unflatten(-1, (self.chunks, self.bits))
        rows = ((pieces > 0) * self.powers).sum(-1) + self.offsets
        size = pieces.abs()
        # the product over a chunk of 1 / (1 + exp(-2 |z|)), times the sum of |z| as in the released code
        return rows, torch.exp(F.logsigmoid(2 * size).sum(-1)) * size.sum(-1)


class Tables(nn.Module):
    """One table per chunk, below each other, and a bias."""

    def __init__(self, chunks: int, bits: int, out: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(chunks * 2**bits, out) * out**-0.5)
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, hashed: Hash) -> Tensor:
        out: Tensor = lookup_sum(self.table, *hashed) + self.bias
        return out


class MemoryBlock(nn.Module):
    """Two lookups with LayerNorm between, in place of the MLP."""

    def __init__(self, hidden: int, tau: int, extra: int) -> None:
        super().__init__()
        chunks, bits = hidden // tau, tau + extra
        self.first_hash, self.last_hash = Hashing(chunks, tau), Hashing(chunks, bits)
        self.first, self.last = Tables(chunks, tau, chunks * bits), Tables(chunks, bits, hidden)
        self.norm = nn.LayerNorm(chunks * bits)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        inner = self.norm(self.first(self.first_hash(flat)))
        out: Tensor = self.last(self.last_hash(inner)).unflatten(0, x.shape[:2])
        return out


class MemoryProjection(nn.Module):
    """Queries, keys and values: one hash, three sets of tables."""

    def __init__(self, hidden: int, tau: int) -> None:
        super().__init__()
        chunks = hidden // tau
        self.hash = Hashing(chunks, tau)
        self.query, self.key, self.value = (Tables(chunks, tau, hidden) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hashed = self.hash(x.flatten(0, 1))
        query, key, value = (
            tables(hashed).unflatten(0, x.shape[:2]) for tables in (self.query, self.key, self.value)
        )
        return query, key, value


class DenseProjection(nn.Module):
    """Queries, keys and values in one linear."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, 3 * hidden)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self.linear(x).chunk(3, dim=-1)
        return query, key, value


class Layer(nn.Module):
    """Attention and memory block, each before its residual sum."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden, self.heads = c["hidden"], c["heads"]
        self.attention_norm, self.mlp_norm = RMSNorm(hidden, 1e-5), RMSNorm(hidden, 1e-5)
        self.project: nn.Module
        self.out: nn.Module
        self.mlp: nn.Module
        if c["lookups"]:
            self.project, self.out = MemoryProjection(hidden, c["tau"]), nn.Identity()
            self.mlp = MemoryBlock(hidden, c["tau"], c["extra_bits"])
        else:
            self.project, self.out = DenseProjection(hidden), nn.Linear(hidden, hidden)
            self.mlp = MLP(hidden, 4 * hidden, "gelu")

    def forward(
        self, x: Tensor, past: KeyValue | None, rotary: tuple[Tensor, Tensor], mask: Tensor | None
    ) -> tuple[Tensor, KeyValue]:
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.project(self.attention_norm(x))
        )
        pair = append(past, (_turned(key, rotary), value))
        mixed = F.scaled_dot_product_attention(
            _turned(query, rotary), *pair, attn_mask=mask, is_causal=past is None
        )
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.mlp_norm(x)), pair


def _turned(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions on the first part of the head dimension."""
    width = rotary[0].shape[-1]
    return torch.cat([rotate(x[..., :width], rotary), x[..., width:]], dim=-1)


class MemoryFormer(nn.Module):
    """Token ids to logits, with or without a KV cache."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(c["vocab"], c["hidden"])
        turned = int(c["hidden"] // c["heads"] * c["rotary_share"]) // 2 * 2
        self.rotary = Rotary(turned, 10000.0)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["layers"]))
        self.norm = RMSNorm(c["hidden"], 1e-5)
        self.head = nn.Linear(c["hidden"], c["vocab"], bias=False)

    def forward(
        self, input_ids: Tensor, cache: list[KeyValue] | None = None, last_only: bool = False
    ) -> tuple[Tensor, list[KeyValue]]:
        """Logits and the longer cache (empty without one); `last_only` runs the head on the last position."""
        length = input_ids.shape[1]
        start = 0 if cache is None else cache[0][0].shape[2]
        x = self.embedding(input_ids)
        rotary = self.rotary(start, start + length, x)
        mask = None if cache is None else step_mask(length, start, last_only, x.device)
        grown: list[KeyValue] = []
        for index, layer in enumerate(self.layers):
            x, pair = layer(x, None if cache is None else cache[index], rotary, mask)
            if cache is not None:
                grown.append(pair)
        if last_only:
            x = x[:, -1:]
        return self.head(self.norm(x)), grown


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return MemoryFormer(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    if phase == "forward":
        return Example((token_ids("batch", "seq", config["vocab"]),))
    cache = key_value_cache(
        config["layers"], "batch", config["heads"], "context", config["hidden"] // config["heads"]
    )
    length, last_only = ("seq", True) if phase == "prefill" else (1, False)
    return Example((token_ids("batch", length, config["vocab"]),), {"cache": cache, "last_only": last_only})
