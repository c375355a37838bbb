"""Training on TPU slices: model, n_slices, n_chips, global_batch, seq_len, tflops_per_chip.

Widths, tokens, layouts and what is computed again are those of the scripts behind the tables, one per model
and generation; sharding of weights, gradients and moments over all chips (FSDP) is ZeRO 3. Several slices are
joined by a data-centre network with data ranks between them and sharding inside, which no layout here holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from devices import device as find_device
from graphs.parallel import Parallel
from hwsim.measurements.device_names import device_called
from hwsim.measurements.model_names import no_model
from hwsim.measurements.question import (
    SEVERAL_DEVICES,
    Answerable,
    Part,
    Protocol,
    Question,
    Refusal,
    Target,
)
from hwsim.measurements.table import Rows, Table

TITLE = "training on TPU slices: model, n_slices, n_chips, global_batch, seq_len"
NEEDS = frozenset(("device", "model", "n_slices", "n_chips", "global_batch", "seq_len"))
TARGETS = ("mfu_pct", "tflops_per_chip", "step_time_us", "tokens_per_s_per_chip")
STEPS = Protocol(
    timing="host", statistic="mean", warm=False, stack="compiled", source="MaxText's own log of a step"
)
FULL, KEPT = "full", "selective"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One script: sequences of a chip and step, tensor ranks, what the backward pass computes again."""

    model: str
    batch: float
    seq: float = 2048.0
    tp: int = 1
    checkpointing: str = FULL


# configs/v4 and configs/v5e of AI-Hypercomputer/maxtext; the 128B model keeps activations on the host, which
# no device here has room for, so that its recomputation is taken as that of `selective`
RUNS = {
    ("tpu-v4", "maxtext decoder 22b"): Run(model="maxtext-22b", batch=13),
    ("tpu-v4", "maxtext decoder 52b"): Run(model="maxtext-52b", batch=7),
    ("tpu-v5e", "maxtext decoder 16b"): Run(model="maxtext-16b", batch=6),
    ("tpu-v5e", "maxtext decoder 32b"): Run(model="maxtext-32b", batch=4),
    ("tpu-v5e", "maxtext decoder 64b"): Run(model="maxtext-64b", batch=2),
    ("tpu-v5e", "maxtext decoder 128b"): Run(model="maxtext-128b", batch=1, tp=16, checkpointing=KEPT),
    ("tpu-v5e", "llama2-70b"): Run(model="llama-2-70b", batch=2, checkpointing=FULL),
}
SLICES = {("tpu-v4", 64): "tpu-v4-4x4x4", ("tpu-v4", 192): "tpu-v4-pod", ("tpu-v5e", 256): "tpu-v5e-pod"}
UNTOLD = "no script of this model and generation is read: the batch of a chip is unknown"


def questions(table: Table) -> Iterator[Answerable]:
    """A question per model and slice."""
    chips, slices = table.number("n_chips"), table.number("n_slices", 1.0)
    for (device, model, dtype), rows in table.groups("device", "model", "dtype").items():
        told = np.isfinite(chips[rows])
        for count in np.unique(chips[rows[told]]):
            here = rows[chips[rows] == count]
            several = slices[here] > 1
            if several.any():
                note = f"{SEVERAL_DEVICES}: slices joined by a data-centre network"
                yield Refusal(here[several], note, model)
            if not several.all():
                yield _one(device_called(device), model, dtype, int(count), here[~several])
        if not told.all():
            yield Refusal(rows[~told], "the number of chips is missing", model)


def _one(device: str, model: str, dtype: str, chips: int, rows: Rows) -> Answerable:
    run, cluster = RUNS.get((device, model.lower())), SLICES.get((device, chips))
    if dtype not in ("", "bf16"):
        return Refusal(rows, f"training in {dtype}: which of its operands are narrow is not said", model)
    if run is None or cluster is None:
        foreign = run is None and not re.match(r"maxtext|llama|gemma|mistral|qwen", model.lower())
        return Refusal(rows, no_model(model) if foreign else UNTOLD, model)
    peak = find_device(device).peak("bf16")[1]
    part = Part(
        graph=run.model,
        phase="train",
        sizes={"batch": np.full(rows.size, run.batch * run.tp), "seq": np.full(rows.size, run.seq)},
        settings={"train.checkpointing": run.checkpointing},
    )
    return Question(
        rows=rows,
        device=cluster,
        op=model,
        parts=(part,),
        protocol=STEPS,
        dtype="bf16",
        parallel=Parallel(tp=run.tp, dp=chips // run.tp, zero=3),
        targets=(
            Target(column="mfu_pct", quantity="work", amount=chips * peak, unit=100.0),
            Target(column="tflops_per_chip", quantity="work", amount=float(chips), unit=1e-12),
            Target(column="step_time_us", unit=1e6),
            Target(column="tokens_per_s_per_chip", quantity="rate", amount=run.batch * run.seq),
        ),
    )
