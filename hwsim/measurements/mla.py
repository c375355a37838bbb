"""Multi-head latent attention kernels: mla_dtype, batch_size, isl, step, num_heads.

The source's kernels have DeepSeek's widths (from memory, unverified: latent 512, rotary 64, head 128).
Prefill attends with keys of 128 + 64 and values of 128 per head; decode works in the latent space, where
every head reads the same keys of 512 + 64, whose first 512 columns are the values. `num_heads` is what one
device has.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphs import kernels
from hwsim.measurements.gemm import REPLAY
from hwsim.measurements.question import Answerable, Part, Question, Refusal, dtype_name
from hwsim.measurements.table import Table

TITLE = "latent attention (MLA) kernels: mla_dtype, batch_size, isl, step, num_heads"
NEEDS = frozenset(("mla_dtype", "batch_size", "isl", "step", "num_heads"))
LATENT, ROTARY, HEAD = 512.0, 64.0, 128.0


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device and dtypes; a file whose rows all have one new token is of decode steps."""
    batch, new, cached, heads = (table.number(name) for name in ("batch_size", "isl", "step", "num_heads"))
    decode = bool(np.all(new == 1)) and bool(np.any(cached > 0))
    kind = "decode" if decode else "prefill"
    for (device, name, cache), rows in table.groups("device", "mla_dtype", "kv_cache_dtype").items():
        label = f"{kind} mla {name} kv {cache or name}"
        dtype, kv = dtype_name(name), dtype_name(cache or name)
        if dtype is None or kv is None:
            yield Refusal(rows, f"dtype {name!r} or {cache!r} is unknown", label)
            continue
        sizes = {
            "batch": batch[rows],
            "heads": heads[rows],
            "kv_heads": np.ones(rows.size) if decode else heads[rows],
            "q_len": new[rows],
            "kv_len": cached[rows] + new[rows],
            "head_dim": np.full(rows.size, LATENT + ROTARY if decode else HEAD + ROTARY),
            "value_dim": np.full(rows.size, LATENT if decode else HEAD),
        }
        graph = kernels.attention(dtype, kv, causal=not decode, values="shared" if decode else "own")
        part = Part(graph=graph, sizes=sizes)
        yield Question(rows=rows, device=device, op=label, parts=(part,), protocol=REPLAY)
