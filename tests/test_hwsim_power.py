"""The clock under a power limit: what is found, against a search that knows nothing of the solver."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwsim
from hwsim.fitted import coefficients_for
from hwsim.result import Estimate
from tests.laws import never_more
from tests.toys import attention_graph, gemm_graph

DEVICES = ("h100-sxm", "l4", "tpu-v4", "core-i9-10940x", "eyeriss-v1")
FREE_W = 1e9  # a limit that nothing reaches
# the constants that the clock is found with; what boards spend beyond them is another file's subject
COMPONENTS = {"coefficient.board_compute_scale": 1.0, "coefficient.board_memory_scale": 1.0}
GEMM, CAUSAL = gemm_graph("fp16"), attention_graph("causal", "fp16")
machines = pytest.mark.parametrize("device", DEVICES)


def product(device: str, overrides: dict[str, Any], **sizes: Any) -> Estimate:
    overrides = {**COMPONENTS, **overrides}
    result = hwsim.estimate(GEMM, device, stack="engine", overrides=overrides, **sizes)
    assert isinstance(result, Estimate)
    return result


def searched_clock(device: str, limit_w: float, **sizes: float) -> float:
    """The largest clock under the limit, by bisection of estimates of slower machines.

    A machine at relative clock s is one whose core clock is s times nominal: that scales arithmetic and
    on-chip bandwidth and leaves DRAM alone. Its core energy per operation is max(s, knee) squared of nominal.
    """
    known = hwsim.device(device)
    fitted = coefficients_for(known)
    nominal = product(device, {"device.power.limit": FREE_W}, **sizes)
    core = nominal.energy_by_j["compute"] + nominal.energy_by_j["onchip"]

    def power(s: float) -> float:
        slow = {"device.power.limit": FREE_W, "device.compute.clock": s * known.compute.clock_hz}
        seconds = product(device, slow, **sizes).latency_s
        dynamic = core * max(s, fitted["clock_knee"]) ** 2 + nominal.energy_by_j["dram"]
        return float(dynamic / seconds + known.energy.static_w)

    low, high = fitted["clock_floor"], 1.0
    if power(high) <= limit_w:
        return high
    if power(low) > limit_w:
        return float(low)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle) <= limit_w else (low, middle)
    return float(low)


@machines
@settings(max_examples=12)
@given(m=st.integers(1, 4096), n=st.integers(1, 4096), k=st.integers(1, 4096), share=st.floats(0.15, 1.2))
def test_the_clock_is_the_largest_that_keeps_the_limit(
    device: str, m: int, n: int, k: int, share: float
) -> None:
    limit = share * hwsim.device(device).power.limit_w
    found = product(device, {"device.power.limit": limit}, b=8, m=m, n=n, k=k)
    assert found.clock_scale == pytest.approx(searched_clock(device, limit, b=8, m=m, n=n, k=k), rel=1e-9)


@machines
def test_average_power_is_the_limit_where_the_clock_drops(device: str) -> None:
    """And below it at full clock; above it only at the lowest clock there is."""
    random = np.random.default_rng(5)
    count = 500
    sizes = {name: np.floor(np.exp(random.uniform(0, np.log(8192), count))) for name in "mnk"}
    limit = hwsim.device(device).power.limit_w * np.exp(random.uniform(np.log(0.05), np.log(2), count))
    found = product(device, {"device.power.limit": limit}, b=4, **sizes)
    floor = coefficients_for(hwsim.device(device))["clock_floor"]
    full, lowest = found.clock_scale == 1.0, found.clock_scale == floor
    between = ~full & ~lowest
    assert full.any()
    assert between.any()
    np.testing.assert_allclose(found.average_power_w[between], limit[between], rtol=1e-9)
    assert never_more(found.average_power_w[full], limit[full])
    assert np.all(found.clock_scale >= floor)
    assert np.all(found.breakdown_s["power"][full] == 0)
    assert np.all(found.breakdown_s["power"][~full] >= 0)


@machines
def test_a_machine_that_stays_under_its_limit_runs_at_full_clock(device: str) -> None:
    found = product(device, {"device.power.limit": FREE_W}, b=1, m=2048, n=2048, k=2048)
    assert found.clock_scale == 1.0
    assert found.breakdown_s["power"] == 0.0


@machines
def test_what_power_costs_is_the_time_beyond_the_nominal_clock(device: str) -> None:
    limit = {"device.power.limit": 0.4 * hwsim.device(device).power.limit_w}
    slow = product(device, limit, b=8, m=4096, n=4096, k=4096)
    free = product(device, {"device.power.limit": FREE_W}, b=8, m=4096, n=4096, k=4096)
    assert slow.clock_scale < 1.0
    assert slow.breakdown_s["power"] == pytest.approx(slow.latency_s - free.latency_s)
    for part in ("compute", "memory", "overhead"):
        assert slow.breakdown_s[part] == pytest.approx(free.breakdown_s[part])


@machines
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_lower_limit_never_costs_more_dynamic_energy(device: str, seed: int) -> None:
    """Voltage falls with the clock down to the knee, so operations get cheaper; static power runs longer, so
    the total may rise. DRAM energy is the same at any clock.
    """
    random = np.random.default_rng(seed)
    sizes = {name: np.floor(np.exp(random.uniform(0, np.log(8192), 40))) for name in "mnk"}
    limit = hwsim.device(device).power.limit_w * np.exp(random.uniform(np.log(0.2), np.log(1.5), 40))
    high = product(device, {"device.power.limit": limit}, b=4, **sizes)
    low = product(device, {"device.power.limit": limit * random.uniform(0.3, 1, 40)}, b=4, **sizes)
    assert never_more(low.energy_dynamic_j, high.energy_dynamic_j)
    assert never_more(high.energy_static_j, low.energy_static_j)
    np.testing.assert_allclose(low.energy_by_j["dram"], high.energy_by_j["dram"], rtol=1e-12)


@machines
def test_below_the_knee_a_slower_clock_saves_no_more_energy(device: str) -> None:
    knee = coefficients_for(hwsim.device(device))["clock_knee"]
    limit = {"device.power.limit": 1e-3 * hwsim.device(device).power.limit_w}
    free = product(device, {"device.power.limit": FREE_W}, b=8, m=4096, n=4096, k=4096)
    slow = product(device, limit, b=8, m=4096, n=4096, k=4096)
    assert slow.clock_scale == coefficients_for(hwsim.device(device))["clock_floor"]
    assert slow.energy_by_j["compute"] == pytest.approx(free.energy_by_j["compute"] * knee**2)


def test_attention_throttles_like_products_do() -> None:
    sizes = {"batch": 64, "sets": 32, "group": 1, "q": 4096, "k": 4096, "d": 128}
    found = hwsim.estimate(CAUSAL, "l4", stack="engine", overrides={"device.power.limit": "50 W"}, **sizes)
    assert found.clock_scale < 1.0
    assert found.average_power_w == pytest.approx(50.0)


def test_static_power_above_the_limit_leaves_the_lowest_clock() -> None:
    found = product("h100-sxm", {"device.power.limit": 10.0}, b=1, m=512, n=512, k=512)
    assert found.clock_scale == coefficients_for(hwsim.device("h100-sxm"))["clock_floor"]
    assert np.isfinite(found.latency_s)


def test_power_above_its_limit_at_the_lowest_clock_is_said() -> None:
    asked = {"batch": 8, "dtype": "fp16"}
    fine = hwsim.estimate("bert-base", "l4", **asked)
    assert not any("lowest clock" in text for text in fine.warnings)
    hot = hwsim.estimate("bert-base", "l4", overrides={"device.power.limit": "14 W"}, **asked)
    assert hot.average_power_w > 14
    assert any("lowest clock" in text for text in hot.warnings)
