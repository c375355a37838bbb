"""Heads and slices of the MLP as experts that choose their tokens: Union of Experts.

"Union of Experts: Adapting Hierarchical Routing to Equivalently Decomposed Transformer", 2025; sizes as in
the released code (YujiaoYang-work/UoE). A softmax gate scores heads for every token; a head attends within
the `seq * attention_top / attention_experts` tokens that score it highest (the released code pads to the
largest count over heads and batch, which this is on average), kept in order; projections are one product
per head, and heads add their outputs at their tokens. The MLP is cut into slices that each take `mlp_top /
mlp_experts` of the tokens the same way. Gates choose tokens and do not scale outputs. `uoe-lra-*` are the
Long Range Arena encoders (pre-norm, mean pooling); `uoe-wt103` and `uoe-lm1b` the language models,
post-norm, with a memory of the segment before beside the keys; their adaptive softmax is left out, since
its cut-offs are not given. `-dense` computes everything for every token. `-deepseek` is the DeepSeek-V3
style block compared with: keys and values from a latent of 20, half of a head rotary, one of 4 experts and
a shared one of a fifth of the width each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input, token_ids
from graphs.layers import MLP, RMSNorm

FAMILY = "moe"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "uoe-lra-text": {
        "kind": "uoe", "language": False, "layers": 2, "hidden": 64, "head_dim": 32, "inner": 128,
        "attention_experts": 2, "attention_top": 1, "mlp_experts": 4, "mlp_top": 2, "vocab": 256,
        "classes": 2, "memory": 0, "max_position": 4096, "dtype": "float32",
    },
    "uoe-lra-text-dense": {
        "kind": "dense", "language": False, "layers": 2, "hidden": 64, "head_dim": 32, "inner": 128,
        "attention_experts": 2, "attention_top": 2, "mlp_experts": 4, "mlp_top": 4, "vocab": 256,
        "classes": 2, "memory": 0, "max_position": 4096, "dtype": "float32",
    },
    "uoe-lra-image": {
        "kind": "uoe", "language": False, "layers": 2, "hidden": 64, "head_dim": 32, "inner": 128,
        "attention_experts": 2, "attention_top": 1, "mlp_experts": 4, "mlp_top": 2, "vocab": 256,
        "classes": 10, "memory": 0, "max_position": 1024, "dtype": "float32",
    },
    "uoe-wt103": {
        "kind": "uoe", "language": True, "layers": 16, "hidden": 400, "head_dim": 40, "inner": 2100,
        "attention_experts": 10, "attention_top": 5, "mlp_experts": 4, "mlp_top": 2, "vocab": 0,
        "classes": 0, "memory": 150, "max_position": 150, "dtype": "float32",
    },
    "uoe-wt103-dense": {
        "kind": "dense", "language": True, "layers": 16, "hidden": 400, "head_dim": 40, "inner": 2100,
        "attention_experts": 10, "attention_top": 10, "mlp_experts": 4, "mlp_top": 4, "vocab": 0,
        "classes": 0, "memory": 150, "max_position": 150, "dtype": "float32",
    },
    "uoe-wt103-deepseek": {
        "kind": "deepseek", "language": True, "layers": 16, "hidden": 400, "head_dim": 40, "inner": 2100,
        "attention_experts": 10, "attention_top": 10, "mlp_experts": 4, "mlp_top": 1, "vocab": 0,
        "classes": 0, "memory": 150, "max_position": 150, "dtype": "float32",
    },
    "uoe-lm1b": {
        "kind": "uoe", "language": True, "layers": 18, "hidden": 1024, "head_dim": 128, "inner": 4096,
        "attention_experts": 8, "attention_top": 4, "mlp_experts": 4, "mlp_top": 2, "vocab": 0,
        "classes": 0, "memory": 32, "max_position": 32, "dtype": "float32",
    },
    "uoe-lm1b-deepseek": {
        "kind": "deepseek", "language": True, "layers": 18, "hidden": 1024, "head_dim": 128, "inner": 4096,
        "attention_experts": 8, "attention_top": 8, "mlp_experts": 4, "mlp_top": 1, "vocab": 0,
        "classes": 0, "memory": 32, "max_position": 32, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "seq": {"default": "max_position", "min": 2, "max": "max_position", "meaning": "tokens per sequence"},
}
GUARDS = {"forward": ["seq <= max_position"]}
BASELINES = {
    "uoe-lra-text": ["uoe-lra-text-dense"],
    "uoe-wt103": ["uoe-wt103-dense", "uoe-wt103-deepseek"],
    "uoe-lm1b": ["uoe-lm1b-deepseek"],
}
LATENT = 20


def chosen(gates: Tensor, share: tuple[int, int]) -> Tensor:
    """Places [experts, batch, room] of the tokens that score an expert highest, in order of the sequence."""
    room = gates.shape[1] * share[0] // share[1]
    order = gates.permute(2, 0, 1).argsort(dim=-1, descending=True)
    # an index, not a slice: its bounds check would tie the room to the length in a trace
    return order.index_select(-1, torch.arange(room, device=gates.device)).sort(dim=-1).values


def picked(x: Tensor, place: Tensor) -> Tensor:
    """Tokens [experts, batch, room, width] of x [batch, n, width]."""
    experts, width = place.shape[0], x.shape[-1]
    return x.expand(experts, -1, -1, -1).gather(2, place[..., None].expand(-1, -1, -1, width))


def added(parts: Tensor, place: Tensor, like: Tensor) -> Tensor:
    """The parts [experts, batch, room, width] summed at their places in zeros like [batch, n, width]."""
    width = parts.shape[-1]
    at = place.permute(1, 0, 2).flatten(1)[..., None].expand(-1, -1, width)
    return torch.zeros_like(like).scatter_add(1, at, parts.permute(1, 0, 2, 3).flatten(1, 2))


class Experts(nn.Module):
    """A product of its own per expert: [experts, batch, room, inner] to [experts, batch, room, out]."""

    def __init__(self, experts: int, inner: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(experts, inner, out) * inner**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.bmm(x.flatten(1, 2), self.weight).unflatten(1, x.shape[1:3])
        return out


class SelectiveAttention(nn.Module):
    """Every head attends within the tokens it chose."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        heads, width, head = c["attention_experts"], c["hidden"], c["head_dim"]
        self.share, self.causal, self.memory = (c["attention_top"], heads), c["language"], c["memory"]
        self.gate = nn.Linear(width, heads)
        self.query, self.key_value = Experts(heads, width, head), Experts(heads, width, 2 * head)
        self.out = Experts(heads, head, width)

    def forward(self, x: Tensor, memory: Tensor | None) -> Tensor:
        place = chosen(self.gate(x).softmax(-1), self.share)
        mine = picked(x, place)
        read = mine
        if memory is not None:
            before = picked(memory, chosen(self.gate(memory).softmax(-1), self.share))
            read = torch.cat([before, mine], dim=2)
        query = self.query(mine).transpose(0, 1)
        key, value = self.key_value(read).transpose(0, 1).chunk(2, dim=-1)
        mask = None
        if memory is not None:
            length, old = mine.shape[2], read.shape[2] - mine.shape[2]
            mask = torch.ones(length, old + length, dtype=torch.bool, device=x.device).tril(old)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return added(self.out(mixed.transpose(0, 1)), place, x)


