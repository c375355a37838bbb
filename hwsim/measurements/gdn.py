"""Kernels of gated delta-rule layers: op, batch_size, seq_len, key and value heads and their widths."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hwsim.measurements.gemm import REPLAY
from hwsim.measurements.question import Answerable, Part, Question, Refusal
from hwsim.measurements.recurrence import (
    CONVOLUTION_BLOCK,
    convolution,
    convolution_step,
    delta_rule,
    state_step,
)
from hwsim.measurements.table import Table

TITLE = "gated delta-rule kernels: op, batch_size, seq_len, num_k_heads, head_k_dim, num_v_heads, head_v_dim"
NEEDS = frozenset(
    ("op", "batch_size", "seq_len", "d_conv", "num_k_heads", "head_k_dim", "num_v_heads", "head_v_dim")
)


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device and op."""
    numbers = {name: table.number(name) for name in NEEDS - {"op"}}
    for (device, op, framework), rows in table.groups("device", "op", "framework").items():
        parts = _parts(op, framework, {name: column[rows] for name, column in numbers.items()})
        if parts is None:
            yield Refusal(rows, f"operator {op!r} is not known to this layout", op)
        else:
            yield Question(rows=rows, device=device, op=op, parts=parts, protocol=REPLAY)


def _parts(op: str, framework: str, n: dict[str, np.ndarray]) -> tuple[Part, ...] | None:
    batch, length, heads = n["batch_size"], n["seq_len"], n["num_v_heads"]
    key, value = n["head_k_dim"], n["head_v_dim"]
    keys = 2 * n["num_k_heads"] * key
    channels = keys + heads * value
    if op == "causal_conv1d_fn" and framework == "trtllm":
        # its times do not depend on the value heads: the channels of queries and keys alone were run
        return convolution(batch, length, keys, block=CONVOLUTION_BLOCK)
    if op == "causal_conv1d_fn":
        return convolution(batch, length, channels)
    if op == "causal_conv1d_update":
        return convolution_step(batch, channels, n["d_conv"])
    if op.startswith("chunk_gated_delta_rule"):
        return delta_rule(batch, length, heads, key, value)
    if op.startswith("fused_recurrent_gated_delta_rule"):
        return state_step(batch, heads, key, value)
    return None
