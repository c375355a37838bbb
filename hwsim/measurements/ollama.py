"""Tokens per second of small machines under ollama or llama.cpp: model, device, engine_device, tokens_per_s.

Weights are Q4_K_M, what ollama fetches when nothing else is said. A machine's graphics card stands in
brackets behind its name; without one, the machine itself computes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from hwsim.measurements.device_names import device_called
from hwsim.measurements.language_models import decode
from hwsim.measurements.llama_bench import BENCH
from hwsim.measurements.model_names import find_model, no_model
from hwsim.measurements.quantised_weights import weight_format
from hwsim.measurements.question import (
    SEVERAL_DEVICES,
    Answerable,
    Question,
    Refusal,
    Target,
)
from hwsim.measurements.table import Table

TITLE = "tokens per second under ollama: model, device, engine_device"
NEEDS = frozenset(("model", "device", "engine_device"))
TARGETS = ("tokens_per_s",)
CONTEXT = 256.0  # tokens cached on average: a short question and its answer, assumed
# Boards with the chip of a Raspberry Pi 5 or 4: the CM5 and 500+ carry the 5's, the 400 the 4's
BOARDS = {
    "Pi 5": "raspberry-pi-5", "Pi CM5": "raspberry-pi-5", "Pi 500+": "raspberry-pi-5",
    "Pi 4": "raspberry-pi-4", "Pi 400": "raspberry-pi-4",
}  # fmt: skip
CARDS = {"Nvidia Spark": "gb10"}  # the graphics part of the machine of that name
_CARD = re.compile(r"\(((?:Nvidia|AMD|Intel Arc)[^)]*)\)", re.IGNORECASE)


def questions(table: Table) -> Iterator[Answerable]:
    """One question per machine and model."""
    for (model, machine, where), rows in table.groups("model", "device", "engine_device").items():
        found, label = find_model(model), f"generate {model}"
        if found is None or "cluster" in machine.lower():
            note = no_model(model) if found is None else f"{SEVERAL_DEVICES}: {machine}"
            yield Refusal(rows, note, label)
            continue
        yield Question(
            rows=rows,
            device=_device(machine, where),
            op=label,
            parts=decode(found, batch=1.0, context=np.full(rows.size, CONTEXT)),
            protocol=BENCH,
            dtype="fp16",
            weights=weight_format("Q4_K_M"),
            settings={"stack.attention_kernel": "math"},
            targets=(Target(column="tokens_per_s", quantity="rate"),),
        )


def _device(machine: str, where: str) -> str:
    """The card in brackets, the board's chip, or the machine's name without what follows it."""
    card = _CARD.search(machine)
    if card and where.upper() == "GPU":
        return CARDS.get(card[1], device_called(card[1]))
    plain = re.split(r" - | \(", machine)[0].strip()
    inside = re.search(r"\((M\d[^\d)]*)", machine)  # Mac Studio (M3 Ultra 512GB)
    mac = re.match(r"(M\d(?: Max| Pro| Ultra)?)\b", machine)
    if inside or mac:
        return device_called((inside or mac)[1].strip())  # type: ignore[index]
    return BOARDS.get(plain, device_called(plain))
