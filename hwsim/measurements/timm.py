"""Throughput of image models: model, mode, dtype, layout, compiled, batch_size, img_size.

Vision transformers whose name says their widths, Swin and the built-in ones; convolutional and hybrid
models need a trace of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

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
CHANNELS, CLASSES = 3.0, 1000.0
UNFUSED = "stack.attention_kernel"  # before torch 2 attention was written out


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, model, dtype, compilation and torch version."""
    batch, side = table.number("batch_size"), table.number("img_size")
    for key, rows in table.groups("device", "model", "mode", "dtype", "compiled", "torch").items():
        device, model, mode, dtype, compiled, torch = key
        label = f"{mode} {dtype}" + (" compiled" if compiled == "1" else "")
        name = dtype_name(dtype.removeprefix("amp_"))
        if mode != "infer":
            yield Refusal(rows, NO_TRAINING, label)
            continue
        parts = _parts(model, batch[rows], side[rows]) if name else None
        if parts is None:
            yield Refusal(rows, no_model(model) if name else f"dtype {dtype!r} is unknown", label)
            continue
        yield _question(rows, device, label, parts, batch[rows], name, compiled == "1", _before_two(torch))


def _question(
    rows: Rows, device: str, label: str, parts: tuple[Part, ...], batch: NDArray[np.float64],
    dtype: str | None, compiled: bool, unfused: bool,
) -> Question:  # fmt: skip
    return Question(
        rows=rows,
        device=device,
        op=label,
        parts=parts,
        protocol=replace(HOST, stack="compiled") if compiled else HOST,
        dtype=dtype,
        settings={UNFUSED: "math"} if unfused else {},
        targets=(LATENCY, Target(column="throughput_samples_per_s", quantity="rate", amount=batch)),
    )


def _before_two(torch: str) -> bool:
    """Whether a version such as `113` or `1.13` is older than 2.0."""
    return torch.strip().startswith("1")


def _parts(model: str, batch: NDArray[np.float64], side: NDArray[np.float64]) -> tuple[Part, ...] | None:
    if model in BUILT_IN and np.all(side == 224):
        return (Part(graph=BUILT_IN[model], sizes={"batch": batch}),)
    match = _PLAIN_NAME.fullmatch(model)
    if match is None or match[1] not in SIZES or "_r26" in model or "_r50" in model:
        return None
    layers, hidden, heads, inter = SIZES[match[1]]
    depth = re.search(r"_(\d+)x([12])", match[3] or "")  # blocks x parallel branches
    if depth:
        layers = int(depth[1]) * int(depth[2])
    patch = float(match[2])
    tokens = (side // patch) ** 2
    registers = re.search(r"reg(\d)", match[3] or "")
    extra = (0 if "gap" in model or "siglip" in model else 1) + (int(registers[1]) if registers else 0)
    shape = Shape(
        layers=layers, hidden=hidden, heads=heads, kv_heads=heads, head_dim=hidden / heads, inter=inter,
        gated=False, norm="norm", causal=False, activation="gelu",
    )  # fmt: skip
    return _ends(batch, tokens, patch, float(hidden)) + forward(shape, batch=batch, seq=tokens + extra)


def _ends(
    batch: NDArray[np.float64], tokens: NDArray[np.float64], patch: float, hidden: float
) -> tuple[Part, ...]:
    """Patch embedding and classifier."""
    graph = kernels.gemm("bf16")
    embed = {"m": batch * tokens, "k": CHANNELS * patch**2, "n": hidden}
    return (
        Part(graph=graph, sizes=embed),
        Part(graph=graph, sizes={"m": batch, "k": hidden, "n": CLASSES}),
    )
