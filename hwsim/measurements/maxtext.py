"""Training on TPU slices: model, n_slices, n_chips, global_batch, seq_len, tflops_per_chip."""

from __future__ import annotations

from collections.abc import Iterator

from hwsim.measurements.question import NO_TRAINING, SEVERAL_DEVICES, Answerable, Refusal
from hwsim.measurements.table import Table

TITLE = "training on TPU slices: model, n_slices, n_chips, global_batch, seq_len"
NEEDS = frozenset(("device", "model", "n_slices", "n_chips", "global_batch", "seq_len"))
TARGETS = ("step_time_us", "tflops_per_chip", "tokens_per_s_per_chip")


def questions(table: Table) -> Iterator[Answerable]:
    """Refusals only."""
    chips = table.number("n_chips")
    for (model,), rows in table.groups("model").items():
        alone = chips[rows] == 1
        if alone.any():
            yield Refusal(rows[alone], NO_TRAINING, model)
        if not alone.all():
            yield Refusal(rows[~alone], f"{SEVERAL_DEVICES}: a slice of chips; {NO_TRAINING}", model)
