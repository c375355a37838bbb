"""Tokens per second of one sequence under several frameworks: framework, model, dtype, n_gpus, batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphs.parallel import Parallel
from hwsim.measurements.device_names import device_called
from hwsim.measurements.language_models import decode
from hwsim.measurements.model_names import find_model, no_model
from hwsim.measurements.nodes import no_ranks, node_of, ranks_of
from hwsim.measurements.question import (
    Answerable,
    Protocol,
    Question,
    Refusal,
    Target,
)
from hwsim.measurements.table import Table

TITLE = "decoding one sequence: framework, device, model, dtype, n_gpus, batch"
NEEDS = frozenset(("framework", "device", "model", "dtype", "n_gpus", "batch"))
TARGETS = ("latency_us_per_token", "tokens_per_s")
DECODING = Protocol(
    timing="host", statistic="mean", warm=False, stack="engine",
    source="README tables of frameworks that capture the decode step as a graph",
)  # fmt: skip
CONTEXT = 128.0  # tokens cached on average: a short prompt and some 200 generated tokens, assumed
# Both READMEs name the 80 GB SXM card in their text and "A100" in their tables
DEVICES = {"A100": "a100-80gb-sxm", "A10G": "a10g"}
WEIGHTS = {
    "fp16": None,
    "bf16": None,
    "int8": "int8",
    "int4": "int4:g128",
    "int4-g32": "int4:g32",
    "fp8": "fp8",
}


def questions(table: Table) -> Iterator[Answerable]:
    """One question per framework, device, model and dtype."""
    batch = table.number("batch", 1.0)
    keys = ("framework", "device", "model", "dtype", "n_gpus")
    for (framework, device, model, dtype, count), rows in table.groups(*keys).items():
        ranks, found = ranks_of(count or "1"), find_model(model)
        if ranks is None:
            yield Refusal(rows, no_ranks(count), framework)
            continue
        if found is None or dtype.lower() not in WEIGHTS:
            note = no_model(model) if found is None else f"dtype {dtype!r} is unknown"
            yield Refusal(rows, note, framework)
            continue
        yield Question(
            rows=rows,
            device=node_of(DEVICES.get(device) or device_called(device), ranks),
            op=framework,
            parts=decode(found, batch=batch[rows], context=np.full(rows.size, CONTEXT)),
            protocol=DECODING,
            parallel=Parallel(tp=ranks),
            dtype="bf16" if dtype == "bf16" else "fp16",
            weights=WEIGHTS[dtype.lower()],
            targets=(
                Target(column="latency_us_per_token", unit=1e6, amount=batch[rows]),
                Target(column="tokens_per_s", quantity="rate", amount=batch[rows]),
            ),
        )
