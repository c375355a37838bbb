"""State-space and linear-attention kernels as what they stream and multiply: Mamba-2, gated delta rule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphs import kernels
from hwsim.measurements.question import Part

Array = NDArray[np.float64]
CHUNK = 64.0  # tokens per chunk of the delta rule, as in the published kernels
# Tokens that a block of TensorRT-LLM's convolution works through: 128 threads of 8 values, from memory; its
# times grow with sequences x channels and hardly with their length up to there.
CONVOLUTION_BLOCK = 1024.0


def convolution(batch: Array, length: Array, channels: Array, *, block: float = 1.0) -> tuple[Part, ...]:
    """Causal depthwise convolution over time: every element read and written once (a few taps, then SiLU).

    A kernel that gives a block of threads to every channel of every sequence works through `block` tokens
    at a time, however few there are.
    """
    tokens = batch * np.ceil(length / block) * block
    return (Part(graph=kernels.elementwise("silu", "bf16", 1), sizes={"rows": tokens, "cols": channels}),)


def convolution_step(batch: Array, channels: Array, taps: Array, dtype: str = "bf16") -> tuple[Part, ...]:
    """One token per sequence: the state of `taps` values per channel is read, shifted and written back."""
    elements = batch * channels * (1 + taps)
    return (Part(graph=kernels.stream(dtype, "silu"), sizes={"read": elements, "written": elements}),)


def delta_rule(batch: Array, length: Array, heads: Array, key: Array, value: Array) -> tuple[Part, ...]:
    """The chunked gated delta rule: products inside each chunk, all at once, then the state from chunk to
    chunk.

    Inside: keys with keys, queries with keys, the triangular solve applied to keys and values, scores with
    values. Between: state read twice and updated once per chunk, one chunk after the other.
    """
    chunks = np.maximum(np.ceil(length / CHUNK), 1.0)
    rows = np.minimum(length, CHUNK)
    inside = {"b": batch * heads * chunks, "m": rows, "n": rows, "k": 3 * key + 2 * value}
    between = {"b": 3 * batch * heads, "m": rows, "n": value, "k": key}
    graph = kernels.gemm("bf16", batched=True)
    moved = batch * length * heads
    streamed = {"read": moved * (2 * key + value), "written": moved * (key + 2 * value)}
    return (
        Part(graph=graph, sizes=inside),
        Part(graph=graph, sizes=between, repeats=chunks),
        Part(graph=kernels.stream("bf16"), sizes=streamed),
    )


def state_step(batch: Array, heads: Array, key: Array, value: Array) -> tuple[Part, ...]:
    """One token per sequence: the fp32 state of key x value per head is read, updated and written back."""
    state = batch * heads * key * value
    return (Part(graph=kernels.stream("fp32", "mul"), sizes={"read": state, "written": state}),)


def chunk_scan(
    batch: Array, length: Array, heads: Array, head_dim: Array, state: Array, groups: Array, chunk: Array
) -> tuple[Part, ...]:
    """The chunked scan of Mamba-2: scores per group, their product with the inputs, and states in and out."""
    chunks = np.maximum(np.ceil(length / chunk), 1.0)
    rows = np.minimum(length, chunk)
    graph = kernels.gemm("bf16", batched=True)
    scores = {"b": batch * groups * chunks, "m": rows, "n": rows, "k": state}
    mixed = {"b": batch * heads * chunks, "m": rows, "n": head_dim, "k": rows + 2 * state}
    moved = batch * length * (heads * head_dim + 2 * groups * state)
    streamed = {"read": moved, "written": batch * length * heads * head_dim}
    return (
        Part(graph=graph, sizes=scores),
        Part(graph=graph, sizes=mixed),
        Part(graph=kernels.stream("bf16"), sizes=streamed),
    )
