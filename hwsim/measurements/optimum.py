"""Hugging Face models under optimum-benchmark: model, backend, dtype, quant, batch, seq_len, new_tokens.

`forward` is one pass over the prompt with logits everywhere, `generate` that and the decode steps, `decode`
the steps alone. Eager, attention written out unless BetterTransformer replaced it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.measurements.event import EVENT
from hwsim.measurements.language_models import Shape, forward, steps
from hwsim.measurements.model_names import find_model, no_model
from hwsim.measurements.question import (
    NO_TRAINING,
    Answerable,
    Protocol,
    Question,
    Refusal,
    Target,
)
from hwsim.measurements.table import Rows, Table

TITLE = "Hugging Face models: model, task, backend, dtype, quant, batch, seq_len, new_tokens"
NEEDS = frozenset(("model", "task", "backend", "dtype", "quant", "batch", "seq_len", "new_tokens"))
TARGETS = (
    "forward_us", "generate_us", "generate_tokens_per_s", "decode_us", "decode_tokens_per_s",
    "train_samples_per_s",
)  # fmt: skip
# New tokens where the report does not say: the tool's default
NEW_TOKENS = 100.0
EAGER = Protocol(
    timing="host",
    statistic="mean",
    warm=False,
    stack="eager",
    source="optimum-benchmark reports of eager runs",
)
# Python between two launches of a module library takes what the event protocol adds to an eager call
PYTHON: dict[str, Any] = {"stack.dispatch": EVENT.added_s}
UNFUSED: dict[str, Any] = {"stack.attention_kernel": "math"}
# quantisation by column or by the name of the checkpoint; bnb is taken as 4 bits (its column does not say)
WEIGHTS = {"gptq": "int4:g128", "awq": "int4:g128", "bnb": "int4:g64"}
_KEYS = ("device", "model", "backend", "dtype", "quant", "bettertransformer", "peft")


def questions(table: Table) -> Iterator[Answerable]:
    """Per device, model, backend and precision one question for the pass and one for the tokens after it."""
    batch, seq = table.number("batch"), table.number("seq_len")
    generating = np.array([task == "text-generation" for task in table.text("task")], dtype=bool)
    new = np.where(generating, table.number("new_tokens", NEW_TOKENS), np.nan)
    trained = np.isfinite(table.number("train_samples_per_s"))
    for (device, model, backend, dtype, quant, fused, peft), rows in table.groups(*_KEYS).items():
        training = trained[rows] | bool(peft)
        found, label = find_model(model), f"{backend} {quant}"
        if training.any():
            yield Refusal(rows[training], NO_TRAINING, label)
        rows = rows[~training]
        if not rows.size:
            continue
        if found is None:
            yield Refusal(rows, no_model(model), label)
            continue
        form = quant if quant in WEIGHTS else next((w for w in WEIGHTS if w in model.lower()), "")
        runtime = backend == "onnxruntime"
        common = Question(
            rows=rows,
            device=device,
            op=label,
            parts=(),
            protocol=replace(EAGER, stack="compiled") if runtime else EAGER,
            # a runtime for fp32 graphs multiplies in TF32 by default, torch does not
            dtype="fp16" if dtype == "float16" else "tf32" if runtime else "fp32",
            weights=WEIGHTS.get(form),
            settings=({} if runtime else PYTHON) | ({} if fused == "True" else UNFUSED),
        )
        yield from _asked(common, found, batch, seq, new)


def _asked(
    common: Question,
    model: str | Shape,
    batch: NDArray[np.float64],
    seq: NDArray[np.float64],
    new: NDArray[np.float64],
) -> Iterator[Question]:
    rows = common.rows
    once = forward(model, batch=batch[rows], seq=seq[rows])
    yield replace(common, parts=once, targets=(Target(column="forward_us", unit=1e6),))
    some: Rows = rows[np.isfinite(new[rows]) & (new[rows] > 1)]
    if not some.size:
        return
    later = steps(model, batch=batch[some], prompt=seq[some], tokens=new[some])
    made = batch[some] * new[some]
    yield replace(
        common,
        rows=some,
        parts=forward(model, batch=batch[some], seq=seq[some]) + later,
        targets=(
            Target(column="generate_us", unit=1e6),
            Target(column="generate_tokens_per_s", quantity="rate", amount=made),
        ),
    )
    yield replace(
        common,
        rows=some,
        parts=later,
        targets=(
            Target(column="decode_us", unit=1e6),
            Target(column="decode_tokens_per_s", quantity="rate", amount=made - batch[some]),
        ),
    )
