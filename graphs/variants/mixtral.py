"""Sparse mixture-of-experts decoders: Mixtral, Qwen 3 MoE.

Jiang et al., "Mixtral of Experts", arXiv:2401.04088, 2024; Qwen Team, "Qwen3 Technical Report",
arXiv:2505.09388, 2025. The attention of Mistral 7B; every MLP is one of eight gated MLPs, of which a router
chooses two per token (Qwen 3: 128 small ones, eight per token). What an inference costs depends on the
data: `active_experts` is how many experts of a layer get any token (their weights are read),
`expert_tokens` how many tokens an active expert computes. The defaults are their expectations under
balanced, independent routing, so they may be fractional; active_experts times expert_tokens is then exactly
top_k per token. Passed explicitly they force the shapes: with too few, the tokens of least weight are
dropped; without them (a plain call) both follow from the routing and experts are padded to the fullest one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphs.inputs import Example, SymbolValue, key_value_cache, token_ids
from graphs.layers import ACTIVATIONS, Attention, KeyValue, RMSNorm, Rotary, grouped_linear, step_mask

FAMILY = "moe"
PHASES = ("forward", "prefill", "decode")
LOSS = "cross_entropy"
# fmt: off
CONFIGS = {
    "mixtral-8x7b": {
        "hidden": 4096, "layers": 32, "heads": 32, "kv_heads": 8, "head_dim": 128, "intermediate": 14336,
        "experts": 8, "top_k": 2, "vocab": 32000, "max_position": 32768, "rope_theta": 1000000.0,
        "norm_eps": 1e-5, "head_norm": False, "activation": "silu", "dtype": "bfloat16",
    },
    "mixtral-8x22b": {
        "hidden": 6144, "layers": 56, "heads": 48, "kv_heads": 8, "head_dim": 128, "intermediate": 16384,
        "experts": 8, "top_k": 2, "vocab": 32000, "max_position": 65536, "rope_theta": 1000000.0,
        "norm_eps": 1e-5, "head_norm": False, "activation": "silu", "dtype": "bfloat16",
    },
    "qwen3-30b-a3b": {
        "hidden": 2048, "layers": 48, "heads": 32, "kv_heads": 4, "head_dim": 128, "intermediate": 768,
        "experts": 128, "top_k": 8, "vocab": 151936, "max_position": 40960, "rope_theta": 1000000.0,
        "norm_eps": 1e-6, "head_norm": True, "activation": "silu", "dtype": "bfloat16",
    },
    "qwen3-235b-a22b": {
        "hidden": 4096, "layers": 94, "heads": 64, "kv_heads": 4, "head_dim": 128, "intermediate": 1536,
        "experts": 128, "top_k": 8, "vocab": 151936, "max_position": 40960, "rope_theta": 1000000.0,
        "norm_eps": 1e-6, "head_norm": True, "activation": "silu", "dtype": "bfloat16",
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


class SparseMLP(nn.Module):
    """`top_k` of `experts` MLPs per token, weighted by their router probabilities (`normalise`: made to sum
    to one).

    The active experts are those with most tokens; each takes its tokens of largest weight up to
    `expert_tokens`, so that every shape is given by the two counts and none by the data. None stands for
    the counts the routing gives.
    """

    def __init__(
        self,
        hidden: int,
        intermediate: int,
        experts: int,
        top_k: int,
        activation: str,
        *,
        gated: bool,
        normalise: bool,
    ) -> None:
        super().__init__()
        self.top_k, self.normalise, self.activation = top_k, normalise, ACTIVATIONS[activation]
        self.router = nn.Linear(hidden, experts, bias=False)
        self.gate = _expert_weight(experts, intermediate, hidden) if gated else None
        self.up = _expert_weight(experts, intermediate, hidden)
        self.down = _expert_weight(experts, hidden, intermediate)

    def forward(
        self, x: Tensor, active_experts: int | None = None, expert_tokens: int | None = None
    ) -> Tensor:
        tokens = x.flatten(0, 1)
        share = self._shares(tokens)
        load = (share > 0).sum(dim=0)
        active = int((load > 0).sum()) if active_experts is None else active_experts
        room = int(load.max()) if expert_tokens is None else expert_tokens
        expert = load.topk(active).indices
        weight, token = share.t().index_select(0, expert).sort(dim=1, descending=True)
        # an index, not a slice or topk: their bounds check would tie the counts to each other in a trace
        first = torch.arange(room, device=x.device).clamp(max=tokens.shape[0] - 1)
        weight, chosen = weight.index_select(1, first), token.index_select(1, first).flatten()
        gathered = tokens.index_select(0, chosen).view(active, room, tokens.shape[1])
        computed = self._experts(gathered, expert) * weight.unsqueeze(-1)
        out = torch.zeros_like(tokens).index_add_(0, chosen, computed.flatten(0, 1))
        return out.view_as(x)

    def _shares(self, tokens: Tensor) -> Tensor:
        """[tokens, experts]: weight of each expert in each token's output, zero where it was not chosen."""
        probability: Tensor = self.router(tokens).softmax(dim=-1)
        value, index = probability.topk(self.top_k, dim=-1)
        if self.normalise:
            value = value / value.sum(dim=-1, keepdim=True)
        return torch.zeros_like(probability).scatter(1, index, value)

    def _experts(self, x: Tensor, expert: Tensor) -> Tensor:
        inner = grouped_linear(x, self.up, expert)
        if self.gate is None:
            inner = self.activation(inner)
        else:
            inner = self.activation(grouped_linear(x, self.gate, expert)) * inner
        out: Tensor = grouped_linear(inner, self.down, expert)
        return out


