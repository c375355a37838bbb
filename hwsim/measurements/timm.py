"""Throughput of image models: model, mode, dtype, layout, compiled, batch_size, img_size.

Vision transformers whose name says their widths, Swin and the built-in ones; convolutional and hybrid
models need a trace of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from graphs import kernels
from hwsim.measurements.language_models import Shape, forward
from hwsim.measurements.model_names import no_model
from hwsim.measurements.question import (
    LATENCY,
    NO_TRAINING,
    Answerable,
    Part,
    Protocol,
    Question,
    Refusal,
    Target,
    dtype_name,
)
from hwsim.measurements.table import Rows, Table

TITLE = "image models: model, mode, dtype, layout, compiled, batch_size, img_size"
NEEDS = frozenset(("model", "mode", "dtype", "layout", "compiled", "batch_size", "img_size"))
TARGETS = ("latency_us", "throughput_samples_per_s")
HOST = Protocol(
    timing="host", statistic="mean of 40 steps", warm=False, stack="eager",
    source="host clock round steps that end with a synchronise; weights and activations exceed the cache",
)  # fmt: skip
BUILT_IN = {
    "vit_base_patch16_224": "vit-b-16", "vit_base_patch32_224": "vit-b-32",
    "vit_large_patch16_224": "vit-l-16",
    "deit_tiny_patch16_224": "deit-ti", "deit_small_patch16_224": "deit-s", "deit_base_patch16_224": "deit-b",
    "vit_tiny_patch16_224": "deit-ti", "vit_small_patch16_224": "deit-s",
    "swin_tiny_patch4_window7_224": "swin-t", "swin_small_patch4_window7_224": "swin-s",
    "swin_base_patch4_window7_224": "swin-b",
}  # fmt: skip
# size word -> layers, width, heads, MLP width; from memory, checked against the file's own parameter counts
SIZES = {
    "tiny": (12, 192, 3, 768), "small": (12, 384, 6, 1536), "medium": (12, 512, 8, 2048),
    "betwixt": (12, 640, 10, 2560), "base": (12, 768, 12, 3072), "large": (24, 1024, 16, 4096),
    "huge": (32, 1280, 16, 5120), "giant": (40, 1408, 16, 6144), "gigantic": (48, 1664, 16, 8192),
    "so400m": (27, 1152, 16, 4304), "mediumd": (20, 512, 8, 2048),
}  # fmt: skip
_PLAIN_NAME = re.compile(
    r"(?:vit|deit|deit3|beit|beitv2)_(?:s?relpos_)?([a-z0-9]+)(?:_distilled)?_patch(\d+)(_.*)?"
)
CHANNELS, CLASSES, BUILT_IN_SIDE = 3.0, 1000.0, 224.0
UNFUSED = "stack.attention_kernel"  # before torch 2 attention was written out


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, dtype, compilation and torch version, and one more per built-in model."""
    batch, side = table.number("batch_size"), table.number("img_size")
    for key, rows in table.groups("device", "mode", "dtype", "compiled", "torch").items():
        device, mode, dtype, compiled, torch = key
        label = f"{mode} {dtype}" + (" compiled" if compiled == "1" else "")
        name = dtype_name(dtype.removeprefix("amp_"))
        if mode != "infer" or name is None:
            yield Refusal(rows, NO_TRAINING if mode == "train" else f"{mode} {dtype} is unknown", label)
            continue
        common = Question(
            rows=rows,
            device=device,
            op=label,
            parts=(),
            protocol=replace(HOST, stack="compiled") if compiled == "1" else HOST,
            dtype=name,
            settings={UNFUSED: "math"} if torch.startswith("1") else {},
        )
        yield from _asked(common, table.text("model"), batch, side)


def _asked(
    common: Question, models: list[str], batch: NDArray[np.float64], side: NDArray[np.float64]
) -> Iterator[Answerable]:
    """A question per built-in model, one for all others whose name says their widths, refusals for others."""
    kinds: dict[tuple[str, str], list[int]] = {}
    for row in common.rows.tolist():
        model = models[row]
        if model in BUILT_IN and side[row] == BUILT_IN_SIDE:
            kinds.setdefault(("built in", model), []).append(row)
        elif _widths(model) is not None:
            kinds.setdefault(("by widths", ""), []).append(row)
        else:
            kinds.setdefault(("unknown", model), []).append(row)
    for (kind, model), rows in kinds.items():
        chosen = np.array(rows, dtype=np.intp)
        if kind == "unknown":
            yield Refusal(chosen, no_model(model), common.op)
        elif kind == "built in":
            part = Part(graph=BUILT_IN[model], sizes={"batch": batch[chosen]})
            yield _about(common, chosen, (part,), batch)
        else:
            widths = np.array([_widths(models[row]) for row in rows], dtype=np.float64).T
            yield _about(common, chosen, _parts(widths, batch[chosen], side[chosen]), batch)


def _about(common: Question, rows: Rows, parts: tuple[Part, ...], batch: NDArray[np.float64]) -> Question:
    rate = Target(column="throughput_samples_per_s", quantity="rate", amount=batch[rows])
    return replace(common, rows=rows, parts=parts, targets=(LATENCY, rate))


@cache
def _widths(model: str) -> tuple[float, ...] | None:
    """Layers, width, heads, MLP width, patch, tokens beside the patches; None when the name does not say."""
    match = _PLAIN_NAME.fullmatch(model)
    if match is None or match[1] not in SIZES:
        return None
    layers, hidden, heads, inter = SIZES[match[1]]
    rest = match[3] or ""
    depth, registers = re.search(r"_(\d+)x([12])", rest), re.search(r"reg(\d)", rest)
    if depth:  # blocks x parallel branches
        layers = int(depth[1]) * int(depth[2])
    pooled = "gap" in rest or "siglip" in rest
    extra = (0 if pooled else 2 if "distilled" in model else 1) + (int(registers[1]) if registers else 0)
    return layers, hidden, heads, inter, float(match[2]), extra


def _parts(
    widths: NDArray[np.float64], batch: NDArray[np.float64], side: NDArray[np.float64]
) -> tuple[Part, ...]:
    """Patch embedding, layers and classifier."""
    layers, hidden, heads, inter, patch, extra = widths
    tokens = (side // patch) ** 2
    shape = Shape(
        layers=layers, hidden=hidden, heads=heads, kv_heads=heads, head_dim=hidden / heads, inter=inter,
        gated=False, norm="norm", causal=False, activation="gelu",
    )  # fmt: skip
    graph = kernels.gemm("bf16")
    embed = {"m": batch * tokens, "k": CHANNELS * patch**2, "n": hidden}
    classify = {"m": batch, "k": hidden, "n": np.full_like(batch, CLASSES)}
    ends = (Part(graph=graph, sizes=embed), Part(graph=graph, sizes=classify))
    return ends + forward(shape, batch=batch, seq=tokens + extra)
