"""Attention over a prefill chunk and decode steps in one kernel: prefill_chunk, kv_prefill, n_decode."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hwsim.measurements import engine_ops
from hwsim.measurements.engine_ops import KERNELS
from hwsim.measurements.question import Answerable, Part, Question, Refusal, dtype_name
from hwsim.measurements.table import Rows, Table

TITLE = "attention of a mixed batch: prefill_chunk, kv_prefill, n_decode, kv_decode, tp"
_WIDTHS = (
    "tp", "num_attention_heads", "num_key_value_heads", "head_dim", "prefill_chunk", "kv_prefill", "n_decode",
    "kv_decode",
)  # fmt: skip
NEEDS = frozenset(("dtype", *_WIDTHS))


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, dtype and what the batch holds; both kinds are priced one after the other."""
    numbers = {name: table.number(name) for name in _WIDTHS}
    chunk, steps = numbers["prefill_chunk"], numbers["n_decode"]
    for (device, dtype), rows in table.groups("device", "dtype").items():
        name = dtype_name(dtype)
        if name is None:
            yield Refusal(rows, f"dtype {dtype!r} is unknown", "attention")
            continue
        kinds = {
            "mixed attention": (chunk[rows] > 0) & (steps[rows] > 0),
            "prefill attention": (chunk[rows] > 0) & ~(steps[rows] > 0),
            "decode attention": ~(chunk[rows] > 0) & (steps[rows] > 0),
        }
        for label, mask in kinds.items():
            chosen = rows[mask]
            if chosen.size:
                parts = _parts(label, chosen, numbers, name)
                yield Question(rows=chosen, device=device, op=label, parts=parts, protocol=KERNELS)
        empty = rows[~(chunk[rows] > 0) & ~(steps[rows] > 0)]
        if empty.size:
            yield Refusal(empty, "neither a chunk nor a decode step", "attention")


def _parts(label: str, rows: Rows, numbers: dict[str, np.ndarray], dtype: str) -> tuple[Part, ...]:
    w = {name: column[rows] for name, column in numbers.items()}
    heads, groups = w["num_attention_heads"] / w["tp"], w["num_key_value_heads"] / w["tp"]
    one = np.ones(rows.size)
    prefill = engine_ops.attention(
        one, heads, groups, w["prefill_chunk"], w["kv_prefill"], w["head_dim"], dtype
    )
    decode = engine_ops.attention(w["n_decode"], heads, groups, one, w["kv_decode"], w["head_dim"], dtype)
    if label == "mixed attention":
        return prefill + decode
    return prefill if label == "prefill attention" else decode
