"""Measured energy of several sources in one table: phase, model, precision, energy_value, energy_unit.

Each phase is a kind of measurement of its own: serving in steady state, image and video generation, whole
calls of `generate`, offline batches; training and nodes of which one device works are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hwsim.measurements.diffusion import STEADY, denoiser, parts
from hwsim.measurements.event import EVENT
from hwsim.measurements.language_models import Shape, generation
from hwsim.measurements.model_names import find_model, no_model
from hwsim.measurements.optimum import EAGER
from hwsim.measurements.question import (
    NO_TRAINING,
    SEVERAL_DEVICES,
    Answerable,
    Question,
    Refusal,
    Target,
)
from hwsim.measurements.served_energy import DEVICES as BOARDS
from hwsim.measurements.served_energy import PROMPT, PROMPTS, served
from hwsim.measurements.steady_serving import SERVING, mean_step
from hwsim.measurements.table import Rows, Table

TITLE = "measured energy: phase, task, model, precision, batch, input_tokens, output_tokens, energy_unit"
NEEDS = frozenset(
    ("device", "n_gpus", "model", "precision", "phase", "task", "batch", "input_tokens", "output_tokens")
) | {"energy_unit"}
TARGETS = ("energy_value", "avg_power_w", "throughput", "latency_ms")
# what the sources say of their machines
DEVICES = BOARDS | {
    "A100 40GB (Argonne Swing)": "a100-40gb-sxm",
    "argonne-swing": "a100-40gb-sxm",
    "A100-PCIe/SXM 40GB (Palmetto)": "a100-40gb-pcie",
    "unnamed NVIDIA GPU, 95830 MiB (H100 NVL 94 GB inferred)": "h100-nvl",
    "Apple M1 Pro": "m1-pro-gpu",
    "RTX6000": "quadro-rtx-6000",
    "A40": "a40",
}
ALPACA = 40.0  # tokens of an instruction of that set, assumed


def questions(table: Table) -> Iterator[Answerable]:
    """Questions of each phase by its own reading of the columns."""
    answers: tuple[tuple[str, Callable[[Table, Rows], Iterator[Answerable]]], ...] = (
        ("serving", _served),
        ("diffusion", _diffusion),
        ("HF generate", _generated),
        ("offline generate", _offline),
    )
    count = table.number("n_gpus", 1.0)
    for (phase,), rows in table.groups("phase").items():
        if phase.startswith("training"):
            yield Refusal(rows, NO_TRAINING, phase)
            continue
        if phase.startswith("inference (1 sample"):
            note = "energy of a whole node of which one device works, on samples of unstated length"
            yield Refusal(rows, note, phase)
            continue
        several = count[rows] > 1
        if several.any():
            yield Refusal(rows[several], f"{SEVERAL_DEVICES}: {phase}", phase)
        rows = rows[~several]
        answer = next((made for word, made in answers if phase.startswith(word)), None)
        if answer is None:
            yield Refusal(rows, f"phase {phase!r} is not known to this layout", phase)
        elif rows.size:
            yield from answer(table, rows)


def _targets(items: NDArray[np.float64], seconds_per: NDArray[np.float64] | float) -> tuple[Target, ...]:
    """Energy and rate per item made, mean power, and the latency over `seconds_per`."""
    return (
        Target(column="energy_value", quantity="energy", amount=items),
        Target(column="avg_power_w", quantity="power"),
        Target(column="throughput", quantity="rate", amount=items),
        Target(column="latency_ms", amount=seconds_per, unit=1e3),
    )


def _groups(table: Table, rows: Rows, *names: str) -> Iterator[tuple[tuple[str, ...], Rows]]:
    where = np.zeros(table.length, dtype=bool)
    where[rows] = True
    yield from table.groups(*names, where=where).items()


def _served(table: Table, rows: Rows) -> Iterator[Answerable]:
    batch, output = table.number("avg_batch"), table.number("output_tokens")
    total, active = table.number("total_params_b"), table.number("active_params_b")
    for key, chosen in _groups(table, rows, "device", "model", "task", "precision"):
        device, model, task, precision = key
        first = chosen[0]
        name = DEVICES.get(device, device)
        asked = served(name, model, precision, float(total[first]), float(active[first]), chosen, task)
        if isinstance(asked, Refusal):
            yield asked
            continue
        common, shape = asked
        b, o = batch[chosen], output[chosen]
        made = mean_step(shape, batch=b, prompt=PROMPTS.get(task, PROMPT), output=o)
        step_s = b / table.number("throughput")[chosen]
        yield replace(common, parts=made, targets=_targets(b, 1.0), measured_s=step_s)


def _diffusion(table: Table, rows: Rows) -> Iterator[Answerable]:
    """Sizes stand in the notes: `480x832, 81 frames, 50 steps, ...`."""
    batch, notes = table.number("batch"), table.text("notes")
    sizes = np.array([_sizes(text) for text in notes], dtype=np.float64).reshape(-1, 4)
    for (device, model), chosen in _groups(table, rows, "device", "model"):
        one = denoiser(model)
        if one is None:
            yield Refusal(chosen, no_model(model), "diffusion")
            continue
        height, width, frames, steps = sizes[chosen].T
        yield Question(
            rows=chosen,
            device=DEVICES.get(device, device),
            op="diffusion",
            parts=parts(one, batch[chosen], height, width, frames, steps),
            protocol=STEADY,
            dtype="bf16",
            targets=_targets(batch[chosen], 1.0),
            measured_s=1e-3 * table.number("latency_ms")[chosen],
        )


def _sizes(note: str) -> tuple[float, float, float, float]:
    """Height, width, frames and steps of a note; not a number where it does not say."""
    size, steps = re.search(r"(\d+)x(\d+)", note), re.search(r"(\d+) steps", note)
    frames = re.search(r"(\d+) frames", note)
    if not size or not steps:
        return (float("nan"),) * 4
    return float(size[1]), float(size[2]), float(frames[1]) if frames else 1.0, float(steps[1])


def _generated(table: Table, rows: Rows) -> Iterator[Answerable]:
    """Whole calls of `generate`, eager; energy of the run."""
    batch, prompt, output = (table.number(name) for name in ("batch", "input_tokens", "output_tokens"))
    for (device, model), chosen in _groups(table, rows, "device", "model"):
        found = find_model(model)
        if found is None:
            yield Refusal(chosen, no_model(model), "HF generate")
            continue
        b, o = batch[chosen], output[chosen]
        yield Question(
            rows=chosen,
            device=DEVICES.get(device, device),
            op="HF generate",
            parts=generation(found, batch=b, prompt=prompt[chosen], tokens=o),
            protocol=EAGER,
            dtype="fp16",
            settings={"stack.dispatch": EVENT.added_s, "stack.attention_kernel": "math"},
            targets=(Target(column="energy_value", quantity="energy"), *_targets(b * o, 1.0)[1:]),
            measured_s=1e-3 * table.number("latency_ms")[chosen],
        )


def _offline(table: Table, rows: Rows) -> Iterator[Answerable]:
    """A number of responses (in the notes) in batches of at most `batch`; energy per output token."""
    batch, output = table.number("batch"), table.number("output_tokens")
    asked = np.array([_responses(text) for text in table.text("notes")], dtype=np.float64)
    for (device, model), chosen in _groups(table, rows, "device", "model"):
        found: str | Shape | None = find_model(model)
        if found is None:
            yield Refusal(chosen, no_model(model), "offline generate")
            continue
        responses = asked[chosen]
        together = np.minimum(batch[chosen], responses)
        rounds = responses / together
        made = generation(found, batch=together, prompt=ALPACA, tokens=output[chosen])
        whole = tuple(replace(part, repeats=part.repeats * rounds) for part in made)
        yield Question(
            rows=chosen,
            device=DEVICES.get(device, device),
            op="offline generate",
            parts=whole,
            protocol=SERVING,
            dtype="bf16",
            targets=_targets(responses * output[chosen], 1.0),
            measured_s=1e-3 * table.number("latency_ms")[chosen],
        )


def _responses(note: str) -> float:
    found = re.search(r"(\d+) responses", note)
    return float(found[1]) if found else float("nan")
