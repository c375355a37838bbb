"""TPU coefficients: shipped ones against rows that no fit used, and a fit that finds what made its rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hwsim.fitting import log_errors, mean_error
from hwsim.fitting_tpus import START, V4, Halves, draw, fit_generation
from hwsim.measurements.predicting import answer


@pytest.fixture(scope="module")
def halves(shared_folder: Path) -> Halves:
    return draw(shared_folder / "measurements", V4)


def test_shipped_coefficients_meet_products_and_vector_work_that_no_fit_used(halves: Halves) -> None:
    """Products within 8 %, each vector operator within 15 %."""
    errors = {one.op: mean_error(log_errors(one, {})) for one in halves.left_out}
    assert len(errors) >= 13
    assert errors.pop("matmul") < 0.08
    assert max(errors.values()) < 0.15


def test_no_row_is_in_both_halves(halves: Halves) -> None:
    left = {one.op: set(one.at.tolist()) for one in halves.left_out}
    for one in halves.fitted:
        assert not left[one.op] & set(one.at.tolist())
        assert abs(len(left[one.op]) - one.at.size) <= 1


def test_a_fit_finds_what_made_its_rows(halves: Halves) -> None:
    """Products timed by the simulator itself with other values: these come back."""
    made = {**START, "dram_efficiency": 0.6, "kernel_ramp_s": 2e-6, "overlap": 0.4}
    (products,) = (one for one in halves.fitted if one.op == "matmul")
    amounts, _ = answer(products.question, products.device, products.at, made)
    found = fit_generation([replace(products, measured_s=amounts[0])], V4, iterations=15)
    assert found.values["dram_efficiency", V4] == pytest.approx(0.6, rel=0.10)  # a prior pulls
    assert found.values["kernel_ramp_s", V4] == pytest.approx(2e-6, rel=0.05)
