"""Pareto fronts against the definition, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hwsim.sweeps.pareto import front

Costs = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def by_definition(costs: Costs) -> list[int]:
    return [
        i
        for i, one in enumerate(costs)
        if not np.isnan(one).any() and not np.any(np.all(costs <= one, axis=1) & np.any(costs < one, axis=1))
    ]


few = st.integers(0, 4).map(float)


@given(
    st.integers(1, 5).flatmap(
        lambda d: arrays(float, st.tuples(st.integers(0, 40), st.just(d)), elements=few)
    )
)
def test_the_front_is_what_the_definition_says_ties_included(costs: Costs) -> None:
    assert front(costs).tolist() == by_definition(costs)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", ["cube", "sphere", "lattice"])
def test_the_front_of_many_points_is_what_the_definition_says(objectives: int, shape: str) -> None:
    draw = np.random.default_rng(objectives)
    costs = draw.random((2000, objectives))
    if shape == "sphere":
        costs = 1 - costs / np.linalg.norm(costs, axis=1, keepdims=True)
    if shape == "lattice":
        costs = np.floor(costs * 12)
    assert front(costs).tolist() == by_definition(costs)


def test_what_is_not_a_number_is_on_no_front_and_infinity_may_be() -> None:
    costs = np.array([[1.0, np.nan], [2.0, 2.0], [3.0, 1.0], [np.inf, 0.5], [np.inf, np.inf]])
    assert front(costs).tolist() == [1, 2, 3]


def test_equal_points_are_on_the_front_together() -> None:
    assert front(np.ones((7, 3))).tolist() == list(range(7))


def test_the_front_of_no_points_is_empty() -> None:
    assert front(np.zeros((0, 2))).tolist() == []
