"""Weighted sums of looked-up rows: what replaces a matrix product when inputs are hashed."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula


@torch.library.custom_op("hwsim::lookup_sum", mutates_args=())
def lookup_sum(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Sum over k of weight[t, k] * table[index[t, k]]: table [rows, n], index, weight [t, k], out [t, n]."""
    return F.embedding_bag(index, table, mode="sum", per_sample_weights=weight)


@lookup_sum.register_fake
def _lookup_sum_shape(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    return table.new_empty(index.shape[0], table.shape[1])


def _keep_for_backward(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _lookup_sum_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor]:
    table, index, weight = ctx.saved_tensors
    picked = table[index]
    spread = (weight.unsqueeze(-1) * grad.unsqueeze(1)).flatten(0, 1)
    grad_table = torch.zeros_like(table).index_add(0, index.flatten(), spread)
    return grad_table, None, (picked * grad.unsqueeze(1)).sum(-1)


lookup_sum.register_autograd(_lookup_sum_backward, setup_context=_keep_for_backward)


@register_flop_formula(torch.ops.hwsim.lookup_sum)
def _lookup_sum_flop(
    table_shape: tuple[int, ...],
    index_shape: tuple[int, ...],
    weight_shape: Any,
    out_shape: Any = None,
    **_: Any,
) -> int:
    return 2 * index_shape[0] * index_shape[1] * table_shape[1]


@torch.library.custom_op("hwsim::column_sparse", mutates_args=())
def column_sparse(x: Tensor, values: Tensor, index: Tensor, basis: int) -> Tensor:
    """x [t, n] times, per block, an [n, basis] matrix with few values in each row; out [blocks, t, basis].

    `values` and `index`, both [blocks, n, nonzeros], say what stands where.
    """
    dense = values.new_zeros(*values.shape[:2], basis).scatter_add(-1, index.long(), values)
    return torch.matmul(x, dense)


@column_sparse.register_fake
def _column_sparse_shape(x: Tensor, values: Tensor, index: Tensor, basis: int) -> Tensor:
    return x.new_empty(values.shape[0], x.shape[0], basis)


def _keep_operands(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _column_sparse_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
    x, values, index = ctx.saved_tensors
    dense = values.new_zeros(*values.shape[:2], grad.shape[-1]).scatter_add(-1, index.long(), values)
    grad_x = torch.matmul(grad, dense.transpose(-1, -2)).sum(0)
    return grad_x, torch.matmul(x.t(), grad).gather(-1, index.long()), None, None


column_sparse.register_autograd(_column_sparse_backward, setup_context=_keep_operands)