class SlicedMLP(nn.Module):
    """Slices of the MLP, each for the tokens it chose."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        experts, width, inner = c["mlp_experts"], c["hidden"], c["inner"] // c["mlp_experts"]
        self.share = (c["mlp_top"], experts)
        self.gate = nn.Linear(width, experts)
        self.up, self.down = Experts(experts, width, inner), Experts(experts, inner, width)

    def forward(self, x: Tensor) -> Tensor:
        place = chosen(self.gate(x).softmax(-1), self.share)
        return added(self.down(F.gelu(self.up(picked(x, place)))), place, x)


class DenseAttention(nn.Module):
    """All heads for all tokens; with `latent` queries, keys and values come from narrow latents."""

    def __init__(self, c: Mapping[str, Any], *, latent: bool) -> None:
        super().__init__()
        width, self.heads = c["hidden"], c["attention_experts"]
        inner, rotary = self.heads * c["head_dim"], c["head_dim"] // 2 if latent else 0
        self.rotary = rotary
        if latent:
            self.query: nn.Module = nn.Sequential(nn.Linear(width, LATENT), nn.Linear(LATENT, inner))
            self.key_value: nn.Module = nn.Sequential(
                nn.Linear(width, LATENT), nn.Linear(LATENT, 2 * inner - self.heads * rotary)
            )
            self.shared_key = nn.Linear(width, rotary)
        else:
            self.query, self.key_value = nn.Linear(width, inner), nn.Linear(width, 2 * inner)
        self.out = nn.Linear(inner, width)

    def forward(self, x: Tensor, memory: Tensor | None) -> Tensor:
        read = x if memory is None else torch.cat([memory, x], dim=1)
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        both = self.key_value(read).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        head = query.shape[-1]
        key, value = both.split([head - self.rotary, head], dim=-1)
        if self.rotary:
            turned = self.shared_key(read)[:, None].expand(-1, self.heads, -1, -1)
            key = torch.cat([key, turned], dim=-1)
        mask = None
        if memory is not None:
            length, old = x.shape[1], memory.shape[1]
            mask = torch.ones(length, old + length, dtype=torch.bool, device=x.device).tril(old)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class SharedMLP(nn.Module):
    """A shared expert for all tokens and routed ones for their own, each a fifth of the inner width."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        inner = c["inner"] // 5
        self.shared = MLP(c["hidden"], inner, "silu")
        self.routed = SlicedMLP({**c, "inner": inner * c["mlp_experts"]})

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shared(x) + self.routed(x)
        return out


