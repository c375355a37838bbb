"""llama-bench tables: device, n_gpus, model with weight format, phase pp or tg, tokens.

`tg` N is N single tokens after an empty prompt, priced at the mean context; `pp` N a prompt of N tokens in
chunks of 512. Attention is written out (no -fa). Layers split over several devices run one after the other,
so a token takes as long as on one device that holds them all; prompts are pipelined and are not answered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from hwsim.measurements.device_names import device_called
from hwsim.measurements.language_models import decode, prefill
from hwsim.measurements.model_names import find_model, no_model
from hwsim.measurements.quantised_weights import weight_format
from hwsim.measurements.question import (
    SEVERAL_DEVICES,
    Answerable,
    Protocol,
    Question,
    Refusal,
    Target,
)
from hwsim.measurements.table import Rows, Table

TITLE = "llama-bench: device, n_gpus, model, phase, tokens"
NEEDS = frozenset(("device", "n_gpus", "model", "phase", "tokens"))
TARGETS = ("latency_us_per_token", "tokens_per_s")
BENCH = Protocol(
    timing="host", statistic="mean", warm=False, stack="engine",
    source="llama-bench; kernels of one library, graphs captured on CUDA",
)  # fmt: skip
CHUNK = 512.0  # tokens of a prompt at once, the tool's default
TOGETHER = "layers split over several devices run one after the other"


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, model, phase and whether the model is split."""
    tokens, count = table.number("tokens"), table.number("n_gpus", 1.0)
    for key, rows in table.groups("device", "llama_generation", "model", "phase").items():
        device, generation, model, phase = key
        label = f"{phase} {model}"
        split = count[rows] > 1
        if phase == "pp" and split.any():
            yield Refusal(rows[split], f"{SEVERAL_DEVICES}: a prompt is pipelined over them", label)
            rows, split = rows[~split], split[~split]
        for chosen, note in ((rows[~split], ""), (rows[split], TOGETHER)):
            if chosen.size:
                yield _one(device, f"{generation} {model}", phase, label, chosen, tokens[chosen], note)


def _one(
    device: str, model: str, phase: str, label: str, rows: Rows, tokens: np.ndarray, note: str
) -> Answerable:
    words = re.fullmatch(r"(.*\S)\s+(\S+)", model.strip())
    found = find_model(words[1]) if words else None
    try:
        weights = weight_format(words[2]) if words else None
    except KeyError:
        return Refusal(rows, f"weight format {words[2] if words else model!r} is unknown", label)
    if found is None or phase not in ("pp", "tg"):
        return Refusal(rows, no_model(model) if found is None else f"phase {phase!r} is unknown", label)
    if phase == "tg":
        parts, amount = decode(found, batch=1.0, context=np.floor(tokens / 2)), np.ones_like(tokens)
    else:
        chunk = np.minimum(tokens, CHUNK)
        before = np.floor((tokens - chunk) / 2)
        parts = prefill(found, batch=1.0, seq=chunk, context=before, repeats=tokens / chunk)
        amount = tokens
    return Question(
        rows=rows,
        device=device_called(device),
        op=label,
        parts=parts,
        protocol=BENCH,
        dtype="fp16",
        weights=weights,
        settings={"stack.attention_kernel": "math"},
        targets=(
            Target(column="latency_us_per_token", amount=amount, unit=1e6),
            Target(column="tokens_per_s", quantity="rate", amount=amount),
        ),
        note=note,
    )
