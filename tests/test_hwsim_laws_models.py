"""Laws of whole models on every kind of machine and under every stack."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwsim
from hwsim.result import Estimate
from tests.laws import assert_lawful, assert_rows_sum, capabilities, never_more

pytestmark = pytest.mark.needs_torch

DEVICES = ("h100-sxm", "l4", "tpu-v4", "core-i9-10940x", "eyeriss-v1")
STACKS = ("eager", "compiled", "engine")
# Model and phase, with the range of every size.
WORKLOADS = {
    ("bert-base", "forward"): {"batch": (1, 64), "seq": (1, 512)},
    ("llama-3-8b", "prefill"): {"batch": (1, 8), "seq": (1, 4096), "context": (0, 4096)},
    ("llama-3-8b", "decode"): {"batch": (1, 256), "context": (0, 8191)},
    ("mixtral-8x7b", "decode"): {"batch": (1, 64), "context": (0, 8192)},
    ("vit-b-16", "forward"): {"batch": (1, 256)},
    ("t5-base", "forward"): {"batch": (1, 16), "source": (1, 1024), "seq": (1, 1024)},
}
POINTS = 16
EXAMPLES = settings(max_examples=6)
machines = pytest.mark.parametrize("device", DEVICES)
workloads = pytest.mark.parametrize("workload", WORKLOADS, ids="-".join)


def price(workload: tuple[str, str], device: str, **asked: Any) -> Estimate:
    model, phase = workload
    result = hwsim.estimate(model, device, phase=phase, **asked)
    assert isinstance(result, Estimate)
    return result


def draw_sizes(workload: tuple[str, str], random: np.random.Generator) -> dict[str, np.ndarray]:
    """Sizes of some points, small ones as likely as large ones, never more than the model takes."""
    drawn = {
        name: np.floor(np.exp(random.uniform(np.log(max(low, 0.5)), np.log(high + 1), POINTS)))
        for name, (low, high) in WORKLOADS[workload].items()
    }
    return {name: np.maximum(column, WORKLOADS[workload][name][0]) for name, column in drawn.items()}


def spread(random: np.random.Generator, low: float, high: float) -> np.ndarray:
    return np.exp(random.uniform(np.log(low), np.log(high), POINTS))


def limits(device: str, random: np.random.Generator) -> dict[str, Any]:
    """Power limits from a tenth of the board's upwards, so that many points throttle."""
    return {"device.power.limit": hwsim.device(device).power.limit_w * spread(random, 0.1, 1.5)}


seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)
stacks = st.sampled_from(STACKS)


@machines
@workloads
@EXAMPLES
@given(random=seeds, stack=stacks)
def test_every_estimate_is_lawful(
    workload: tuple[str, str], device: str, random: np.random.Generator, stack: str
) -> None:
    sizes = draw_sizes(workload, random)
    assert_lawful(price(workload, device, stack=stack, overrides=limits(device, random), **sizes))
    one = price(workload, device, stack=stack, **{name: column[0] for name, column in sizes.items()})
    assert_lawful(one)
    assert_rows_sum(one)


@machines
@workloads
@EXAMPLES
@given(random=seeds, stack=stacks, data=st.data())
def test_more_of_anything_a_machine_has_is_never_slower(
    workload: tuple[str, str], device: str, random: np.random.Generator, stack: str, data: st.DataObject
) -> None:
    known = {**capabilities(hwsim.device(device)), "compute.units": hwsim.device(device).compute.units}
    path = data.draw(st.sampled_from(sorted(known)))
    start = known[path] * spread(random, 0.2, 3)
    asked = {"stack": stack, **draw_sizes(workload, random)}
    base = {} if path == "power.limit" else limits(device, random)
    less = price(workload, device, overrides={**base, f"device.{path}": start}, **asked)
    gained = start * spread(random, 1, 3)
    more = price(workload, device, overrides={**base, f"device.{path}": gained}, **asked)
    assert never_more(more.latency_s, less.latency_s), path
    assert never_more(more.dram_bytes, less.dram_bytes), path
    assert never_more(more.peak_memory_bytes, less.peak_memory_bytes), path


@machines
@workloads
@EXAMPLES
@given(random=seeds, stack=stacks, growth=st.sampled_from([1, 3, 64]), data=st.data())
def test_more_tokens_never_take_less(
    workload: tuple[str, str],
    device: str,
    random: np.random.Generator,
    stack: str,
    growth: int,
    data: st.DataObject,
) -> None:
    """Time, energy, memory, traffic and work, for a longer or larger request of any size."""
    sizes = draw_sizes(workload, random)
    name = data.draw(st.sampled_from(sorted(sizes)))
    longer = np.minimum(sizes[name] + growth, WORKLOADS[workload][name][1])
    base = limits(device, random)
    less = price(workload, device, stack=stack, overrides=base, **sizes)
    more = price(workload, device, stack=stack, overrides=base, **{**sizes, name: longer})
    for what in ("latency_s", "energy_j", "peak_memory_bytes", "dram_bytes", "flops"):
        assert never_more(getattr(less, what), getattr(more, what)), (what, name)
