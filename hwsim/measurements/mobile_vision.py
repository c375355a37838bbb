"""Small vision models on edge devices: model, task, resolution, batch, protocol."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hwsim.measurements.model_names import find_model, no_model
from hwsim.measurements.question import Answerable, Part, Protocol, Question, Refusal
from hwsim.measurements.table import Table

TITLE = "vision models on edge devices: model, task, resolution, batch, protocol"
NEEDS = frozenset(("device", "model", "task", "resolution", "batch", "protocol"))
ENGINE = Protocol(
    timing="host",
    statistic="mean",
    warm=True,
    stack="engine",
    source="TensorRT and Core ML runs of repositories",
)


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device and built-in model; latency is per batch."""
    batch = table.number("batch")
    for (device, model, resolution), rows in table.groups("device", "model", "resolution").items():
        found = find_model(model)
        if not isinstance(found, str) or resolution not in ("224x224", "224"):
            yield Refusal(rows, no_model(model), model)
            continue
        part = Part(graph=found, sizes={"batch": np.where(np.isfinite(batch[rows]), batch[rows], 1.0)})
        yield Question(rows=rows, device=device, op=model, parts=(part,), protocol=ENGINE, dtype="fp16")
