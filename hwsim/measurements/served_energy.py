"""Energy of served language models in steady state: model, task, weight_precision, num_gpus, avg_batch_size.

Lengths of prompts are not in the tables; the task's typical length is assumed. Vision and audio towers are
left out: their tokens arrive as a longer prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphs.parallel import Parallel
from hwsim.measurements.language_models import Shape, of_parameters
from hwsim.measurements.model_names import find_model
from hwsim.measurements.nodes import no_ranks, node_of, ranks_of
from hwsim.measurements.question import SEVERAL_DEVICES, Answerable, Part, Question, Refusal, Target
from hwsim.measurements.steady_serving import PRECISIONS, SERVING, mean_step, step
from hwsim.measurements.table import Rows, Table

TITLE = "energy of served models: model, task, weight_precision, num_gpus, avg_batch_size"
NEEDS = frozenset(
    ("device", "model", "task", "weight_precision", "num_gpus", "avg_batch_size", "avg_output_len")
)
TARGETS = ("median_itl_us", "output_tokens_per_s", "avg_power_w", "energy_per_token_j")
# tokens of a prompt by task, images and video frames included; assumed
PROMPTS: Mapping[str, float] = {
    "lm-arena-chat": 300.0, "gpqa": 300.0, "sourcegraph-fim": 500.0, "image-chat": 1500.0,
    "video-chat": 6000.0,
}  # fmt: skip
PROMPT = 300.0
DEVICES = {"H100": "h100-sxm", "B200": "b200"}  # the benchmark's machines are SXM boards
OFTEN = 0.5  # prefills per step from which the median step has one


def questions(table: Table) -> Iterator[Answerable]:
    """Two questions per device, model, task and precision: the usual step, and the mean step."""
    batch, output, rate = (
        table.number(name) for name in ("avg_batch_size", "avg_output_len", "output_tokens_per_s")
    )
    total, active = table.number("total_params_b"), table.number("activated_params_b")
    for key, rows in table.groups(
        "device", "model", "task", "weight_precision", "num_gpus", "tp", "ep", "dp"
    ).items():
        device, model, task, precision = key[:4]
        first = rows[0]
        wrong = next((text for text in key[4:] if text and ranks_of(text) is None), None)
        if wrong is not None:
            yield Refusal(rows, no_ranks(wrong), task)
            continue
        layout = _layout(*(ranks_of(text) or 1 for text in key[4:]))
        if layout is None:
            yield Refusal(rows, f"{SEVERAL_DEVICES}: experts and attention are spread differently", task)
            continue
        asked = served(device, model, precision, float(total[first]), float(active[first]), rows, task)
        if isinstance(asked, Refusal):
            yield asked
            continue
        common, shape = asked
        prompt = PROMPTS.get(task, PROMPT)
        common = replace(
            common, measured_s=batch[rows] / rate[rows], parallel=layout,
            device=node_of(common.device, layout.devices),
        )  # fmt: skip
        yield from _two(common, shape, batch[rows], prompt, output[rows])


def _layout(devices: int, tp: int, ep: int, dp: int) -> Parallel | None:
    """Tensor ranks and replicas that make up the devices; experts dealt over them are priced as sharded."""
    if devices == ep == dp and dp > 1:
        return Parallel(ep=ep)
    if devices in (tp * dp, ep * dp) and dp == 1:
        return Parallel(tp=devices)
    return Parallel(tp=tp, dp=dp) if devices == tp * dp and ep == 1 else None


def _two(
    common: Question,
    model: str | Shape,
    batch: NDArray[np.float64],
    prompt: float,
    output: NDArray[np.float64],
) -> Iterator[Question]:
    each = batch if common.parallel is None else batch / common.parallel.replicas
    mean = mean_step(model, batch=each, prompt=prompt, output=output)
    plain = step(model, batch=each, prompt=prompt, output=output)
    often = each / output >= OFTEN
    for chosen, whole in ((~often, plain), (often, mean)):
        if chosen.any():
            some = tuple(_rows_of(part, chosen) for part in whole)
            target = (Target(column="median_itl_us", unit=1e6),)
            yield replace(common, rows=common.rows[chosen], parts=some, targets=target, measured_s=None)
    targets = (
        Target(column="output_tokens_per_s", quantity="rate", amount=batch),
        Target(column="avg_power_w", quantity="power"),
        Target(column="energy_per_token_j", quantity="energy", amount=batch),
    )
    yield replace(common, parts=mean, targets=targets)


def _rows_of(part: Part, chosen: NDArray[np.bool_]) -> Part:
    """A part for some of its rows."""

    def some(value: Any) -> Any:
        return value[chosen] if np.ndim(value) else value

    return replace(part, sizes={n: some(v) for n, v in part.sizes.items()}, repeats=some(part.repeats))


def served(
    device: str, model: str, precision: str, total_b: float, active_b: float, rows: Rows, label: str
) -> tuple[Question, str | Shape] | Refusal:
    """A question without parts, and the model: built in, of published widths, or generic by parameters."""
    if precision not in PRECISIONS:
        return Refusal(rows, f"precision {precision!r} is unknown", label)
    found, note = find_model(model), ""
    if found is None:
        if not (np.isfinite(total_b) and np.isfinite(active_b) and 0 < active_b <= total_b):
            return Refusal(rows, f"no built-in model for {model!r}, and no parameter counts", label)
        found = of_parameters(1e9 * total_b, 1e9 * active_b)
        note = f"a generic decoder of {active_b:g} of {total_b:g} B parameters stands in"
    dtype, weights, kv = PRECISIONS[precision]
    common = Question(
        rows=rows, device=DEVICES.get(device, device), op=label, parts=(), protocol=SERVING, dtype=dtype,
        weights=weights, kv=kv, note=note,
    )  # fmt: skip
    return common, found
