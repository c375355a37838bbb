"""Attention of one prefill chunk or a batch of decode steps: phase, batch_size, prefill_chunk_size,
kv_cache_size.

`kv_cache_size` tokens are cached before the chunk: chunk and cache together end at 2048 in the source.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hwsim.measurements import engine_ops
from hwsim.measurements.engine_ops import KERNELS
from hwsim.measurements.question import Answerable, Question, Refusal, dtype_name
from hwsim.measurements.table import Table

TITLE = "attention of a chunk or of decode steps: phase, prefill_chunk_size, kv_cache_size, heads"
_COMMON = ("phase", "batch_size", "prefill_chunk_size", "kv_cache_size", "dtype")
NEEDS = (
    frozenset((*_COMMON, "num_heads", "num_kv_heads", "head_dim")),
    frozenset((*_COMMON, "n_embd", "n_q_head", "n_kv_head", "tp")),
)
DEVICES = {"TPU v6e (1 chip)": "tpu-v6e"}  # one chip of the slice the file names


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, phase and dtype."""
    tp = table.number("tp", 1.0)
    ours = table.has("num_heads")
    heads = table.number("num_heads" if ours else "n_q_head") / tp
    groups = table.number("num_kv_heads" if ours else "n_kv_head") / tp
    dim = table.number("head_dim") if ours else table.number("n_embd") / (heads * tp)
    batch, chunk, cached = (
        table.number(name) for name in ("batch_size", "prefill_chunk_size", "kv_cache_size")
    )
    for (device, phase, dtype), rows in table.groups("device", "phase", "dtype").items():
        label, name = f"{phase} attention", dtype_name(dtype)
        if phase not in ("prefill", "decode") or name is None:
            yield Refusal(rows, f"phase {phase!r} in {dtype!r} is not known to this layout", label)
            continue
        new = np.ones(rows.size) if phase == "decode" else chunk[rows]
        sizes = (batch[rows], heads[rows], groups[rows], new, cached[rows], dim[rows])
        parts = engine_ops.attention(*sizes, name)
        where = DEVICES.get(device, device)
        yield Question(rows=rows, device=where, op=label, parts=parts, protocol=KERNELS)
