"""Served models under load: model, precision, mode, isl, osl, concurrency, batch_size and degrees of
parallelism.

TTFT is answered as one prefill without a queue; TPOT as a step of the full batch with its share of prefills.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from graphs.parallel import Parallel
from hwsim.measurements.language_models import prefill
from hwsim.measurements.model_names import find_model, no_model
from hwsim.measurements.nodes import no_ranks, node_of, ranks_of
from hwsim.measurements.question import SEVERAL_DEVICES, Answerable, Question, Refusal, Target
from hwsim.measurements.steady_serving import PRECISIONS, SERVING, mean_step
from hwsim.measurements.table import Table

TITLE = "served models under load: model, precision, mode, isl, osl, concurrency, tp_size, pp_size"
NEEDS = frozenset(("device", "model", "precision", "mode", "isl", "osl", "concurrency", "tp_size", "pp_size"))
TARGETS = ("ttft_us", "tpot_us")
NOTE = "TTFT without a queue"
_DEGREES = ("tp_size", "pp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")


def questions(table: Table) -> Iterator[Answerable]:
    """Two questions per device, model and precision."""
    devices, spread = _devices(table), _differently(table)
    sizes = {name: table.number(name) for name in ("isl", "osl", "concurrency")}
    keys = ("device", "model", "precision", "mode", "tp_size")
    for (device, model, precision, mode, count), rows in table.groups(*keys).items():
        tensor = ranks_of(count or "1")
        if tensor is None:
            yield Refusal(rows, no_ranks(count), model)
            continue
        several = spread[rows] | (devices[rows] > tensor) | (mode == "disagg")
        if several.any():
            what = "prefill and decode are apart" if mode == "disagg" else "spread in several ways"
            yield Refusal(rows[several], f"{SEVERAL_DEVICES}: {what}", model)
        rows, found = rows[~several], find_model(model)
        if not rows.size:
            continue
        if found is None or precision not in PRECISIONS:
            note = no_model(model) if found is None else f"precision {precision!r} is unknown"
            yield Refusal(rows, note, model)
            continue
        dtype, weights, kv = PRECISIONS[precision]
        prompt, output, batch = (sizes[name][rows] for name in ("isl", "osl", "concurrency"))
        common = Question(
            rows=rows, device=node_of(device, tensor), op=model, parts=(), protocol=SERVING,
            parallel=Parallel(tp=tensor), dtype=dtype, weights=weights,
            kv=kv, note=NOTE,
        )  # fmt: skip
        first = Target(column="ttft_us", unit=1e6)
        yield replace(common, parts=prefill(found, batch=np.ones(rows.size), seq=prompt), targets=(first,))
        later = mean_step(found, batch=batch, prompt=prompt, output=output)
        yield replace(common, parts=later, targets=(Target(column="tpot_us", unit=1e6),))


def _differently(table: Table) -> NDArray[np.bool_]:
    """Rows whose attention is replicated or whose layers are dealt to stages."""
    degrees = [table.number(name, 1.0) for name in ("pp_size", "attention_dp_size")]
    return np.asarray(np.maximum.reduce(degrees) > 1)


def _devices(table: Table) -> NDArray[np.float64]:
    """A lower bound of the devices of each row: its largest degree (empty and 0 count as 1)."""
    degrees = [np.maximum(table.number(name, 1.0), 1.0) for name in _DEGREES]
    return np.asarray(np.maximum.reduce(degrees))
