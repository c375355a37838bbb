"""Floors that estimates elsewhere have broken: bytes over bandwidth, scores in memory, caches copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwsim
from hwsim.result import Estimate
from tests.laws import never_more
from tests.toys import NO_SOFTWARE, attention_graph

needs_torch = pytest.mark.needs_torch

# Llama-3-8B by hand, from its configuration: 32 layers of width 4096, 8 key heads of 128, MLP of 14336.
LAYERS, WIDTH, KEY_WIDTH, MLP, VOCABULARY = 32, 4096, 8 * 128, 14336, 128256
LAYER = 2 * WIDTH * WIDTH + 2 * WIDTH * KEY_WIDTH + 3 * WIDTH * MLP + 2 * WIDTH
READ_PARAMETERS = (
    LAYERS * LAYER + WIDTH + VOCABULARY * WIDTH
)  # all but the embedding, of which one row is read
ENTRY_BYTES = 2 * LAYERS * KEY_WIDTH * 2  # one token's keys and values in bf16
DEVICES = ("h100-sxm", "a100-80gb-sxm", "l4", "tpu-v5e", "raspberry-pi-4")
STACKS = ("eager", "compiled", "engine")


def decode(device: str, batch: Any, context: Any, **asked: Any) -> Estimate:
    asked = {"dtype": "bf16", "stack": "engine", **asked}
    result = hwsim.estimate("llama-3-8b", device, phase="decode", batch=batch, context=context, **asked)
    assert isinstance(result, Estimate)
    return result


def test_the_hand_count_is_the_published_one() -> None:
    assert READ_PARAMETERS + VOCABULARY * WIDTH == 8_030_261_248


@needs_torch
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stack", STACKS)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_decode_is_never_faster_than_its_bytes_over_the_bandwidth(device: str, stack: str, seed: int) -> None:
    """Weights once and the whole cache once; a GB/s is 1e9 bytes a second, not 2**30."""
    random = np.random.default_rng(seed)
    batch = np.floor(np.exp(random.uniform(0, np.log(257), 30)))
    context = np.floor(random.uniform(0, 8191, 30))
    found = decode(device, batch, context, stack=stack)
    floor = (READ_PARAMETERS * 2 + batch * context * ENTRY_BYTES) / found.bandwidth_byte_per_s
    assert never_more(floor, found.latency_s)
    assert never_more(floor, found.latency_low_s)


@needs_torch
def test_bandwidth_in_the_catalogue_is_decimal() -> None:
    assert hwsim.device("h100-sxm").memory.dram.bandwidth_byte_per_s == 3.35e12


@needs_torch
def test_bytes_per_token_of_llama_3_8b_are_those_of_its_weights_and_cache() -> None:
    """With a cache that holds every activation: each weight once, every cached entry once, one entry written,
    one row of the embedding and one token id of 8 bytes read, the logits written, and 64 rotary frequencies
    of 4 bytes. The entry just appended is read with the others.
    """
    context = 2048
    found = decode("h100-sxm", 1, context, overrides={"device.memory.l2.capacity": 1e15})
    cache = (context + 1) * ENTRY_BYTES + ENTRY_BYTES
    rest = WIDTH * 2 + 8 + VOCABULARY * 2 + 64 * 4
    assert found.dram_bytes == READ_PARAMETERS * 2 + cache + rest


@needs_torch
@pytest.mark.parametrize("stack", STACKS)
def test_a_decode_step_moves_little_but_weights_and_cache(stack: str) -> None:
    found = decode("h100-sxm", 1, 2048, stack=stack)
    assert found.dram_bytes == pytest.approx(READ_PARAMETERS * 2 + 2050 * ENTRY_BYTES, rel=2e-3)


@needs_torch
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("batch", [1, 7])
def test_a_decode_step_writes_one_entry_and_reads_the_cache_once(stack: str, batch: int) -> None:
    """Neither is a copy of the cache made to append to it, nor is it read once per query head."""
    context = 1000
    rows = decode("h100-sxm", batch, context, stack=stack).ops
    appended = [row for row in rows if row.kind == "kv_append"]
    attended = [row for row in rows if row.kind == "attention"]
    assert sum(row.count for row in appended) == 2 * LAYERS
    assert sum(row.count for row in attended) == LAYERS
    # read from the projection and written to the cache, both one entry
    assert sum(row.onchip_bytes for row in appended) == 2 * batch * ENTRY_BYTES
    assert sum(row.dram_bytes for row in appended) <= 2 * batch * ENTRY_BYTES
    queries = 2 * batch * LAYERS * WIDTH * 2  # queries in, results out
    cache = batch * (context + 1) * ENTRY_BYTES
    assert sum(row.onchip_bytes for row in attended) == cache + queries
    assert cache <= sum(row.dram_bytes for row in attended) <= cache + queries


@needs_torch
def test_a_longer_context_adds_its_entries_and_little_else() -> None:
    """Traffic grows by a little more: with more between two uses, activations leave the cache."""
    context = np.array([1000.0, 2000.0, 3000.0])
    found = decode("h100-sxm", 4, context)
    np.testing.assert_allclose(np.diff(found.dram_bytes), 1000 * 4 * ENTRY_BYTES, rtol=5e-3)
    np.testing.assert_allclose(np.diff(found.peak_memory_bytes), 1000 * 4 * ENTRY_BYTES, rtol=1e-9)


@needs_torch
@pytest.mark.parametrize("stack", ["compiled", "engine"])
def test_flash_attention_stores_no_square_of_the_length(stack: str) -> None:
    """Activations of prefill grow linearly: equal steps in length add equal bytes."""
    seq = np.array([1024.0, 2048.0, 3072.0, 4096.0])
    found = hwsim.estimate("llama-3-8b", "h100-sxm", phase="prefill", seq=seq, stack=stack)
    steps = np.diff(found.memory_bytes["activations"])
    np.testing.assert_allclose(steps, steps[0], rtol=1e-9)
    assert found.memory_bytes["activations"][-1] < 32 * 4096 * 4096 * 2  # scores of one layer alone


@needs_torch
def test_written_out_attention_does_store_the_square() -> None:
    found = hwsim.estimate(
        "llama-3-8b", "h100-sxm", phase="prefill", seq=4096,
        overrides={"stack.attention_kernel": "math"},
    )  # fmt: skip
    assert found.memory_bytes["activations"] > 32 * 4096 * 4096 * 2


@pytest.mark.parametrize("device", ["h100-sxm", "tpu-v4", "raspberry-pi-4"])
def test_flash_attention_moves_its_operands_once_whatever_the_length(device: str) -> None:
    """Queries and results of 8 heads, keys and values of 2, 64 elements of 2 bytes each."""
    length = np.array([128.0, 1024.0, 8192.0, 65536.0])
    found = hwsim.estimate(
        attention_graph("causal", "fp16"), device, stack=NO_SOFTWARE, dtype="fp16",
        batch=1, sets=2, group=4, q=length, k=length, d=64,
    )  # fmt: skip
    np.testing.assert_allclose(found.dram_bytes, 2 * length * 64 * (2 * 8 + 2 * 2))


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=20)
@given(q=st.integers(1, 4096), past=st.integers(0, 8192), heads=st.integers(1, 64))
def test_causal_attention_executes_at_least_what_the_mask_shows(
    device: str, q: int, past: int, heads: int
) -> None:
    """Query i sees past + i keys: the skipped half is free, what is visible is not."""
    found = hwsim.estimate(
        attention_graph("causal", "fp16"), device, stack="engine",
        batch=1, sets=heads, group=1, q=q, k=q + past, d=64,
    )  # fmt: skip
    visible = q * past + q * (q + 1) / 2
    assert never_more(2 * heads * visible * 2 * 64, found.flops_executed)
    assert found.flops == 2 * heads * q * (q + past) * 2 * 64
