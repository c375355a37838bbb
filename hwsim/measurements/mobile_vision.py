"""Small vision models on edge devices: model, task, resolution, batch, protocol.

Classifiers are those of timm under the names below; backbones with other heads, and models timm has not, are
refused. The source says no dtype where Core ML chose it.
"""

from __future__ import annotations

import re
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
# name in tables -> timm's name; EfficientViT is timm's family of the same authors
_TIMM = (
    (r"efficientvit-(b\d)", "efficientvit_{}"),
    (r"efficientformerv2-(s\d|l)", "efficientformerv2_{}"),
    (r"efficientformer-(l\d)", "efficientformer_{}"),
    (r"swiftformer-(xs|s|l\d)", "swiftformer_{}"),
    (r"fastvit-(t8|t12|s12|sa12|sa24|sa36|ma36)", "fastvit_{}"),
    (r"repvit-(m\d(?:\.\d)?)", "repvit_{}"),
    (r"efficientnetv2-(s|m)", "efficientnetv2_{}"),
)
BATCH_OF_RATES = 1.0  # where a time was made of a throughput and no batch is named


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device and model; latency is per batch."""
    batch = table.number("batch")
    for (device, model, task, resolution), rows in table.groups(
        "device", "model", "task", "resolution"
    ).items():
        side = re.fullmatch(r"(\d+)(?:x\1)?", resolution)
        found = timm_name(model) or find_model(model)
        if task != "cls":
            yield Refusal(rows, f"{task} heads are not built in", model)
        elif not isinstance(found, str) or side is None:
            yield Refusal(rows, no_model(model), model)
        else:
            count = np.where(np.isfinite(batch[rows]), batch[rows], BATCH_OF_RATES)
            sizes = {"batch": count, "image": np.full(rows.size, float(side[1]))}
            part = Part(graph=found, sizes=sizes)
            yield Question(rows=rows, device=device, op=model, parts=(part,), protocol=ENGINE, dtype="fp16")


def timm_name(model: str) -> str | None:
    """The spec of a model as timm registers it."""
    for pattern, name in _TIMM:
        match = re.fullmatch(pattern, model.lower())
        if match:
            return f"timm:{name.format(match[1].replace('.', '_'))}"
    return None


def family(model: str) -> str:
    """What a model and its sizes have in common: `EfficientViT` of `EfficientViT-B1`."""
    return model.partition("-")[0]
