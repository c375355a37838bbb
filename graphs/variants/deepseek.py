"""DeepSeek V2 and V3: latent attention and many small experts, some of which every token sees.

DeepSeek-AI, "DeepSeek-V2", arXiv:2405.04434, 2024; "DeepSeek-V3 Technical Report", arXiv:2412.19437, 2024;
"DeepSeek-R1", arXiv:2501.12948, 2025 (the shape of V3). Sizes are those of each published config.json; the
module that predicts a second token is not part of it. Per token and layer the cache keeps one latent of 512
and one rotary key of 64, whatever the number of heads. A prefill expands latents to keys and values of every
head; a decode step instead moves the queries into the latent space, where all heads read the same keys,
whose first columns are the values. Biases that balance the routing of V3 are left out of its sums, as
they move none of its work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input, SymbolValue, token_ids
from graphs.layers import GatedMLP, RMSNorm, Rotary, rotate, step_mask
from graphs.variants.mixtral import SparseMLP

FAMILY = "moe"
PHASES = ("forward", "prefill", "decode")
LOSS = "cross_entropy"
# fmt: off
CONFIGS = {
    "deepseek-v2-lite": {
        "hidden": 2048, "layers": 27, "dense_layers": 1, "heads": 16, "query_rank": None, "latent": 512,
        "rotary_dim": 64, "key_dim": 128, "value_dim": 128, "intermediate": 10944,
        "expert_intermediate": 1408, "experts": 64, "top_k": 6, "shared_experts": 2, "groups": 1,
        "top_groups": 1, "scores": "softmax", "scale": 1.0, "vocab": 102400, "max_position": 163840,
        "rope_theta": 10000.0, "norm_eps": 1e-6, "dtype": "bfloat16",
    },
    "deepseek-v3": {
        "hidden": 7168, "layers": 61, "dense_layers": 3, "heads": 128, "query_rank": 1536, "latent": 512,
        "rotary_dim": 64, "key_dim": 128, "value_dim": 128, "intermediate": 18432,
        "expert_intermediate": 2048, "experts": 256, "top_k": 8, "shared_experts": 1, "groups": 8,
        "top_groups": 4, "scores": "sigmoid", "scale": 2.5, "vocab": 129280, "max_position": 163840,
        "rope_theta": 10000.0, "norm_eps": 1e-6, "dtype": "bfloat16",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "seq": {"default": 512, "min": 1, "max": "max_position", "meaning": "new tokens per sequence"},
    "context": {
        "default": {"prefill": 0, "decode": "min(1024, max_position - 1)"},
        "min": 0,
        "max": "max_position",
        "meaning": "tokens already cached per sequence",
    },
    "active_experts": {
        "default": {
            "forward": "max(top_k, experts*(1 - pow(1 - top_k/experts, batch*seq)))",
            "prefill": "max(top_k, experts*(1 - pow(1 - top_k/experts, batch*seq)))",
            "decode": "max(top_k, experts*(1 - pow(1 - top_k/experts, batch)))",
        },
        "min": 1,
        "max": "experts",
        "meaning": "experts per layer that get any token",
    },
    "expert_tokens": {
        "default": {
            "forward": "min(batch*seq, batch*seq*top_k/active_experts)",
            "prefill": "min(batch*seq, batch*seq*top_k/active_experts)",
            "decode": "min(batch, batch*top_k/active_experts)",
        },
        "min": 1,
        "max": None,
        "meaning": "tokens per active expert",
    },
}
GUARDS = {
    "forward": ["seq <= max_position", "active_experts <= experts", "expert_tokens <= batch*seq"],
    "prefill": ["context + seq <= max_position", "active_experts <= experts", "expert_tokens <= batch*seq"],
    "decode": ["context + 1 <= max_position", "active_experts <= experts", "expert_tokens <= batch"],
}
BASELINES: dict[str, Any] = {}


class LatentAttention(nn.Module):
    """Multi-head latent attention; the cache of a layer is [batch, 1, positions, latent + rotary_dim]."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.heads, self.latent, self.rotary_dim = c["heads"], c["latent"], c["rotary_dim"]
        self.key_dim, self.value_dim = c["key_dim"], c["value_dim"]
        rank, wide = c["query_rank"], c["heads"] * (c["key_dim"] + c["rotary_dim"])
        self.query_down = nn.Identity() if rank is None else nn.Linear(c["hidden"], rank, bias=False)
        self.query_norm = nn.Identity() if rank is None else RMSNorm(rank, c["norm_eps"])
        self.query = nn.Linear(c["hidden"] if rank is None else rank, wide, bias=False)
        self.down = nn.Linear(c["hidden"], self.latent + self.rotary_dim, bias=False)
        self.norm = RMSNorm(self.latent, c["norm_eps"])
        self.up = nn.Linear(self.latent, self.heads * (self.key_dim + self.value_dim), bias=False)
        self.out = nn.Linear(self.heads * self.value_dim, c["hidden"], bias=False)

    def forward(
        self, x: Tensor, past: Tensor | None, rotary: tuple[Tensor, Tensor], mask: Tensor | None, step: bool
    ) -> tuple[Tensor, Tensor]:
        """Output and the longer cache; a `step` of one token attends in the latent space."""
        query = self.query(self.query_norm(self.query_down(x)))
        query = query.unflatten(-1, (self.heads, self.key_dim + self.rotary_dim)).transpose(1, 2)
        plain, turned = query.split([self.key_dim, self.rotary_dim], dim=-1)
        turned = rotate(turned, rotary)
        latent, key = self.down(x).split([self.latent, self.rotary_dim], dim=-1)
        new = torch.cat([self.norm(latent).unsqueeze(1), rotate(key.unsqueeze(1), rotary)], dim=-1)
        cached = new if past is None else torch.cat([past, new], dim=2)
        mixed = (self._in_latent_space if step else self._expanded)(plain, turned, cached, mask)
        return self.out(mixed.transpose(1, 2).flatten(2)), cached

    def _expanded(self, plain: Tensor, turned: Tensor, cached: Tensor, mask: Tensor | None) -> Tensor:
        """Every head has keys and values of its own."""
        latent, shared = cached.split([self.latent, self.rotary_dim], dim=-1)
        pair = self.up(latent.squeeze(1)).unflatten(-1, (self.heads, self.key_dim + self.value_dim))
        key, value = pair.transpose(1, 2).split([self.key_dim, self.value_dim], dim=-1)
        whole = torch.cat([key, shared.expand(-1, self.heads, -1, -1)], dim=-1)
        query = torch.cat([plain, turned], dim=-1)
        return F.scaled_dot_product_attention(query, whole, value, attn_mask=mask, is_causal=mask is None)

    def _in_latent_space(self, plain: Tensor, turned: Tensor, cached: Tensor, mask: Tensor | None) -> Tensor:
        """All heads read the cache itself: `up` is applied to queries and results, not to what is cached."""
        up = self.up.weight.unflatten(0, (self.heads, self.key_dim + self.value_dim))
        of_keys, of_values = up.split([self.key_dim, self.value_dim], dim=1)
        moved = torch.bmm(plain.squeeze(2).transpose(0, 1), of_keys).transpose(0, 1).unsqueeze(2)
        mixed = F.scaled_dot_product_attention(
            torch.cat([moved, turned], dim=-1),
            cached,
            cached[..., : self.latent],
            attn_mask=mask,
            scale=(self.key_dim + self.rotary_dim) ** -0.5,
            enable_gqa=True,
        )
        back = torch.bmm(mixed.squeeze(2).transpose(0, 1), of_values.transpose(1, 2))
        return back.transpose(0, 1).unsqueeze(2)


