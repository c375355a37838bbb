"""Laws of single operators of any size: more machine is never slower, more work never cheaper."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwsim
from hwsim.result import Estimate
from tests.laws import assert_lawful, assert_rows_sum, capabilities, never_more
from tests.toys import attention_graph, gather_graph, gemm_graph, stream_graph

# One of each engine, boards that throttle and boards that do not, a machine without DRAM.
DEVICES = ("h100-sxm", "l4", "tpu-v4", "groq-tsp", "core-i9-10940x", "raspberry-pi-4", "eyeriss-v1")
GRAPHS = {
    "gemm": gemm_graph("fp16"),
    "attention": attention_graph("none", "fp16"),
    "causal attention": attention_graph("causal", "fp16"),
    "stream": stream_graph("fp16"),
    "gather": gather_graph("fp16"),
}
POINTS = 24
EXAMPLES = settings(max_examples=20)


def whole(high: int) -> st.SearchStrategy[int]:
    """Whole numbers from 1, small ones as likely as large ones."""
    return st.one_of(st.integers(1, min(high, 40)), st.integers(1, high))


SIZES = {
    "gemm": {"b": whole(64), "m": whole(8192), "n": whole(8192), "k": whole(8192)},
    "attention": {
        "batch": whole(64), "sets": whole(32), "group": st.sampled_from([1, 2, 3, 4, 8, 16]),
        "q": whole(4096), "past": st.one_of(st.just(0), whole(8192)), "d": st.sampled_from([32, 64, 80, 128]),
    },
    "stream": {"e": whole(10**8)},
    "gather": {"rows": whole(10**5), "run": whole(4096), "t": whole(10**5)},
}  # fmt: skip
WORK = {"gemm": "bmnk", "attention": ("batch", "q", "past"), "stream": ("e",), "gather": ("rows", "run")}


@st.composite
def points(draw: st.DrawFn, kind: str) -> dict[str, np.ndarray]:
    """Sizes of some points, one array per size."""
    strategies = SIZES[kind.removeprefix("causal ")]
    rows = draw(st.lists(st.tuples(*strategies.values()), min_size=1, max_size=POINTS))
    return {
        name: np.array(column, dtype=float)
        for name, column in zip(strategies, zip(*rows, strict=True), strict=True)
    }


def factors(low: float, high: float) -> st.SearchStrategy[np.ndarray]:
    """A factor per point, evenly spread in its logarithm."""
    seeds = st.integers(0, 2**32 - 1)
    return seeds.map(lambda s: np.exp(np.random.default_rng(s).uniform(np.log(low), np.log(high), POINTS)))


def price(kind: str, device: str, sizes: dict[str, Any], overrides: dict[str, Any]) -> Estimate:
    """The operator on the device; queries attend to `past` keys and to themselves."""
    sizes = dict(sizes)
    if "past" in sizes:
        sizes["k"] = sizes["q"] + sizes.pop("past")
    result = hwsim.estimate(GRAPHS[kind], device, stack="engine", overrides=overrides, **sizes)
    assert isinstance(result, Estimate)
    return result


def limits(device: str, factor: np.ndarray, count: int) -> dict[str, Any]:
    """Power limits from a fifth of the board's upwards, so that many points throttle."""
    return {"device.power.limit": hwsim.device(device).power.limit_w * factor[:count]}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", GRAPHS)
@EXAMPLES
@given(data=st.data(), power=factors(0.2, 1.5))
def test_every_estimate_is_lawful(kind: str, device: str, data: st.DataObject, power: np.ndarray) -> None:
    sizes = data.draw(points(kind))
    count = len(next(iter(sizes.values())))
    assert_lawful(price(kind, device, sizes, limits(device, power, count)))
    one = price(kind, device, {name: column[0] for name, column in sizes.items()}, {})
    assert_lawful(one)
    assert_rows_sum(one)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", GRAPHS)
@EXAMPLES
@given(data=st.data(), start=factors(0.2, 5), gain=factors(1, 3), power=factors(0.1, 1.5))
def test_more_of_anything_a_machine_has_is_never_slower(
    kind: str, device: str, data: st.DataObject, start: np.ndarray, gain: np.ndarray, power: np.ndarray
) -> None:
    """Bandwidth and capacity of every level, rates by dtype, clock, power: with tiles chosen anew and a clock
    that drops under the power limit.
    """
    sizes = data.draw(points(kind))
    path, value = data.draw(st.sampled_from(sorted(capabilities(hwsim.device(device)).items())))
    count = len(next(iter(sizes.values())))
    base = {} if path == "power.limit" else limits(device, power, count)
    less = price(kind, device, sizes, {**base, f"device.{path}": value * start[:count]})
    more = price(kind, device, sizes, {**base, f"device.{path}": value * (start * gain)[:count]})
    assert never_more(more.latency_s, less.latency_s), path
    assert never_more(more.dram_bytes, less.dram_bytes), path


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", GRAPHS)
@EXAMPLES
@given(data=st.data(), power=factors(0.1, 1.5), units=st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_more_units_of_the_same_kind_are_never_slower(
    kind: str, device: str, data: st.DataObject, power: np.ndarray, units: tuple[int, int]
) -> None:
    """Units scale peaks, registers and arrays with them; DRAM and shared caches keep their bandwidth. Work
    that does not divide evenly may gain nothing, but loses nothing either.
    """
    sizes = data.draw(points(kind))
    base = limits(device, power, len(next(iter(sizes.values()))))
    less = price(kind, device, sizes, {**base, "device.compute.units": float(min(units))})
    more = price(kind, device, sizes, {**base, "device.compute.units": float(max(units))})
    assert never_more(more.latency_s, less.latency_s)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", GRAPHS)
@EXAMPLES
@given(data=st.data(), power=factors(0.1, 1.5))
def test_more_work_is_never_cheaper(kind: str, device: str, data: st.DataObject, power: np.ndarray) -> None:
    """A larger size never takes less time, energy, traffic or memory; rows stay aligned alike."""
    sizes = data.draw(points(kind))
    # an unaligned row may cost more than a longer aligned one, as it does on real machines
    if kind == "gemm":
        sizes = {name: column * 16 if name in "nk" else column for name, column in sizes.items()}
    name = data.draw(st.sampled_from(WORK[kind.removeprefix("causal ")]))
    growth = data.draw(st.sampled_from([1, 2, 17, 100])) * (16 if kind == "gemm" and name in "nk" else 1)
    base = limits(device, power, len(sizes[name]))
    less = price(kind, device, sizes, base)
    more = price(kind, device, {**sizes, name: sizes[name] + growth}, base)
    for what in ("latency_s", "energy_j", "dram_bytes", "peak_memory_bytes", "flops"):
        assert never_more(getattr(less, what), getattr(more, what)), (what, name)
