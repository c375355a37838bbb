"""Elasticities of laws that are known: powers come out exactly, levels of cases do not matter."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from hwsim.sweeps.sensitivity import elasticities


def batches(cases: int = 1, *, noise: float = 0.0) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    draw = np.random.default_rng(0)
    for case in range(cases):
        for _ in range(3):
            x, y = draw.uniform(1, 100, 400), draw.uniform(1e9, 1e12, 400)
            cost = 10.0**case * x**1.5 / y * np.exp(noise * draw.normal(size=400))
            yield f"case {case}", {"x": x, "y": y, "still": np.full(400, 3.0), "cost": cost}


def test_a_product_of_powers_gives_its_exponents() -> None:
    first, second = elasticities(batches(), ("y", "x", "still"), ("cost",))
    assert (first.axis, first.elasticity, first.explained) == ("x", pytest.approx(1.5), pytest.approx(1.0))
    assert (second.axis, second.elasticity) == ("y", pytest.approx(-1.0))


def test_cases_have_levels_of_their_own() -> None:
    found = elasticities(batches(4), ("x", "y"), ("cost",))
    assert [one.elasticity for one in found] == pytest.approx([1.5, -1.0])
    assert found[0].explained == pytest.approx(1.0)


def test_noise_is_not_explained() -> None:
    found = elasticities(batches(noise=2.0), ("x", "y"), ("cost",))
    assert found[0].elasticity == pytest.approx(1.5, abs=0.3)
    assert 0.1 < found[0].explained < 0.7


def test_the_swing_is_the_factor_from_end_to_end() -> None:
    first, *_ = elasticities(batches(), ("x", "y"), ("cost",))
    assert first.swing == pytest.approx((first.high / first.low) ** 1.5)


def test_points_without_a_logarithm_are_left_out() -> None:
    x = np.array([0.0, 1.0, 2.0, 4.0, 8.0])
    cost = np.array([5.0, 1.0, 4.0, 16.0, np.nan])
    (found,) = elasticities([("", {"x": x, "cost": cost})], ("x",), ("cost",))
    assert found.elasticity == pytest.approx(2.0)
    assert (found.low, found.high) == (1.0, 4.0)


def test_an_axis_that_never_varies_has_no_elasticity() -> None:
    assert {one.axis for one in elasticities(batches(), ("x", "still"), ("cost",))} == {"x"}
    assert elasticities([], ("x",), ("cost",)) == ()
