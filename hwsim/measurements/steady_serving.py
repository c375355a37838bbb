"""A serving engine in steady state as parts of questions: decode steps of a batch, prefills in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hwsim.measurements.language_models import Shape, decode, prefill
from hwsim.measurements.question import Part, Protocol

SERVING = Protocol(
    timing="host", statistic="mean or median of a run", warm=False, stack="engine",
    source="load tests of serving engines; queueing is not part of the answer",
)  # fmt: skip
# precision of a served checkpoint -> dtypes of arithmetic, weights and KV cache
PRECISIONS: Mapping[str, tuple[str, str | None, str | None]] = {
    "bfloat16": ("bf16", None, None), "bf16": ("bf16", None, None), "fp16": ("fp16", None, None),
    "float16": ("fp16", None, None), "": ("bf16", None, None), "fp8": ("fp8", None, "bf16"),
    "fp4": ("fp4", None, "bf16"), "mxfp4": ("bf16", "fp4:g64", "bf16"),
}  # fmt: skip


def step(model: str | Shape, *, batch: Any, prompt: Any, output: Any) -> tuple[Part, ...]:
    """One decode step of the whole batch at the mean context of requests that are under way."""
    return decode(model, batch=batch, context=np.floor(np.add(prompt, np.divide(output, 2.0))))


def mean_step(model: str | Shape, *, batch: Any, prompt: Any, output: Any) -> tuple[Part, ...]:
    """A decode step and its share of prefills: every request ends after `output` steps and another begins."""
    share = np.divide(batch, output)
    entering = prefill(model, batch=1.0, seq=prompt, repeats=share)
    return step(model, batch=batch, prompt=prompt, output=output) + entering
