"""Latency tables of FasterTransformer's guides: guide, section, config, kind, precision, batch, seq_len or
lengths.

`kind` is the column of the guide's table: a framework, FT, EFF-FT (padding removed: sequences are half as
long as the longest), a degree of parallelism or a model. BERT is BERT-base unless `config` says otherwise,
ViT is B/16 at 384 pixels unless `kind` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphs import kernels
from hwsim.measurements.event import EVENT
from hwsim.measurements.language_models import Shape, forward, generation
from hwsim.measurements.question import SEVERAL_DEVICES, Answerable, Part, Protocol, Question, Refusal
from hwsim.measurements.table import Rows, Table

TITLE = "FasterTransformer guides: guide, section, config, kind, precision, batch"
NEEDS = frozenset(("device", "guide", "section", "config", "kind", "precision", "batch"))
# The BERT and ViT guides give memory clocks of 1215 and 5001 MHz, those of the 40 GB SXM card and the T4; the
# GPT guide names 80 GB cards
DEVICES = {"A100": "a100-40gb-sxm", "T4": "t4", "V100": "v100-sxm2-16gb"}
GPT_DEVICES = {"A100": "a100-80gb-sxm"}
ENGINE = Protocol(
    timing="host", statistic="mean", warm=False, stack="engine", source="tables in the guides of the library"
)
STACKS = {"TF": "compiled", "TORCHSCRIPT": "eager", "TORCH": "eager"}
BERT = Shape(
    layers=12, hidden=768, heads=12, kv_heads=12, head_dim=64, inter=3072, gated=False, norm="norm",
    causal=False, activation="gelu",
)  # fmt: skip
BUILT_IN, BUILT_IN_TOKENS = "bert-base", 512.0  # a framework runs the model op by op, as traced
# kind -> layers, width, heads, tokens of an image with the class token
VITS = {
    "": (12, 768, 12, 577), "B_16": (12, 768, 12, 577), "B_16-224": (12, 768, 12, 197),
    "L_16": (24, 1024, 16, 577), "L_16-224": (24, 1024, 16, 197),
}  # fmt: skip
FUSED_UP_TO = 512.0  # tokens of a sequence that the fused attention kernels of that time could take
REMOVED = 0.5  # of the padded tokens are left without padding


@dataclass(frozen=True, slots=True)
class _Case:
    """What one combination of the text columns says."""

    device: str
    guide: str
    config: str
    kind: str
    precision: str

    @property
    def several(self) -> bool:
        """Whether it ran on several devices: a TP or PP degree above 1 in its kind or its configuration."""
        degrees = re.findall(r"(?:TP|PP)-?\s?(\d+)|(\d+)-way", self.kind)
        if any(int(a or b) > 1 for a, b in degrees):
            return True
        sized = re.search(r"tensor_para\w*\s*=\s*(\d+)", self.config)
        return bool(sized and int(sized[1]) > 1)

    @property
    def dtype(self) -> str:
        text = f"{self.kind} {self.precision}".upper()
        if "(FP16)" in text or "-FP16" in text:
            return "fp16"
        if "INT8" in text:
            return "int8"
        return "tf32" if "TF32" in text else "fp32" if "FP32" in text else "fp16"

    @property
    def stack(self) -> str:
        return STACKS.get(self.kind.upper().split("-")[0].split(" ")[0], "engine")

    def setting(self, name: str) -> float | None:
        found = re.search(rf"{name}\s*=\s*(\d+)", self.config)
        return float(found[1]) if found else None


def questions(table: Table) -> Iterator[Answerable]:
    """One question per combination of the text columns."""
    numbers = {name: table.number(name) for name in ("batch", "seq_len", "input_len", "output_len")}
    for key, rows in table.groups("device", "guide", "config", "kind", "precision").items():
        case = _Case(*key)
        label = f"{case.guide} {case.kind}"
        if case.several:
            yield Refusal(rows, f"{SEVERAL_DEVICES}: {case.kind}", label)
            continue
        if "MIG" in case.device:
            yield Refusal(rows, "a slice of a device (MIG) has no profile", label)
            continue
        parts = _parts(case, {name: column[rows] for name, column in numbers.items()})
        if parts is None:
            yield Refusal(rows, f"the columns do not say what the {case.guide} guide timed", label)
            continue
        tokens = float(np.max(np.nan_to_num(numbers["seq_len"][rows])))
        yield _question(case, rows, label, parts, VITS[""][3] if case.guide == "vit" else tokens)


def settings_of(stack: str, *, fused: bool) -> dict[str, Any]:
    """How attention runs, and the host's part of an eager call under Python."""
    python: dict[str, Any] = {"stack.dispatch": EVENT.added_s} if stack == "eager" else {}
    return python if fused else {**python, "stack.attention_kernel": "math"}


def _fused(case: _Case, longest: float) -> bool:
    """Whether the library's one attention kernel serves: 16 or 8 bit, short enough, not in a framework."""
    return case.stack == "engine" and case.dtype in ("fp16", "int8") and longest <= FUSED_UP_TO


def _question(case: _Case, rows: Rows, label: str, parts: tuple[Part, ...], longest: float) -> Question:
    names = DEVICES | (GPT_DEVICES if case.guide == "gpt" else {})
    return Question(
        rows=rows,
        device=names.get(case.device, case.device),
        op=label,
        parts=parts,
        protocol=replace(ENGINE, stack=case.stack),
        dtype=case.dtype,
        settings=settings_of(case.stack, fused=_fused(case, longest)),
    )


def _parts(case: _Case, n: dict[str, NDArray[np.float64]]) -> tuple[Part, ...] | None:
    heads, width, layers = (case.setting(s) for s in ("head_num", "size_per_head", "num_layers"))
    shape = BERT
    if heads and width and layers:
        shape = replace(
            BERT, layers=layers, hidden=heads * width, heads=heads, kv_heads=heads, head_dim=width,
            inter=4 * heads * width,
        )  # fmt: skip
    if case.guide == "bert":
        # bare device names head a comparison of the padding-free kernel across devices
        removed = "EFF" in case.kind.upper() or case.kind in DEVICES
        plain = shape is BERT and case.stack != "engine"
        model = BUILT_IN if plain and np.all(n["seq_len"] <= BUILT_IN_TOKENS) else shape
        return forward(model, batch=n["batch"], seq=n["seq_len"] * (REMOVED if removed else 1.0))
    if case.guide == "vit":
        return _vision(case.kind, n["batch"])
    if case.guide == "gpt" and shape is not BERT:
        decoder = replace(shape, causal=True, vocab=case.setting("vocab_size") or 50257.0)
        return generation(decoder, batch=n["batch"], prompt=n["input_len"], tokens=n["output_len"])
    return None


def _vision(kind: str, batch: NDArray[np.float64]) -> tuple[Part, ...]:
    name = kind.split(" ")[0]
    layers, hidden, heads, tokens = VITS.get(name, VITS[""])
    shape = replace(
        BERT,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=hidden / heads,
        inter=4 * hidden,
    )
    embed = {"m": batch * (tokens - 1), "k": np.full_like(batch, 3 * 16**2), "n": np.full_like(batch, hidden)}
    return (Part(graph=kernels.gemm("bf16"), sizes=embed), *forward(shape, batch=batch, seq=float(tokens)))
