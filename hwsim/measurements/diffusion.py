"""Diffusion transformers that make images or videos: task, model, batch_size, height, width, inference_steps.

The denoiser alone is answered: layers over image tokens (and the prompt's), once or twice per step as
guidance needs, times the steps. Encoders, decoder and scheduler are small beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwsim.measurements.language_models import Shape, forward
from hwsim.measurements.model_names import no_model
from hwsim.measurements.question import (
    LATENCY,
    SEVERAL_DEVICES,
    Answerable,
    Part,
    Protocol,
    Question,
    Refusal,
    Target,
)
from hwsim.measurements.served_energy import DEVICES
from hwsim.measurements.table import Table

TITLE = "diffusion models: task, model, num_gpus, batch_size, height, width, inference_steps"
NEEDS = frozenset(("device", "task", "model", "num_gpus", "batch_size", "height", "width", "inference_steps"))
TARGETS = ("latency_us", "avg_power_watts", "energy_per_item_j")
STEADY = Protocol(
    timing="host",
    statistic="mean, warm",
    warm=False,
    stack="compiled",
    source="steady-state runs of pipelines",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Denoiser:
    """Layers and widths, pixels per token and side, frames per token, prompt tokens, passes per step."""

    layers: int
    hidden: int
    heads: int
    inter: int
    pixels: int
    text: int
    passes: int
    frames: int = 1


def _of(layers: int, hidden: int, heads: int, inter: int, pixels: int, text: int, **more: int) -> Denoiser:
    return Denoiser(
        layers=layers, hidden=hidden, heads=heads, inter=inter, pixels=pixels, text=text,
        **{"passes": 2, **more},
    )  # fmt: skip


# Layers, width, heads, MLP width, pixels per token, tokens of the prompt beside the image's; from memory,
# unverified. Linear attention of SANA is taken as full, a tenth of the work over its 1024 tokens.
DENOISERS: tuple[tuple[str, Denoiser], ...] = (
    (r"flux\.1", _of(57, 3072, 24, 12288, 16, 512, passes=1)),
    (r"stable-diffusion-3\.5-large", _of(38, 2432, 38, 9728, 16, 333)),
    (r"hunyuandit", _of(40, 1408, 16, 6144, 16, 0)),
    (r"sana1\.5_1\.6b", _of(20, 2240, 70, 5600, 32, 0)),
    (r"sana1\.5_4\.8b", _of(60, 2240, 70, 5600, 32, 0)),
    (r"wan2\.1-t2v-1\.3b", _of(30, 1536, 12, 8960, 16, 0, frames=4)),
    (r"wan2\.1-t2v-14b", _of(40, 5120, 40, 13824, 16, 0, frames=4)),
    (r"cogvideox-2b", _of(30, 1920, 30, 7680, 16, 226, frames=4)),
    (r"cogvideox1\.5-5b", _of(42, 3072, 48, 12288, 16, 226, frames=8)),
)


def denoiser(model: str) -> Denoiser | None:
    """The denoiser of a pipeline's name."""
    return next((one for pattern, one in DENOISERS if re.search(pattern, model.lower())), None)


def parts(
    one: Denoiser, batch: NDArray[np.float64], height: NDArray[np.float64], width: NDArray[np.float64],
    frames: NDArray[np.float64], steps: NDArray[np.float64],
) -> tuple[Part, ...]:  # fmt: skip
    """All steps of a batch; the first frame of a video has a token of its own."""
    images = np.ceil((frames - 1) / one.frames) + 1
    tokens = np.floor(height / one.pixels) * np.floor(width / one.pixels) * images + one.text
    shape = Shape(
        layers=one.layers, hidden=one.hidden, heads=one.heads, kv_heads=one.heads,
        head_dim=one.hidden / one.heads, inter=one.inter, gated=False, norm="norm", causal=False,
        activation="gelu",
    )  # fmt: skip
    return forward(shape, batch=one.passes * batch, seq=tokens, repeats=steps)


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device and model."""
    count = table.number("num_gpus", 1.0)
    batch, height, width, steps = (
        table.number(n) for n in ("batch_size", "height", "width", "inference_steps")
    )
    frames = table.number("num_frames", 1.0)
    for (device, model, precision), rows in table.groups("device", "model", "weight_precision").items():
        several = count[rows] > 1
        if several.any():
            yield Refusal(rows[several], f"{SEVERAL_DEVICES}: sequence parallel", model)
        rows, one = rows[~several], denoiser(model)
        if not rows.size:
            continue
        if one is None or precision not in ("bfloat16", ""):
            yield Refusal(
                rows, no_model(model) if one is None else f"precision {precision!r} is unknown", model
            )
            continue
        made = parts(one, batch[rows], height[rows], width[rows], frames[rows], steps[rows])
        targets = (
            LATENCY,
            Target(column="avg_power_watts", quantity="power"),
            Target(column="energy_per_item_j", quantity="energy", amount=batch[rows]),
        )
        name = DEVICES.get(device, device)
        yield Question(
            rows=rows, device=name, op=model, parts=made, protocol=STEADY, dtype="bf16", targets=targets
        )
