"""Axes of a sweep: what values lists, ranges and samples stand for, in which order, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import devices
from hwsim.errors import HwsimError
from hwsim.sweeps.axes import Axis, numeric_axis
from hwsim.sweeps.points import STRATUM, Sample, space, unit_samples
from hwsim.sweeps.spec import AxisSpec

BANDWIDTH = "device.memory.dram.bandwidth"


def axis(key: str, spec: Any) -> Axis:
    return numeric_axis(key, AxisSpec.model_validate(spec), devices.device("h100-sxm"))


def values(key: str, spec: Any) -> list[float]:
    found = axis(key, spec).values
    assert found is not None
    return found.tolist()


def test_lists_keep_their_order_and_read_units() -> None:
    assert values("batch", [4, 1, 2]) == [4, 1, 2]
    assert values(BANDWIDTH, ["2 TB/s", 1e12]) == [2e12, 1e12]
    assert values("stack.launch", ["2 us", 0]) == [2e-6, 0]


def test_ranges_count_step_and_double() -> None:
    assert values("batch", {"from": 1, "to": 9, "count": 3}) == [1, 5, 9]
    assert values("batch", {"from": 1, "to": 16, "count": 5, "scale": "log"}) == [1, 2, 4, 8, 16]
    assert values("batch", {"from": 3, "to": 10, "step": 3}) == [3, 6, 9]
    assert values(BANDWIDTH, {"from": "1TB/s", "to": "2TB/s", "step": "500 GB/s"}) == [1e12, 1.5e12, 2e12]
    assert values("seq", {"from": 128, "to": 1000, "doubling": True}) == [128, 256, 512, 1000]


def test_text_is_short_for_the_same() -> None:
    assert values("batch", "1,2, 4") == [1, 2, 4]
    assert values("seq", "128:1000") == [128, 256, 512, 1000]
    assert values("batch", "1:16:5") == [1, 2, 4, 8, 16]
    assert values("batch", "1:9:3:linear") == [1, 5, 9]
    assert values(BANDWIDTH, "1TB/s:4TB/s") == [1e12, 2e12, 4e12]
    drawn = axis("batch", "1:256:log")
    assert (drawn.values, drawn.low, drawn.high, drawn.log) == (None, 1, 256, True)


def test_sizes_and_numbers_of_parts_are_whole_and_each_value_stands_once() -> None:
    assert values("batch", {"from": 1, "to": 3, "count": 9}) == [1, 2, 3]
    assert values("device.compute.units", {"from": 10, "to": 12, "count": 5}) == [10, 11, 12]
    assert values("seq", {"from": 10, "to": 70, "count": 3, "multiple": 32}) == [32, 64]
    assert values("batch", {"from": 1, "to": 2, "count": 3, "whole": False}) == [1, 1.5, 2]
    assert values("expected", {"from": 0.5, "to": 1.5, "count": 3}) == [0.5, 1.0, 1.5]


def test_whole_samples_are_equally_likely_and_reach_both_ends() -> None:
    dice = Axis(names=("x",), low=1, high=6, multiple=1)
    found, counts = np.unique(dice.quantile((np.arange(6000) + 0.5) / 6000), return_counts=True)
    assert found.tolist() == [1, 2, 3, 4, 5, 6]
    assert counts.tolist() == [1000] * 6


def test_log_samples_have_equal_ratios() -> None:
    drawn = Axis(names=("x",), low=1.0, high=1e4, log=True)
    assert drawn.quantile(np.array([0.0, 0.25, 0.5, 1.0])) == pytest.approx([1, 10, 100, 1e4])


@pytest.mark.parametrize(
    ("key", "spec", "message"),
    [
        ("device.memory.dram.bandwith", [1], "no path 'memory.dram.bandwith'; did you mean"),
        (BANDWIDTH, ["2 GB"], "'2 GB' is not a byte_per_s"),
        ("batch", ["many"], "axis 'batch': 'many' is not a quantity"),
        ("batch", [True], "axis 'batch' holds True; it takes numbers"),
        ("batch", {"from": 4, "to": 1, "count": 2}, "it needs from < to"),
        ("batch", {"from": 0, "to": 8, "count": 2, "scale": "log"}, "it needs 0 < from < to"),
        ("batch", {"from": 1, "to": 8, "step": 0}, "has step 0; it must be above 0"),
        ("batch", {"from": 1, "to": 7, "multiple": 8}, "has no multiple of 8 from 1 to 7"),
        ("stack.lunch", [1], "no number 'lunch' in a stack; did you mean 'launch'"),
        ("stacks.launch", [1], "no axis 'stacks.launch'; take a size of the model or"),
        (f"{BANDWIDTH}, device.compute.units", [1], "joins names of different units"),
    ],
)
def test_what_is_no_axis_is_refused_in_one_line(key: str, spec: Any, message: str) -> None:
    with pytest.raises(HwsimError, match=re.escape(message)) as refused:
        axis(key, spec)
    assert "\n" not in str(refused.value)


METHODS = ("random", "lhs", "sobol")


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data())
def test_a_run_of_samples_is_the_same_alone_and_in_the_whole(method: str, data: st.DataObject) -> None:
    points = data.draw(st.sampled_from([1, 2, 100, STRATUM, STRATUM + 1, 3 * STRATUM + 5]))
    sample = Sample(points=points, method=method, seed=data.draw(st.integers(0, 3)))
    start = data.draw(st.integers(0, points - 1))
    stop = data.draw(st.integers(start + 1, points))
    whole = unit_samples(sample, 3, 0, points)
    assert whole.shape == (points, 3)
    assert np.all((whole >= 0) & (whole < 1))
    assert np.array_equal(unit_samples(sample, 3, start, stop), whole[start:stop])


def test_another_seed_gives_other_samples() -> None:
    for method in METHODS:
        one, other = (unit_samples(Sample(points=64, method=method, seed=s), 2, 0, 64) for s in (0, 1))
        assert not np.array_equal(one, other)


def test_a_hypercube_has_one_sample_in_every_slice_of_every_axis() -> None:
    found = unit_samples(Sample(points=1000, method="lhs"), 3, 0, 1000)
    for column in found.T:
        assert np.array_equal(np.sort(np.floor(column * 1000)), np.arange(1000))


def test_sobol_samples_are_balanced() -> None:
    found = unit_samples(Sample(points=2**14, method="sobol"), 2, 0, 2**14)
    counts, _, _ = np.histogram2d(*found.T, bins=[np.linspace(0, 1, 9)] * 2)
    assert np.all(counts == 2**14 / 64)


def test_random_samples_are_uniform_and_independent_although_the_first_axis_is_in_order() -> None:
    found = unit_samples(Sample(points=40_000, method="random", seed=3), 2, 0, 40_000)
    counts, _, _ = np.histogram2d(*found.T, bins=[np.linspace(0, 1, 5)] * 2)
    assert np.max(np.abs(counts - 2500)) < 5 * np.sqrt(2500)
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.02
    assert np.all(np.diff(found[:, 0]) >= 0)


def test_axes_of_few_values_vary_slowest_and_every_point_of_the_product_comes_once() -> None:
    axes = [axis("m", [1, 2, 3]), axis("n", [1, 2]), axis("k", {"from": 1, "to": 9})]
    made = space(axes, Sample(points=4, method="random"))
    assert [one.names for one in made.grid] == [("n",), ("m",)]
    assert made.points == 24
    found = made.at(0, 24)
    assert found["n",].tolist() == [1] * 12 + [2] * 12
    assert found["m",].tolist() == [1] * 4 + [2] * 4 + [3] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert found["k",].tolist() == found["k",][:4].tolist() * 6


@given(start=st.integers(0, 23), stop=st.integers(1, 24))
def test_a_run_of_points_is_the_same_alone_and_in_the_whole(start: int, stop: int) -> None:
    made = space([axis("m", [5, 6, 7]), axis("k", {"from": 1, "to": 9})], Sample(points=8, method="random"))
    whole = made.at(0, 24)
    for name, column in made.at(min(start, stop - 1), stop).items():
        assert np.array_equal(column, whole[name][min(start, stop - 1) : stop])


def test_a_hypercube_that_no_process_could_hold_is_refused() -> None:
    with pytest.raises(HwsimError, match="take method 'sobol' or 'random'"):
        space([axis("m", {"from": 1, "to": 9})], Sample(points=10**8, method="lhs"))
