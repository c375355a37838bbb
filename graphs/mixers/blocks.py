"""Attention in blocks: what kernels touch are whole tiles, so a pattern is worth what tiles it leaves out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.mixers.heads import Projected


def blocked(x: Tensor, block: int) -> Tensor:
    """[..., tokens, d] to [..., blocks, block, d], the last block filled with zeros."""
    tokens = x.shape[-2]
    blocks = (tokens + block - 1) // block
    filled = F.pad(x, (0, 0, 0, blocks * block - tokens))
    cut: Tensor = filled.unflatten(-2, (blocks, block))
    return cut


def unblocked(x: Tensor, tokens: int) -> Tensor:
    """The first `tokens` of [..., blocks, block, d]."""
    return x.flatten(-3, -2)[..., :tokens, :]


def before(x: Tensor) -> Tensor:
    """Every block's predecessor, zeros before the first."""
    return F.pad(x, (0, 0, 0, 0, 1, 0))[..., :-1, :, :]


def after(x: Tensor) -> Tensor:
    """Every block's successor, zeros behind the last."""
    return F.pad(x, (0, 0, 0, 0, 0, 1))[..., 1:, :, :]


class Local(nn.Module):
    """Softmax inside blocks of `block` tokens; with `look_back` also over the block before.

    A causal mask inside blocks costs kernels of this size nothing less, so none is passed for `look_back`.
    """

    def __init__(self, block: int, *, look_back: bool = False, causal: bool = False) -> None:
        super().__init__()
        self.block, self.look_back, self.causal = block, look_back, causal

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        tokens = query.shape[-2]
        query, key, value = (blocked(x, self.block) for x in (query, key, value))
        mask = None
        if self.look_back:
            key, value = (torch.cat([before(x), x], dim=-2) for x in (key, value))
            if self.causal:
                size = (self.block, 2 * self.block)
                mask = torch.ones(size, dtype=torch.bool, device=query.device).tril(self.block)
        inner = self.causal and not self.look_back
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=inner)
        return unblocked(mixed, tokens)


class MaskedSparse(nn.Module):
    """Sparse Transformer as dense scores under a 0/1 mask: own block, and the last `columns` of each block.

    The mask saves no arithmetic: a dense kernel computes what it then hides.
    """

    def __init__(self, block: int, columns: int) -> None:
        super().__init__()
        self.block, self.columns = block, columns

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        place = torch.arange(query.shape[-2], device=query.device)
        same = place[:, None] // self.block == place[None] // self.block
        summary = place[None] % self.block >= self.block - self.columns
        return F.scaled_dot_product_attention(query, key, value, attn_mask=same | summary)


class MaskedLongformer(nn.Module):
    """Sliding window and global tokens as two dense attentions under masks, each with its own projections."""

    def __init__(self, width: int, heads: int, head_dim: int, window: int, global_tokens: int) -> None:
        super().__init__()
        self.local = Projected(width, heads, head_dim, _Banded(window))
        self.wide = Projected(width, heads, head_dim, _Global(global_tokens))

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.local(x) + self.wide(x)
        return mixed


class _Banded(nn.Module):
    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        place = torch.arange(query.shape[-2], device=query.device)
        near = (place[:, None] - place[None]).abs() <= self.window // 2
        return F.scaled_dot_product_attention(query, key, value, attn_mask=near)


class _Global(nn.Module):
    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        first = torch.arange(query.shape[-2], device=query.device) < self.tokens
        return F.scaled_dot_product_attention(query, key, value, attn_mask=first[:, None] | first[None])


