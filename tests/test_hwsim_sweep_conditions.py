"""Constraints and objectives as text: units, short names, paths, and nothing that runs."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hwsim.errors import HwsimError
from hwsim.sweeps.conditions import condition, objective

KNOWN = ("latency_s", "energy_j", "fits", "peak_memory_bytes", "batch", "device.memory.dram.bandwidth")
COLUMNS = {
    "latency_s": np.array([0.01, 0.05, 0.2]),
    "energy_j": np.array([3.0, 2.0, 1.0]),
    "fits": np.array([True, True, False]),
    "batch": np.array([1.0, 2.0, 4.0]),
    "device.memory.dram.bandwidth": np.array([1e12, 2e12, 3e12]),
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("fits", [1, 1, 0]),
        ("latency < 50ms", [1, 0, 0]),
        ("latency <= 50 ms", [1, 1, 0]),
        ("latency_s < 0.05", [1, 0, 0]),
        ("energy < 2.5 J and fits", [0, 1, 0]),
        ("fits and latency < 20ms or energy < 1.5", [1, 0, 1]),
        ("fits == 0", [0, 0, 1]),
        ("device.memory.dram.bandwidth >= 2 TB/s", [0, 1, 1]),
        ("energy / latency < 50W", [0, 1, 1]),
        ("latency / batch < 26ms", [1, 1, 0]),
        ("max(latency, 100ms) > 0.1", [0, 0, 1]),
        ("2*energy - 1 > 2", [1, 1, 0]),
    ],
)
def test_conditions_hold_where_they_say(text: str, holds: list[int]) -> None:
    formula = condition(text, KNOWN)
    found = formula.value({name: COLUMNS[name] for name in formula.columns})
    assert found.astype(int).tolist() == holds
    assert (formula.excess(COLUMNS) == 0).astype(int).tolist() == holds


def test_the_excess_grows_with_how_far_a_condition_is_missed() -> None:
    excess = condition("latency < 20ms", KNOWN).excess(COLUMNS)
    assert excess[0] == 0 < excess[1] < excess[2]
    assert condition("latency < 50ms", KNOWN).excess(COLUMNS)[1] > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latancy < 5ms", "no column 'latancy'; did you mean 'latency'"),
        ("latency", "cannot be read; write it like 'latency < 50ms and fits'"),
        ("__import__('os').system('true') < 1", "no column '__import__'"),
        ("latency.__class__ < 1", "no column 'latency.__class__'"),
        ("(lambda: 0)() < 1", "no column 'lambda'"),
        ("latency < 5 parsecs", "no column 'parsecs'"),
    ],
)
def test_what_is_no_condition_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(HwsimError, match=re.escape(message)) as refused:
        condition(text, KNOWN)
    assert "\n" not in str(refused.value)


def test_objectives_are_columns_or_expressions_and_less_is_better_in_costs() -> None:
    product = objective("energy * latency", KNOWN, largest=False)
    assert product.cost(COLUMNS) == pytest.approx([0.03, 0.1, 0.2])
    rate = objective("batch / latency", KNOWN, largest=True)
    assert rate.cost(COLUMNS) == pytest.approx([-100, -40, -20])
    assert objective("latency", KNOWN, largest=False).name == "latency_s"
