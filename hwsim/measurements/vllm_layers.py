"""Layer operators of a serving engine by name: op, tp, rows, and the model's widths."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hwsim.measurements import engine_ops
from hwsim.measurements.engine_ops import KERNELS, STREAMS
from hwsim.measurements.question import Answerable, Part, Question, Refusal, dtype_name
from hwsim.measurements.table import Table

TITLE = "layer operators by name: op, tp, rows, hidden_size, intermediate_size, head_dim, vocab_size"
_WIDTHS = (
    "tp", "rows", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
    "head_dim", "vocab_size",
)  # fmt: skip
NEEDS = frozenset(("op", "dtype", *_WIDTHS))
PRODUCTS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj", "lm_head")


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, op and dtype."""
    numbers = {name: table.number(name) for name in _WIDTHS}
    for (device, op, dtype), rows in table.groups("device", "op", "dtype").items():
        name = dtype_name(dtype)
        parts = None if name is None else _parts(op, {w: c[rows] for w, c in numbers.items()}, name)
        if parts is None:
            yield Refusal(rows, f"operator {op!r} in {dtype!r} is not known to this layout", op)
            continue
        label, how = ("gemm", KERNELS) if op in PRODUCTS else (op, STREAMS)
        yield Question(rows=rows, device=device, op=label, parts=parts, protocol=how)


def _parts(op: str, w: dict[str, np.ndarray], dtype: str) -> tuple[Part, ...] | None:
    """The op on one of `tp` ranks; key heads are copied when there are fewer than ranks."""
    rows, hidden, inter, dim = w["rows"], w["hidden_size"], w["intermediate_size"] / w["tp"], w["head_dim"]
    heads, groups = w["num_attention_heads"] / w["tp"], np.maximum(w["num_key_value_heads"] / w["tp"], 1.0)
    vocab = w["vocab_size"] / w["tp"]
    products = {
        "qkv_proj": (hidden, (heads + 2 * groups) * dim),
        "o_proj": (heads * dim, hidden),
        "gate_up_proj": (hidden, 2 * inter),
        "down_proj": (inter, hidden),
        "lm_head": (hidden, vocab),
    }
    if op in products:
        return engine_ops.linear(rows, *products[op], dtype)
    if op in ("layernorm", "final_layernorm"):
        return engine_ops.norm_with_residual(rows, hidden, dtype)
    if op == "qk_norm":
        return engine_ops.norm(rows * (heads + groups), dim, dtype)
    if op == "act_fn":
        return engine_ops.gated_activation(rows, inter, dtype)
    if op == "rotary_emb":
        return engine_ops.in_place(rows, (heads + groups) * dim, dtype)
    if op == "embedding":
        return engine_ops.embedding(rows, hidden, vocab, dtype)
    return engine_ops.sampler(rows, w["vocab_size"]) if op == "sampler" else None
