"""Projections of a multi-head mixer, and the full softmax attention that the others stand in for."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Projected(nn.Module):
    """Linears to the heads' operands, a mixing of these, and the linear back.

    `operands` are those that `mix` is called with, in order: "qkv"; "kv" shares one projection between
    queries and keys; "v" mixes values alone. Heads may be wider together than the model.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        head_dim: int,
        mix: nn.Module,
        *,
        operands: str = "qkv",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.heads, self.mix = heads, mix
        self.inputs = nn.ModuleList(nn.Linear(width, heads * head_dim, bias=bias) for _ in operands)
        self.out = nn.Linear(heads * head_dim, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        parts = [linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for linear in self.inputs]
        mixed: Tensor = self.out(self.mix(*parts).transpose(1, 2).flatten(2))
        return mixed


class Softmax(nn.Module):
    """Every query over every key, or under a causal mask over the keys before it."""

    def __init__(self, *, causal: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.causal, self.dropout = causal, dropout

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=self.causal)
