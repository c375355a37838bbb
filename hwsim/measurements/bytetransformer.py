"""BERT of 12 layers under several frameworks: batch, max_seq_len, avg_over_max_len, framework."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from graphs import kernels
from hwsim.measurements.fastertransformer import BERT, BUILT_IN, ENGINE, FUSED_UP_TO, settings_of
from hwsim.measurements.language_models import forward
from hwsim.measurements.question import Answerable, Part, Question, Refusal, dtype_name
from hwsim.measurements.table import Table

Array = NDArray[np.float64]
TITLE = "BERT under several frameworks: batch, max_seq_len, avg_over_max_len, framework"
NEEDS = frozenset(("device", "model", "dtype", "batch", "max_seq_len", "avg_over_max_len", "framework"))
DEVICES = {"NVIDIA A100": "a100-40gb-sxm"}  # the table names no variant; 40 GB was what there was in 2021
STACKS = {"PyTorch": "eager", "TensorFlow": "compiled"}
WITHOUT_PADDING = ("ByteTransformer", "FasterTransformer remove-padding")


def questions(table: Table) -> Iterator[Answerable]:
    """Per device, dtype and framework one question for short sequences and one for long ones."""
    batch, longest, share = (table.number(name) for name in ("batch", "max_seq_len", "avg_over_max_len"))
    keys = ("device", "model", "dtype", "framework")
    for (device, model, dtype, framework), rows in table.groups(*keys).items():
        name = dtype_name(dtype)
        if not model.startswith("BERT 12L 12H 64") or name is None:
            yield Refusal(rows, f"model {model!r} in {dtype!r} is not known to this layout", framework)
            continue
        short = longest[rows] <= FUSED_UP_TO
        for chosen, brief in ((rows[short], True), (rows[~short], False)):
            if not chosen.size:
                continue
            stack = STACKS.get(framework, "engine")
            padded, kept = longest[chosen], longest[chosen] * share[chosen]
            yield Question(
                rows=chosen,
                device=DEVICES.get(device, device),
                op=framework,
                parts=_parts(framework, batch[chosen], padded, kept, brief),
                protocol=replace(ENGINE, stack=stack),
                dtype=name,
                settings=settings_of(stack, fused=_fused(framework, brief)),
            )


def _fused(framework: str, brief: bool) -> bool:
    """One attention kernel at any length, at short ones only, or never."""
    return framework == "ByteTransformer" or (framework.startswith("FasterTransformer") and brief)


def _parts(framework: str, batch: Array, padded: Array, kept: Array, brief: bool) -> tuple[Part, ...]:
    """Without padding the layers see `kept` tokens; an attention that is not fused puts the padding back."""
    if framework in STACKS and brief:
        return forward(BUILT_IN, batch=batch, seq=padded)
    if framework not in WITHOUT_PADDING:
        return forward(BERT, batch=batch, seq=padded)
    if _fused(framework, brief):
        return forward(BERT, batch=batch, seq=kept)

    def attention(seq: Array, repeats: float) -> Part:
        heads, width = np.full_like(seq, BERT.heads), np.full_like(seq, BERT.head_dim)
        sizes = {
            "batch": batch,
            "heads": heads,
            "kv_heads": heads,
            "q_len": seq,
            "kv_len": seq,
            "head_dim": width,
        }
        return Part(graph=kernels.attention("bf16"), sizes=sizes, repeats=repeats)

    layers = float(BERT.layers)
    return (*forward(BERT, batch=batch, seq=kept), attention(padded, layers), attention(kept, -layers))