class Layer(nn.Module):
    """Attention and MLP, pre-norm in an encoder, post-norm in a language model."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.post = c["language"]
        self.attention: nn.Module
        self.mlp: nn.Module
        if c["kind"] == "uoe":
            self.attention, self.mlp = SelectiveAttention(c), SlicedMLP(c)
        elif c["kind"] == "dense":
            self.attention, self.mlp = DenseAttention(c, latent=False), MLP(c["hidden"], c["inner"], "gelu")
        else:
            self.attention, self.mlp = DenseAttention(c, latent=True), SharedMLP(c)
        norm = nn.LayerNorm if self.post else _rms
        self.attention_norm, self.mlp_norm = norm(c["hidden"]), norm(c["hidden"])

    def forward(self, x: Tensor, memory: Tensor | None) -> Tensor:
        if self.post:
            x = self.attention_norm(x + self.attention(x, memory))
            out: Tensor = self.mlp_norm(x + self.mlp(x))
            return out
        x = x + self.attention(self.attention_norm(x), memory)
        x = x + self.mlp(self.mlp_norm(x))
        return x


def _rms(width: int) -> nn.Module:
    return RMSNorm(width, 1e-6)


class Union(nn.Module):
    """Token ids to class logits, or with a memory hidden states to hidden states."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["layers"]))
        self.embedding = None if c["language"] else nn.Embedding(c["vocab"], c["hidden"])
        if self.embedding is not None:
            self.positions = nn.Embedding(c["max_position"], c["hidden"])
            self.head = nn.Linear(c["hidden"], c["classes"])

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        if self.embedding is not None:
            x = self.embedding(x) + self.positions(torch.arange(x.shape[1], device=x.device))
        for layer in self.layers:
            x = layer(x, memory)
        if self.embedding is None:
            return x
        logits: Tensor = self.head(x.mean(1))
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return Union(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    if not config["language"]:
        return Example((token_ids("batch", "seq", config["vocab"]),))
    states = Input(("batch", "seq", config["hidden"]), "model")
    return Example((states, Input(("batch", config["memory"], config["hidden"]), "model")))
