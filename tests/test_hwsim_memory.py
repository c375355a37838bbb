"""Memory: what lives at each op, walked one by one, is what the linear forms say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import devices
import hwsim
from graphs.expressions import evaluate
from graphs.ir import DTYPE_BITS
from graphs.workload import Precision
from hwsim.lower import lower
from hwsim.optable import OpTable

pytestmark = pytest.mark.needs_torch

WORKLOADS = {
    ("bert-base", "forward"): {"batch": (1, 32), "seq": (1, 512)},
    ("llama-3-8b", "prefill"): {"batch": (1, 8), "seq": (1, 4096), "context": (0, 4096)},
    ("llama-3-8b", "decode"): {"batch": (1, 64), "context": (0, 8191)},
    ("vit-b-16", "forward"): {"batch": (1, 64)},
    ("t5-base", "forward"): {"batch": (1, 8), "source": (1, 512), "seq": (1, 512)},
}
workloads = pytest.mark.parametrize("workload", WORKLOADS, ids="-".join)


def walked(table: OpTable, sizes: dict[str, float]) -> tuple[float, dict[str, float]]:
    """The most bytes of activations alive at any op, and the bytes of everything that stays.

    A value lives from the op that makes it (the start of the run for inputs) to the op after which the
    traced program let go of it, both included. Values that no op of this table touches were fused away.
    """
    graph = table.graph
    stays = {"weights": 0.0, "kv_cache": 0.0}
    roles = {"weight": "weights", "buffer": "weights", "kv": "kv_cache"}
    held = [evaluate(s.elements, sizes) * DTYPE_BITS[s.dtype] / 8 for s in graph.storages]
    for storage, size in zip(graph.storages, held, strict=True):
        if storage.role in roles:
            stays[roles[storage.role]] += float(size)
    first_write: dict[int, int] = {}
    touched = set()
    for node in graph.nodes:
        touched |= {*node.reads, *node.writes}
        for index in node.writes:
            first_write.setdefault(index, node.at)
    lives = []
    for index, storage in enumerate(graph.storages):
        if storage.role not in roles and (index in touched or storage.allocated_at < 0):
            start = min(storage.allocated_at, first_write.get(index, storage.allocated_at))
            lives.append((start, max(storage.freed_at, start), float(held[index])))
    starts, stops, sizes_held = np.array(lives).T
    alive = [sizes_held[(starts <= node.at) & (node.at <= stops)].sum() for node in graph.nodes]
    return max(alive), stays


@workloads
@pytest.mark.parametrize("stack", ["eager", "compiled", "engine"])
@settings(max_examples=3)
@given(seed=st.integers(0, 2**32 - 1))
def test_peak_memory_is_that_of_a_walk_over_all_ops(workload: tuple[str, str], stack: str, seed: int) -> None:
    model, phase = workload
    random = np.random.default_rng(seed)
    sizes: dict[str, Any] = {
        name: float(random.integers(low, high + 1)) for name, (low, high) in WORKLOADS[workload].items()
    }
    table = lower(hwsim.trace(model, phase=phase), Precision(), devices.stack(stack))
    peak, stays = walked(table, sizes)
    found = hwsim.estimate(model, "h100-sxm", phase=phase, stack=stack, **sizes).memory_bytes
    assert found["activations"] == pytest.approx(peak, rel=1e-12)
    assert found["weights"] == pytest.approx(stays["weights"], rel=1e-12)
    assert found["kv_cache"] == pytest.approx(stays["kv_cache"], rel=1e-12)


def test_the_forms_that_are_kept_are_few() -> None:
    """Thousands of live sets of an 842-op model; only the undominated ones are kept."""
    graph = hwsim.trace("llama-3-8b", phase="decode")
    table = lower(graph, Precision(), devices.stack("eager"))
    assert len(table.live.coefficients) <= 12


def test_weights_and_cache_of_llama_3_8b_are_what_its_numbers_say() -> None:
    """8 030 261 248 parameters of 2 bytes; per cached token 2 x 32 layers x 8 heads x 128 x 2 bytes."""
    found = hwsim.estimate("llama-3-8b", "h100-sxm", phase="decode", batch=3, context=1000).memory_bytes
    assert found["weights"] == pytest.approx(8_030_261_248 * 2, rel=1e-4)
    assert found["weights"] >= 8_030_261_248 * 2
    assert found["kv_cache"] == 3 * 1001 * (2 * 32 * 8 * 128 * 2)


def test_weights_in_four_bits_take_a_quarter_and_their_scales() -> None:
    """One 16-bit scale per 128 weights of 4 bits: 4.125 bits instead of 16."""
    wide, narrow = (
        hwsim.estimate("llama-3-8b", "h100-sxm", phase="decode", context=10, weights=weights).memory_bytes
        for weights in (None, "int4:g128")
    )
    assert narrow["weights"] == pytest.approx(wide["weights"] * 4.125 / 16, rel=1e-3)
    assert narrow["kv_cache"] == wide["kv_cache"]


def test_a_model_larger_than_the_device_does_not_fit() -> None:
    decode = {"phase": "decode", "context": 100}
    assert hwsim.estimate("llama-3-8b", "h100-sxm", **decode).fits
    assert not hwsim.estimate("llama-3-8b", "jetson-nano", **decode).fits


def test_fusion_and_precision_never_raise_the_peak() -> None:
    eager, compiled = (
        hwsim.estimate("bert-base", "h100-sxm", batch=8, seq=512, stack=stack).memory_bytes["activations"]
        for stack in ("eager", "compiled")
    )
    half = hwsim.estimate("bert-base", "h100-sxm", batch=8, seq=512, dtype="fp16").memory_bytes
    assert compiled <= eager
    assert half["activations"] == pytest.approx(compiled / 2, rel=0.01)