class SlidingWindow(nn.Module):
    """Longformer in chunks: a chunk of half a window meets itself and its two neighbours, and global tokens.

    Products over three half windows are 1.5 times the ideal band of `window` keys a query. The global tokens
    have projections of their own and see everything; every token sees them.
    """

    def __init__(self, width: int, heads: int, head_dim: int, window: int, global_tokens: int) -> None:
        super().__init__()
        self.heads, self.chunk, self.global_tokens = heads, window // 2, global_tokens
        self.scale = head_dim**-0.5
        self.local = nn.ModuleList(nn.Linear(width, heads * head_dim) for _ in range(3))
        self.wide = nn.ModuleList(nn.Linear(width, heads * head_dim) for _ in range(3))
        self.out = nn.Linear(heads * head_dim, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (self._split(linear(x)) for linear in self.local)
        first = x[:, : self.global_tokens].clone(memory_format=torch.contiguous_format)
        seen, seen_value = (self._split(linear(first)) for linear in (self.local[1], self.local[2]))
        mixed = self._banded(query, key, value, seen, seen_value)
        asking = self._split(self.wide[0](first))
        keys, values = self._split(self.wide[1](x)), self._split(self.wide[2](x))
        summary = F.scaled_dot_product_attention(asking, keys, values)
        mixed = torch.cat([summary, mixed[..., self.global_tokens :, :]], dim=-2)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        split: Tensor = x.unflatten(-1, (self.heads, -1)).transpose(1, 2).contiguous()
        return split

    def _banded(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor, seen_value: Tensor) -> Tensor:
        tokens, chunk = query.shape[-2], self.chunk
        asking = blocked(query, chunk)
        near, near_value = (
            torch.cat([before(x), x, after(x)], dim=-2) for x in (blocked(key, chunk), blocked(value, chunk))
        )
        place = torch.arange(chunk, device=query.device)
        behind = torch.arange(3 * chunk, device=query.device) - chunk
        far = (place[:, None] - behind[None]).abs() > chunk
        scores = (asking @ near.transpose(-1, -2)).masked_fill(far, float("-inf")) * self.scale
        beside = asking @ seen.unsqueeze(2).transpose(-1, -2) * self.scale
        weight = torch.cat([beside, scores], dim=-1).softmax(-1)
        g = self.global_tokens
        mixed = weight[..., :g] @ seen_value.unsqueeze(2) + weight[..., g:] @ near_value
        return unblocked(mixed, tokens)


class BigBird(nn.Module):
    """Blocks that see a window of three, `random_blocks` others and the two ends; the ends see everything.

    Keys of the chosen blocks are gathered, so the arithmetic falls and the traffic rises.
    """

    def __init__(self, block: int, random_blocks: int) -> None:
        super().__init__()
        self.block, self.random_blocks = block, random_blocks

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        tokens = query.shape[-2]
        query, key, value = (blocked(x, self.block) for x in (query, key, value))
        blocks = query.shape[2]
        place = torch.arange(blocks, device=query.device)
        stride = torch.arange(1, self.random_blocks + 1, device=query.device) * 7 + 1
        chosen = (place[:, None] + stride) % blocks  # fixed and scattered, as random patterns are
        keys, values = (self._seen(x, chosen) for x in (key, value))
        middle = F.scaled_dot_product_attention(query, keys, values)
        key, value = key.flatten(2, 3), value.flatten(2, 3)
        ends = [F.scaled_dot_product_attention(query[:, :, at], key, value).unsqueeze(2) for at in (0, -1)]
        mixed = torch.cat([ends[0], middle[:, :, 1:-1], ends[1]], dim=2)
        return unblocked(mixed, tokens)

    def _seen(self, x: Tensor, chosen: Tensor) -> Tensor:
        picked = x[:, :, chosen].flatten(3, 4)
        first, last = (x[:, :, at].unsqueeze(2).expand_as(x) for at in (0, -1))
        return torch.cat([first, before(x), x, after(x), last, picked], dim=3)


class Sinkhorn(nn.Module):
    """Own block, and against it blocks of keys mixed by a learned soft permutation of block sums.

    The permutation is a linear from block sums to at most `max_blocks` blocks and a softmax.
    """

    def __init__(self, block: int, head_dim: int, max_blocks: int) -> None:
        super().__init__()
        self.block, self.scale = block, head_dim**-0.5
        self.order = nn.Linear(head_dim, max_blocks)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        tokens = query.shape[-2]
        query, key, value = (blocked(x, self.block) for x in (query, key, value))
        blocks = query.shape[2]
        order = self.order(key.sum(-2))[..., :blocks].softmax(-1)
        sorted_key, sorted_value = ((order @ x.flatten(3, 4)).view_as(x) for x in (key, value))
        scores = [query @ x.transpose(-1, -2) * self.scale for x in (key, sorted_key)]
        weight = torch.cat(scores, dim=-1).softmax(-1)
        own, other = weight.split(self.block, dim=-1)
        return unblocked(own @ value + other @ sorted_value, tokens)
