"""Layer operators of a serving simulator's profile: op, m, k, n beside num_tokens, tp, n_embd, ffn_dim."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hwsim.measurements import engine_ops
from hwsim.measurements.engine_ops import KERNELS, STREAMS
from hwsim.measurements.question import Answerable, Part, Question, Refusal, dtype_name
from hwsim.measurements.table import Table

TITLE = "layer operators of one tensor-parallel rank: op, m, k, n, num_tokens, tp, n_embd, ffn_dim"
NEEDS = frozenset(("op", "dtype", "m", "k", "n", "num_tokens", "tp", "n_embd", "ffn_dim"))
VOCABULARY = 64_000.0  # rows of the table that embeddings are picked from; not in the file


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, op, dtype and kind of MLP; products first, by their k."""
    m, n, k = (table.number(name) for name in ("m", "n", "k"))
    for (device, op, dtype, gated), rows in table.groups("device", "op", "dtype", "gated").items():
        name = dtype_name(dtype)
        if name is None:
            yield Refusal(rows, f"dtype {dtype!r} is unknown", op)
            continue
        product = k[rows] > 0
        some, rest = rows[product], rows[~product]
        if some.size:
            parts = engine_ops.linear(m[some], k[some], n[some], name)
            yield Question(rows=some, device=device, op="gemm", parts=parts, protocol=KERNELS)
        streamed = _streamed(op, m[rest], n[rest], name, gated=gated != "0") if rest.size else None
        if streamed is not None:
            yield Question(rows=rest, device=device, op=op, parts=streamed, protocol=STREAMS)
        elif rest.size:
            yield Refusal(rest, f"operator {op!r} with k = 0 is not known to this layout", op)


def _streamed(op: str, m: np.ndarray, n: np.ndarray, dtype: str, *, gated: bool) -> tuple[Part, ...] | None:
    if op in ("input_layernorm", "post_attention_layernorm"):
        return engine_ops.norm(m, n, dtype, kind="rms_norm" if gated else "norm")
    if op == "mlp_act":
        gelu = engine_ops.in_place(m, n, dtype, "gelu")
        return engine_ops.gated_activation(m, n, dtype) if gated else gelu
    if op == "attn_rope":
        return engine_ops.in_place(m, n, dtype)
    if op == "add":
        return engine_ops.total(m, n, dtype)
    return engine_ops.embedding(m, n, VOCABULARY, dtype) if op == "emb" else None