def _expert_weight(experts: int, rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(experts, rows, columns) * columns**-0.5)


class Block(nn.Module):
    """Attention and sparse MLP, each behind an RMS norm and inside a residual."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden = c["hidden"]
        self.attention_norm = RMSNorm(hidden, c["norm_eps"])
        self.attention = Attention(
            hidden,
            c["heads"],
            kv_heads=c["kv_heads"],
            head_dim=c["head_dim"],
            bias=False,
            head_norm_eps=c["norm_eps"] if c["head_norm"] else None,
        )
        self.mlp_norm = RMSNorm(hidden, c["norm_eps"])
        self.mlp = SparseMLP(
            hidden, c["intermediate"], c["experts"], c["top_k"], c["activation"], gated=True, normalise=True
        )

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        past: KeyValue | None,
        mask: Tensor | None,
        counts: tuple[int | None, int | None],
    ) -> tuple[Tensor, KeyValue]:
        mixed, pair = self.attention(
            self.attention_norm(x), past=past, rotary=rotary, mask=mask, causal=past is None
        )
        x = x + mixed
        return x + self.mlp(self.mlp_norm(x), *counts), pair


class Mixtral(nn.Module):
    """Token ids to next-token logits, with or without a KV cache."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(c["vocab"], c["hidden"])
        self.rotary = Rotary(c["head_dim"], c["rope_theta"])
        self.layers = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.norm = RMSNorm(c["hidden"], c["norm_eps"])
        self.head = nn.Linear(c["hidden"], c["vocab"], bias=False)

    def forward(
        self,
        input_ids: Tensor,
        cache: list[KeyValue] | None = None,
        last_only: bool = False,
        active_experts: int | None = None,
        expert_tokens: int | None = None,
    ) -> tuple[Tensor, list[KeyValue]]:
        """Logits and the longer cache (empty without one); `last_only` runs the head on the last position."""
        x = self.embedding(input_ids)
        length = input_ids.shape[1]
        start = 0 if cache is None else cache[0][0].shape[2]
        rotary = self.rotary(start, start + length, x)
        mask = None if cache is None else step_mask(length, start, last_only, x.device)
        grown: list[KeyValue] = []
        for index, layer in enumerate(self.layers):
            past = None if cache is None else cache[index]
            x, pair = layer(x, rotary, past, mask, (active_experts, expert_tokens))
            if cache is not None:
                grown.append(pair)
        if last_only:
            x = x[:, -1:]
        return self.head(self.norm(x)), grown


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return Mixtral(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    kwargs: dict[str, Any] = {name: SymbolValue(name) for name in ("active_experts", "expert_tokens")}
    if phase == "forward":
        return Example((token_ids("batch", "seq", config["vocab"]),), kwargs)
    cache = key_value_cache(config["layers"], "batch", config["kv_heads"], "context", config["head_dim"])
    length, last_only = ("seq", True) if phase == "prefill" else (1, False)
    kwargs |= {"cache": cache, "last_only": last_only}
    return Example((token_ids("batch", length, config["vocab"]),), kwargs)
