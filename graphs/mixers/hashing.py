"""Attention among tokens of one bucket: random rotations, sorting, chunks, and the way back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphs.mixers.blocks import before, blocked, unblocked


class Reformer(nn.Module):
    """Locality-sensitive hashing with shared queries and keys (Kitaev et al. 2020).

    Each of `rounds` rounds rotates, takes the nearest direction as bucket, sorts tokens by bucket and lets
    chunks of the sorted sequence attend to themselves and the chunk before; rounds are weighted by their
    log-sum-exp. Rounds run side by side, as one more batch.
    """

    rotations: Tensor

    def __init__(self, head_dim: int, rounds: int, buckets: int, chunk: int) -> None:
        super().__init__()
        self.rounds, self.chunk, self.scale = rounds, chunk, head_dim**-0.5
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(
            rounds, head_dim, buckets // 2, generator=generator, device="cpu", dtype=torch.float32
        )
        self.register_buffer("rotations", drawn.to(torch.get_default_dtype()))

    def forward(self, query: Tensor, value: Tensor) -> Tensor:
        tokens, width = query.shape[-2:]
        query, value = query.contiguous(), value.contiguous()
        order, back = self._orders(query.detach())
        shared, value = (x.unsqueeze(2).expand(-1, -1, self.rounds, -1, -1) for x in (query, value))
        picked = order.unsqueeze(-1).expand(-1, -1, -1, -1, width)
        query, value = (blocked(x.gather(3, picked), self.chunk) for x in (shared, value))
        key = query / (query.norm(dim=-1, keepdim=True) + 1e-6)
        keys, values = (torch.cat([before(x), x], dim=-2) for x in (key, value))
        scores = query @ keys.transpose(-1, -2) * self.scale
        weight = scores.logsumexp(-1, keepdim=True)
        mixed = torch.exp(scores - weight) @ values
        mixed, weight = unblocked(mixed, tokens), unblocked(weight, tokens)
        mixed = mixed.gather(3, back.unsqueeze(-1).expand(-1, -1, -1, -1, width))
        weight = weight.gather(3, back.unsqueeze(-1))
        return (mixed * weight.softmax(dim=2)).sum(2)

    def _orders(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens sorted by bucket, and where each went; [batch, heads, rounds, tokens]."""
        rotated = query.unsqueeze(2) @ self.rotations
        bucket = torch.cat([rotated, -rotated], dim=-1).argmax(-1)
        order = bucket.argsort(dim=-1, stable=True)
        return order, order.argsort(dim=-1)
