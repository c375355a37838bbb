"""Products of queries with chosen keys only, and how the keys are chosen: by codes that they share.

Tensors have one matrix per head in front: queries [n, q, d], keys and values [n, k, d], chosen places
[n, q, s]. The three products are each other's derivatives.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula


@torch.library.custom_op("hwsim::nearest_code", mutates_args=())
def nearest_code(x: Tensor, codewords: Tensor) -> Tensor:
    """Number of the codeword nearest (L1) to each piece of x [n, t, d]; codewords [pieces, codes, width]."""
    pieces = x.unflatten(-1, (codewords.shape[0], 1, codewords.shape[2]))
    codes: Tensor = (pieces - codewords).abs().sum(-1).argmin(-1)
    return codes.int()


@nearest_code.register_fake
def _nearest_code_shape(x: Tensor, codewords: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], codewords.shape[0], dtype=torch.int32)


@torch.library.custom_op("hwsim::best_matches", mutates_args=())
def best_matches(query_codes: Tensor, key_codes: Tensor, keep: int) -> Tensor:
    """Per query the `keep` keys that share most codes with it; later keys only where earlier ones are few."""
    shared = torch.zeros(
        *query_codes.shape[:2], key_codes.shape[1], dtype=torch.int32, device=query_codes.device
    )
    for piece in range(query_codes.shape[-1]):
        shared += query_codes[:, :, None, piece] == key_codes[:, None, :, piece]
    later = torch.ones(shared.shape[1:], dtype=torch.bool, device=shared.device).triu(1)
    return shared.masked_fill(later, -1).topk(keep, dim=-1).indices.int()


@best_matches.register_fake
def _best_matches_shape(query_codes: Tensor, key_codes: Tensor, keep: int) -> Tensor:
    return query_codes.new_empty(*query_codes.shape[:2], keep)


@torch.library.custom_op("hwsim::sampled_product", mutates_args=())
def sampled_product(keys: Tensor, index: Tensor, queries: Tensor) -> Tensor:
    """Each query times the keys chosen for it: [n, q, s]."""
    return torch.einsum("nqsd,nqd->nqs", _picked(keys, index), queries)


@torch.library.custom_op("hwsim::sampled_sum", mutates_args=())
def sampled_sum(values: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Sum of the values chosen for a query, each with its weight [n, q, s]: [n, q, d]."""
    return torch.einsum("nqsd,nqs->nqd", _picked(values, index), weight)


@torch.library.custom_op("hwsim::sampled_spread", mutates_args=())
def sampled_spread(queries: Tensor, index: Tensor, weight: Tensor, keys: int) -> Tensor:
    """The transposed sum: every query, with its weights, added to the places chosen for it: [n, keys, d]."""
    added = weight.unsqueeze(-1) * queries.unsqueeze(2)
    out = queries.new_zeros(queries.shape[0], keys, queries.shape[2])
    return out.scatter_add(1, _places(index, queries.shape[2]).flatten(1, 2), added.flatten(1, 2))


def _picked(table: Tensor, index: Tensor) -> Tensor:
    """Rows of table [n, k, d] at index [n, q, s]: [n, q, s, d]."""
    places = _places(index, table.shape[2])
    picked: Tensor = table.gather(1, places.flatten(1, 2)).unflatten(1, index.shape[1:])
    return picked


def _places(index: Tensor, width: int) -> Tensor:
    return index.long().unsqueeze(-1).expand(-1, -1, -1, width)


@sampled_product.register_fake
def _sampled_product_shape(keys: Tensor, index: Tensor, queries: Tensor) -> Tensor:
    return queries.new_empty(index.shape)


@sampled_sum.register_fake
def _sampled_sum_shape(values: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    return values.new_empty(*index.shape[:2], values.shape[2])


@sampled_spread.register_fake
def _sampled_spread_shape(queries: Tensor, index: Tensor, weight: Tensor, keys: int) -> Tensor:
    return queries.new_empty(queries.shape[0], keys, queries.shape[2])


def _keep_for_backward(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _product_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor]:
    keys, index, queries = ctx.saved_tensors
    return sampled_spread(queries, index, grad, keys.shape[1]), None, sampled_sum(keys, index, grad)


def _sum_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor]:
    values, index, weight = ctx.saved_tensors
    return sampled_spread(grad, index, weight, values.shape[1]), None, sampled_product(values, index, grad)


sampled_product.register_autograd(_product_backward, setup_context=_keep_for_backward)
sampled_sum.register_autograd(_sum_backward, setup_context=_keep_for_backward)


@register_flop_formula(
    [torch.ops.hwsim.sampled_product, torch.ops.hwsim.sampled_sum, torch.ops.hwsim.sampled_spread]
)
def _sampled_flop(table_shape: tuple[int, ...], index_shape: tuple[int, ...], *_: Any, **__: Any) -> int:
    return 2 * index_shape[0] * index_shape[1] * index_shape[2] * table_shape[2]
