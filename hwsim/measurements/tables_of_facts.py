"""Tables that measure nothing: peaks of devices, configurations of models, errors that others published."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hwsim.measurements.question import Answerable, Refusal
from hwsim.measurements.table import Table

TITLE = "no measurements: device peaks, model configurations, published errors"
NEEDS = (
    frozenset(("mem_bw_gbs", "mem_gb")),
    frozenset(("model", "model_type", "layers", "d_model", "d_ff")),
    frozenset(("predictor", "mape_pct")),
    frozenset(("dataset", "device", "op", "mape_pct", "median_ratio")),
)


def questions(table: Table) -> Iterator[Answerable]:
    """Refusals only."""
    yield Refusal(np.arange(table.length), "a table of facts or of published errors; nothing was measured")