class GroupedExperts(SparseMLP):
    """Experts of which a token may choose only inside its best groups, scored by their two best experts."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__(
            c["hidden"], c["expert_intermediate"], c["experts"], c["top_k"], "silu", gated=True,
            normalise=c["scores"] == "sigmoid",
        )  # fmt: skip
        self.groups, self.top_groups = c["groups"], c["top_groups"]
        self.scores, self.scale = c["scores"], c["scale"]

    def _shares(self, tokens: Tensor) -> Tensor:
        logits = self.router(tokens)
        score = logits.sigmoid() if self.scores == "sigmoid" else logits.softmax(dim=-1)
        allowed = score
        if self.groups > 1:
            grouped = score.unflatten(1, (self.groups, -1))
            best = grouped.topk(2, dim=-1).values.sum(dim=-1).topk(self.top_groups, dim=-1).indices
            open_groups = torch.zeros_like(grouped[..., 0]).scatter(1, best, 1.0)
            allowed = (grouped * open_groups.unsqueeze(-1)).flatten(1)
        value, index = allowed.topk(self.top_k, dim=-1)
        if self.normalise:
            value = value / value.sum(dim=-1, keepdim=True)
        return torch.zeros_like(score).scatter(1, index, value * self.scale)


class Block(nn.Module):
    """Latent attention and an MLP, each behind an RMS norm and in a residual; the first MLPs are dense."""

    def __init__(self, c: Mapping[str, Any], dense: bool) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(c["hidden"], c["norm_eps"])
        self.attention = LatentAttention(c)
        self.mlp_norm = RMSNorm(c["hidden"], c["norm_eps"])
        width = c["intermediate"] if dense else c["shared_experts"] * c["expert_intermediate"]
        self.mlp = GatedMLP(c["hidden"], width, "silu")
        self.experts = None if dense else GroupedExperts(c)

    def forward(
        self,
        x: Tensor,
        past: Tensor | None,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        step: bool,
        counts: tuple[int | None, int | None],
    ) -> tuple[Tensor, Tensor]:
        mixed, cached = self.attention(self.attention_norm(x), past, rotary, mask, step)
        x = x + mixed
        inner = self.mlp_norm(x)
        out = self.mlp(inner)
        if self.experts is not None:
            out = out + self.experts(inner, *counts)
        return x + out, cached


class DeepSeek(nn.Module):
    """Token ids to next-token logits, with or without a cache of latents."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(c["vocab"], c["hidden"])
        self.rotary = Rotary(c["rotary_dim"], c["rope_theta"])
        self.layers = nn.ModuleList(Block(c, index < c["dense_layers"]) for index in range(c["layers"]))
        self.norm = RMSNorm(c["hidden"], c["norm_eps"])
        self.head = nn.Linear(c["hidden"], c["vocab"], bias=False)

    def forward(
        self,
        input_ids: Tensor,
        cache: list[Tensor] | None = None,
        last_only: bool = False,
        active_experts: int | None = None,
        expert_tokens: int | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits and the longer cache (empty without one); `last_only` runs the head on the last position."""
        x = self.embedding(input_ids)
        length = input_ids.shape[1]
        start = 0 if cache is None else cache[0].shape[2]
        rotary = self.rotary(start, start + length, x)
        mask = None if cache is None else step_mask(length, start, last_only, x.device)
        step = cache is not None and not last_only and length == 1
        grown: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            past = None if cache is None else cache[index]
            x, cached = layer(x, past, rotary, mask, step, (active_experts, expert_tokens))
            if cache is not None:
                grown.append(cached)
        if last_only:
            x = x[:, -1:]
        return self.head(self.norm(x)), grown


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return DeepSeek(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    kwargs: dict[str, Any] = {name: SymbolValue(name) for name in ("active_experts", "expert_tokens")}
    if phase == "forward":
        return Example((token_ids("batch", "seq", config["vocab"]),), kwargs)
    width = config["latent"] + config["rotary_dim"]
    cache = [Input(("batch", 1, "context", width), "model", role="kv") for _ in range(config["layers"])]
    length, last_only = ("seq", True) if phase == "prefill" else (1, False)
    kwargs |= {"cache": cache, "last_only": last_only}
    return Example((token_ids("batch", length, config["vocab"]),), kwargs)
