"""Scores of low rank: keys projected along the length, or no query-key product at all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linformer(nn.Module):
    """Keys and values projected along the length to `rank` rows (Wang et al. 2020).

    `shared` uses one matrix for both. The matrix has `length` rows, which no input may exceed.
    """

    def __init__(self, length: int, rank: int, *, shared: bool) -> None:
        super().__init__()
        count = 1 if shared else 2
        self.project = nn.ParameterList(
            nn.Parameter(torch.randn(rank, length) * length**-0.5) for _ in range(count)
        )

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        tokens = key.shape[-2]
        along_key, along_value = self.project[0][:, :tokens], self.project[-1][:, :tokens]
        key, value = along_key @ key.contiguous(), along_value @ value.contiguous()
        return F.scaled_dot_product_attention(query, key, value)


class Synthesizer(nn.Module):
    """Scores that ignore the input: two learned length x rank matrices a head (Tay et al. 2021)."""

    def __init__(self, heads: int, length: int, rank: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(heads, length, rank) * rank**-0.5)
        self.columns = nn.Parameter(torch.randn(heads, length, rank) * rank**-0.5)

    def forward(self, value: Tensor) -> Tensor:
        tokens = value.shape[-2]
        scores = self.rows[:, :tokens] @ self.columns[:, :tokens].transpose(-1, -2)
        together = (
            value.permute(1, 2, 0, 3).contiguous().flatten(2)
        )  # one score matrix serves the whole batch
        mixed = scores.softmax(-1) @ together
        apart: Tensor = mixed.unflatten(-1, (value.shape[0], -1)).permute(2, 0, 1, 3)
        return apart
