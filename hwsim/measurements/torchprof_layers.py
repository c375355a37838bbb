"""Layer operators of a model library run eagerly: op, tp, num_tokens, k, n, implausible; no dtype column
(16 bit).

Norms and rotary embeddings are written out there, several kernels each; on a TPU the compiler joins them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hwsim.measurements import engine_ops
from hwsim.measurements.engine_ops import KERNELS
from hwsim.measurements.question import Answerable, Part, Question, Refusal
from hwsim.measurements.table import Table

TITLE = "layer operators of an eager model library: op, tp, num_tokens, k, n, implausible"
_WIDTHS = (
    "tp", "num_tokens", "k", "n", "hidden_size", "intermediate_size", "num_attention_heads",
    "num_key_value_heads", "vocab_size",
)  # fmt: skip
NEEDS = frozenset(("op", "implausible", *_WIDTHS))
# one chip of the slice the file names; "v6e" is the generation
DEVICES = {"TPU v6e (1 chip)": "tpu-v6e"}
EXPERTS = 16.0  # of Phi-mini-MoE, from memory, unverified: only the gate's width depends on it


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, op and whether it is a plain product."""
    numbers = {name: table.number(name) for name in _WIDTHS}
    for (device, op), rows in table.groups("device", "op").items():
        product = numbers["k"][rows] > 0
        for chosen, plain in ((rows[product], True), (rows[~product], False)):
            if not chosen.size:
                continue
            widths = {name: column[chosen] for name, column in numbers.items()}
            parts = _parts("product" if plain else op, widths, joined="TPU" in device)
            if parts is None:
                yield Refusal(chosen, f"operator {op!r} is not known to this layout", op)
                continue
            name, label = DEVICES.get(device, device), "gemm" if plain else op
            yield Question(rows=chosen, device=name, op=label, parts=parts, protocol=KERNELS)


def _parts(op: str, w: dict[str, np.ndarray], *, joined: bool) -> tuple[Part, ...] | None:
    """The op on one of `tp` ranks."""
    rows, hidden, inter = w["num_tokens"], w["hidden_size"], w["intermediate_size"] / w["tp"]
    heads, groups = w["num_attention_heads"] / w["tp"], np.maximum(w["num_key_value_heads"] / w["tp"], 1.0)
    dim = hidden / w["num_attention_heads"]
    products = {
        "product": (w["k"], w["n"]),
        "expert.w1": (hidden, inter),
        "expert.w3": (hidden, inter),
        "expert.w2": (inter, hidden),
        "gate": (hidden, np.full_like(rows, EXPERTS)),
    }
    if op in products:
        return engine_ops.linear(rows, *products[op], "bf16")
    if op.endswith("layernorm"):
        alone = engine_ops.norm(rows, hidden, "bf16")
        return alone if joined else engine_ops.written_out_norm(rows, hidden)
    if op == "rope":
        width = (heads + groups) * dim
        alone = engine_ops.in_place(rows, width, "bf16")
        return alone if joined else engine_ops.written_out_rotary(rows, width, "bf16")
    if op == "act_fn":
        return engine_ops.in_place(rows, inter, "bf16", "silu")
    if op == "embedding":
        return engine_ops.embedding(rows, hidden, w["vocab_size"] / w["tp"], "bf16")
    if op == "attn":
        return engine_ops.attention(np.ones_like(rows), heads, groups, rows, 0 * rows, dim, "bf16")
    return None
