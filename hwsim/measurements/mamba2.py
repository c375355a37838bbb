"""Kernels of Mamba-2 layers: op, phase, batch_size, seq_len, d_state, nheads, head_dim, n_groups."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hwsim.measurements.gemm import REPLAY
from hwsim.measurements.question import Answerable, Part, Question, Refusal
from hwsim.measurements.recurrence import (
    CONVOLUTION_BLOCK,
    chunk_scan,
    convolution,
    convolution_step,
    state_step,
)
from hwsim.measurements.table import Table

TITLE = "Mamba-2 kernels: op, batch_size, seq_len, d_state, d_conv, nheads, head_dim, n_groups"
NEEDS = frozenset(("op", "batch_size", "seq_len", "d_state", "d_conv", "nheads", "head_dim", "n_groups"))


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device and op."""
    names = ("batch_size", "seq_len", "d_state", "d_conv", "nheads", "head_dim", "n_groups")
    numbers = {name: table.number(name) for name in names} | {"chunk_size": table.number("chunk_size", 128.0)}
    for (device, op), rows in table.groups("device", "op").items():
        parts = _parts(op, {name: column[rows] for name, column in numbers.items()})
        if parts is None:
            yield Refusal(rows, f"operator {op!r} is not known to this layout", op)
        else:
            yield Question(rows=rows, device=device, op=op, parts=parts, protocol=REPLAY)


def _parts(op: str, n: dict[str, np.ndarray]) -> tuple[Part, ...] | None:
    batch, length, heads, head_dim = (n[name] for name in ("batch_size", "seq_len", "nheads", "head_dim"))
    channels = heads * head_dim + 2 * n["n_groups"] * n["d_state"]
    if op == "causal_conv1d_fn":
        return convolution(batch, length, channels, block=CONVOLUTION_BLOCK)
    if op == "causal_conv1d_update":
        return convolution_step(batch, channels, n["d_conv"])
    if op.startswith("selective_state_update"):
        return state_step(batch, heads, n["d_state"], head_dim)
    if "chunk_scan" in op:
        return chunk_scan(batch, length, heads, head_dim, n["d_state"], n["n_groups"], n["chunk_size"])
    return None
