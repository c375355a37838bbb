"""One decoder block tuned with few weights: SPT, whose attention keeps few keys and whose FFN is routed.

Gui et al., "SPT: Fine-Tuning Transformer-based Language Models Efficiently with Sparsification",
arXiv:2312.10365, 2023; operators as in the research code (ytgui/SPT-proto). Weights are frozen but for pairs
of rank 16 beside them and the norms. Queries and keys are coded (pieces of 8 numbers, 16 codewords each); a
query attends to the eighth of the keys that shares most codes with it, none of them later. The FFN is cut
into 4 blocks and a router chooses 2 per token; `block_tokens` is how many tokens a block gets, all alike in
expectation. `-lora` has dense attention and FFN beside the same pairs, `-full` trains all weights;
`-attention` and `-ffn` are one half of the block with its norm, as the paper times them. Left out: the loss
that moves codewords now and then, the loss that balances blocks, and the copy of a frozen weight into the
order of blocks. A key that comes later than its query is masked here where a query has few before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input, SymbolValue
from graphs.layers import ACTIVATIONS, RMSNorm, Rotary, rotate
from graphs.sampled import best_matches, nearest_code, sampled_product, sampled_sum

FAMILY = "decoder"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "spt-opt-1024": {
        "parts": ["attention", "ffn"], "hidden": 1024, "heads": 16, "intermediate": 4096, "llama": False,
        "sparse": True, "rank": 16, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-opt-1024-lora": {
        "parts": ["attention", "ffn"], "hidden": 1024, "heads": 16, "intermediate": 4096, "llama": False,
        "sparse": False, "rank": 16, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-opt-1024-full": {
        "parts": ["attention", "ffn"], "hidden": 1024, "heads": 16, "intermediate": 4096, "llama": False,
        "sparse": False, "rank": 0, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-opt-2048": {
        "parts": ["attention", "ffn"], "hidden": 2048, "heads": 32, "intermediate": 8192, "llama": False,
        "sparse": True, "rank": 16, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-opt-2048-lora": {
        "parts": ["attention", "ffn"], "hidden": 2048, "heads": 32, "intermediate": 8192, "llama": False,
        "sparse": False, "rank": 16, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-opt-2048-full": {
        "parts": ["attention", "ffn"], "hidden": 2048, "heads": 32, "intermediate": 8192, "llama": False,
        "sparse": False, "rank": 0, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-opt-2048-attention": {
        "parts": ["attention"], "hidden": 2048, "heads": 32, "intermediate": 8192, "llama": False,
        "sparse": True, "rank": 16, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-opt-2048-attention-lora": {
        "parts": ["attention"], "hidden": 2048, "heads": 32, "intermediate": 8192, "llama": False,
        "sparse": False, "rank": 16, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-opt-2048-attention-full": {
        "parts": ["attention"], "hidden": 2048, "heads": 32, "intermediate": 8192, "llama": False,
        "sparse": False, "rank": 0, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-opt-2048-ffn": {
        "parts": ["ffn"], "hidden": 2048, "heads": 32, "intermediate": 8192, "llama": False,
        "sparse": True, "rank": 16, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-opt-2048-ffn-lora": {
        "parts": ["ffn"], "hidden": 2048, "heads": 32, "intermediate": 8192, "llama": False,
        "sparse": False, "rank": 16, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-opt-2048-ffn-full": {
        "parts": ["ffn"], "hidden": 2048, "heads": 32, "intermediate": 8192, "llama": False,
        "sparse": False, "rank": 0, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-opt-2560": {
        "parts": ["attention", "ffn"], "hidden": 2560, "heads": 32, "intermediate": 10240, "llama": False,
        "sparse": True, "rank": 16, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-opt-2560-lora": {
        "parts": ["attention", "ffn"], "hidden": 2560, "heads": 32, "intermediate": 10240, "llama": False,
        "sparse": False, "rank": 16, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-opt-2560-full": {
        "parts": ["attention", "ffn"], "hidden": 2560, "heads": 32, "intermediate": 10240, "llama": False,
        "sparse": False, "rank": 0, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-llama-2560": {
        "parts": ["attention", "ffn"], "hidden": 2560, "heads": 20, "intermediate": 6912, "llama": True,
        "sparse": True, "rank": 16, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-llama-2560-lora": {
        "parts": ["attention", "ffn"], "hidden": 2560, "heads": 20, "intermediate": 6912, "llama": True,
        "sparse": False, "rank": 16, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-llama-2560-full": {
        "parts": ["attention", "ffn"], "hidden": 2560, "heads": 20, "intermediate": 6912, "llama": True,
        "sparse": False, "rank": 0, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-llama-4096": {
        "parts": ["attention", "ffn"], "hidden": 4096, "heads": 32, "intermediate": 11008, "llama": True,
        "sparse": True, "rank": 16, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-llama-4096-lora": {
        "parts": ["attention", "ffn"], "hidden": 4096, "heads": 32, "intermediate": 11008, "llama": True,
        "sparse": False, "rank": 16, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
    "spt-llama-4096-full": {
        "parts": ["attention", "ffn"], "hidden": 4096, "heads": 32, "intermediate": 11008, "llama": True,
        "sparse": False, "rank": 0, "share": 8, "width": 8, "codes": 16, "blocks": 4, "top": 2,
        "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 16, "min": 1, "max": None, "meaning": "sequences"},
    "seq": {"default": 512, "min": "share", "max": None, "meaning": "tokens per sequence"},
    "block_tokens": {
        "default": "batch*seq*top/blocks",
        "min": 1,
        "max": None,
        "meaning": "tokens that one block of the FFN gets",
    },
}
GUARDS: dict[str, list[str]] = {}
BASELINES = {
    "spt-opt-2048": ["spt-opt-2048-lora", "spt-opt-2048-full"],
    "spt-llama-4096": ["spt-llama-4096-lora", "spt-llama-4096-full"],
}
CLAMP = 10.0  # scores of chosen keys are held to this size


class Adapted(nn.Linear):
    """A linear with a trained pair of low rank beside its frozen weight; of rank 0 a trained linear."""

    def __init__(self, inside: int, outside: int, rank: int, *, bias: bool) -> None:
        super().__init__(inside, outside, bias=bias)
        self.rank = rank
        if rank:
            self.requires_grad_(requires_grad=False)
            self.left = nn.Parameter(torch.randn(inside, rank) * inside**-0.5)
            self.right = nn.Parameter(torch.zeros(rank, outside))

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out + x @ self.left @ self.right if self.rank else out


class Attention(nn.Module):
    """Causal attention over all keys, or over the chosen share of them; [batch, seq, hidden]."""

    codewords: Tensor

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden, self.heads = c["hidden"], c["heads"]
        self.query, self.key, self.value, self.out = (
            Adapted(hidden, hidden, c["rank"], bias=not c["llama"]) for _ in range(4)
        )
        self.rotary = Rotary(hidden // self.heads, 10000.0) if c["llama"] else None
        self.sparse, self.share = c["sparse"], c["share"]
        if self.sparse:
            pieces = hidden // self.heads // c["width"]
            self.register_buffer("codewords", torch.randn(pieces, c["codes"], c["width"]))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        if self.rotary is not None:
            turn = self.rotary(0, x.shape[1], x)
            query, key = rotate(query, turn), rotate(key, turn)
        if self.sparse:
            mixed = self._over_chosen(*(part.flatten(0, 1) for part in (query, key, value)))
            mixed = mixed.unflatten(0, (-1, self.heads))
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _over_chosen(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention [batch x heads, seq, head_dim] of each query to the keys chosen for it."""
        tokens = query.shape[1]
        with torch.no_grad():
            codes = (nearest_code(part, self.codewords) for part in (query, key))
            index = best_matches(*codes, tokens // self.share)
            later = index > torch.arange(tokens, device=index.device)[:, None]
        scores = sampled_product(key, index, query) / math.sqrt(query.shape[2])
        weight = scores.clamp(-CLAMP, CLAMP).masked_fill(later, -math.inf).softmax(-1)
        out: Tensor = sampled_sum(value, index, weight)
        return out


class FFN(nn.Module):
    """Two linears with ReLU between, or three with a gate of SiLU."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden, inner, rank, bias = c["hidden"], c["intermediate"], c["rank"], not c["llama"]
        self.gate = Adapted(hidden, inner, rank, bias=False) if c["llama"] else None
        self.up = Adapted(hidden, inner, rank, bias=bias)
        self.down = Adapted(inner, hidden, rank, bias=bias)
        self.activation = ACTIVATIONS["silu" if c["llama"] else "relu"]

    def forward(self, x: Tensor, block_tokens: int | None = None) -> Tensor:
        inner = self.up(x)
        inner = self.activation(inner) if self.gate is None else self.activation(self.gate(x)) * inner
        out: Tensor = self.down(inner)
        return out


class RoutedFFN(FFN):
    """The same weights in blocks of their inner width, of which each token goes through `top`.

    A block takes its tokens of largest probability up to `block_tokens`; None stands for the fullest block.
    """

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__(c)
        self.blocks, self.top = c["blocks"], c["top"]
        self.router = nn.Linear(c["hidden"], self.blocks)

    def forward(self, x: Tensor, block_tokens: int | None = None) -> Tensor:
        tokens = x.flatten(0, 1)
        share = self._shares(tokens)
        room = int((share > 0).sum(0).max()) if block_tokens is None else block_tokens
        # an index, not a slice or topk: their bounds check would tie the sizes to each other in a trace
        first = torch.arange(room, device=x.device).clamp(max=tokens.shape[0] - 1)
        out = tokens.new_zeros(tokens.shape[0] + 1, tokens.shape[1])
        for block in range(self.blocks):
            weight, token = share[:, block].sort(descending=True)
            token, weight = token.index_select(0, first), weight.index_select(0, first)
            computed = self._block(tokens.index_select(0, token), weight.unsqueeze(-1), block)
            # the last row takes what a block computed for tokens that did not choose it
            out.index_add_(0, token.where(weight > 0, tokens.shape[0]), computed)
        out = out[:-1] if self.down.bias is None else out[:-1] + self.down.bias
        return out.view_as(x)

    def _shares(self, tokens: Tensor) -> Tensor:
        """[tokens, blocks]: the router's probability, zero where a block was not chosen."""
        probability: Tensor = self.router(tokens).sigmoid()
        value, index = probability.topk(self.top, dim=-1)
        return torch.zeros_like(probability).scatter(1, index, value)

    def _block(self, x: Tensor, weight: Tensor, block: int) -> Tensor:
        """One block on its tokens."""
        wide = self.down.in_features // self.blocks
        inner = self._part(self.up, x, weight, block)
        if self.gate is None:
            inner = self.activation(inner)
        else:
            inner = self.activation(self._part(self.gate, x, weight, block)) * inner
        at = slice(block * wide, (block + 1) * wide)
        narrow = inner @ self.down.weight[:, at].t()
        return narrow + inner @ self.down.left[at] @ self.down.right

    def _part(self, linear: Adapted, x: Tensor, weight: Tensor, block: int) -> Tensor:
        """The block's outputs of a linear: the frozen part twice the probability, the pair beside it."""
        wide = linear.out_features // self.blocks
        at = slice(block * wide, (block + 1) * wide)
        frozen = F.linear(x, linear.weight[at], None if linear.bias is None else linear.bias[at])
        return 2 * weight * frozen + x @ linear.left @ linear.right[:, at]


class Block(nn.Module):
    """Attention, FFN or both, each behind its norm and inside a residual; [batch, seq, hidden]."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden = c["hidden"]
        self.attention_norm, self.ffn_norm = (
            (RMSNorm(hidden, 1e-6) if c["llama"] else nn.LayerNorm(hidden)) if part in c["parts"] else None
            for part in ("attention", "ffn")
        )
        self.attention = Attention(c) if "attention" in c["parts"] else None
        self.ffn = (RoutedFFN if c["sparse"] else FFN)(c) if "ffn" in c["parts"] else None

    def forward(self, x: Tensor, block_tokens: int | None = None) -> Tensor:
        if self.attention is not None and self.attention_norm is not None:
            x = x + self.attention(self.attention_norm(x))
        if self.ffn is not None and self.ffn_norm is not None:
            x = x + self.ffn(self.ffn_norm(x), block_tokens)
        return x


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return Block(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    routed = config["sparse"] and "ffn" in config["parts"]
    counts = {"block_tokens": SymbolValue("block_tokens")} if routed else {}
    return Example((Input(("batch", "seq", config["hidden"]), "model"),), counts)
