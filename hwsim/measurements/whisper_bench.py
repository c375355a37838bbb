"""whisper.cpp's benchmark: device, backend, model, threads, flash_attn; encoder and per-token times.

Encoder is 30 s of audio with the cross keys and values; decode one token at a time, `batch5` five sequences
at once, prompt 256 tokens at once, all per token. The traced prefill holds the encoder and a decoder pass,
of which one decode step is taken off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from graphs.catalog import variant_names
from hwsim.measurements.device_names import device_called
from hwsim.measurements.model_names import no_model
from hwsim.measurements.quantised_weights import weight_format
from hwsim.measurements.question import Answerable, Part, Protocol, Question, Refusal, Target
from hwsim.measurements.table import Rows, Table

TITLE = "whisper.cpp: device, backend, model, threads, flash_attn"
NEEDS = frozenset(("device", "backend", "model", "threads", "flash_attn"))
TARGETS = ("encoder_us", "decode_token_us", "batch5_token_us", "prompt_token_us")
BENCH = Protocol(
    timing="host", statistic="mean", warm=False, stack="engine", source="whisper.cpp's bench tool"
)
GPU_BACKENDS = ("METAL", "CUDA", "VULKAN", "HIP", "SYCL")
CONTEXT, TOGETHER, PROMPT = (
    128.0,
    5.0,
    256.0,
)  # the tool's 256 single tokens at their mean; its other two sizes


def questions(table: Table) -> Iterator[Answerable]:
    """Four questions per device, model and attention kernel."""
    known = frozenset(variant_names())
    for (device, backend, model, flash), rows in table.groups(
        "device", "backend", "model", "flash_attn"
    ).items():
        name, _, form = model.partition("-q")
        found, label = f"whisper-{name}", f"whisper {model}"
        if backend.upper() not in GPU_BACKENDS:
            yield Refusal(rows, f"backend {backend!r} runs on a CPU that the file does not name", label)
            continue
        try:
            weights = weight_format(f"q{form}") if form else None
        except KeyError:
            yield Refusal(rows, f"weight format 'q{form}' is unknown", label)
            continue
        if found not in known:
            yield Refusal(rows, no_model(model), label)
            continue
        common = Question(
            rows=rows,
            device=device_called(device),
            op=label,
            parts=(),
            protocol=BENCH,
            dtype="fp16",
            weights=weights,
            settings={"stack.attention_kernel": "flash" if flash == "1" else "math"},
        )
        yield from _four(common, found, rows)


def _four(common: Question, model: str, rows: Rows) -> Iterator[Question]:
    def prefill(tokens: float, repeats: float = 1.0) -> Part:
        sizes = {"batch": np.ones(rows.size), "seq": tokens, "context": 0.0}
        return Part(graph=model, phase="prefill", sizes=sizes, repeats=repeats)

    def step(batch: float, context: float, repeats: float = 1.0) -> Part:
        sizes = {"batch": np.full(rows.size, batch), "context": context}
        return Part(graph=model, phase="decode", sizes=sizes, repeats=repeats)

    asked = (
        ("encoder_us", (prefill(1.0), step(1.0, 0.0, -1.0)), 1.0),
        ("decode_token_us", (step(1.0, CONTEXT),), 1.0),
        ("batch5_token_us", (step(TOGETHER, CONTEXT),), TOGETHER),
        ("prompt_token_us", (prefill(PROMPT), prefill(1.0, -1.0), step(1.0, 0.0)), PROMPT),
    )
    for column, parts, amount in asked:
        yield replace(common, parts=parts, targets=(Target(column=column, amount=amount, unit=1e6),))
