"""Fitting: what was measured comes back, no reported row was fitted, shipped files hold a sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hwsim
from benchmarks.validation_page import unfitted
from devices import device, stack
from graphs import kernels
from hwsim.fitted import coefficients_for
from hwsim.fitting import log_errors, spread_of
from hwsim.fitting_gpus import FREE, SOURCES, Source, draw, fit_gpus, fitted_rows, without, write
from hwsim.measurements.gemm import REPLAY
from hwsim.measurements.predicting import predict

GEMMS = (Source(file="gemm.csv", ops=lambda op: True, rows=40, least_s=0.0),)
NAMES = {"a100-80gb-sxm": "NVIDIA A100-SXM4-80GB", "h200-sxm": "NVIDIA H200"}


def measured(folder: Path, coefficients: dict[str, float]) -> Path:
    """A file of GEMM times that the simulator itself made, with some coefficients changed."""
    draws = np.random.default_rng(1)
    powers = ((0, 13), (11, 15), (11, 15))  # weights too large for any cache
    m, n, k = (2.0 ** draws.integers(low, high, 60) for low, high in powers)
    lines = ["device,dtype,m,n,k,latency_us"]
    for id, name in NAMES.items():
        made = hwsim.estimate(
            kernels.gemm("bf16"), id, stack=stack("kernel"), warm=REPLAY.warm, m=m, n=n, k=k,
            overrides={f"coefficient.{key}": value for key, value in coefficients.items()},
        )  # fmt: skip
        times = (made.latency_s + REPLAY.added_s) * 1e6
        lines += [f"{name},bfloat16,{a},{b},{c},{t}" for a, b, c, t in zip(m, n, k, times, strict=True)]
    (folder / "gemm.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_fit_finds_the_coefficients_that_made_the_measurements(tmp_path: Path) -> None:
    folder = measured(tmp_path, {"dram_efficiency": 0.7, "kernel_ramp_s": 9e-6})
    made = fit_gpus(draw(folder, GEMMS), iterations=12)
    assert made.values["dram_efficiency", ""] == pytest.approx(0.7, rel=0.1)
    assert made.values["kernel_ramp_s", ""] == pytest.approx(9e-6, rel=0.15)
    assert spread_of(made.errors()) < 0.1


def test_a_device_left_out_has_no_row_in_the_fit(tmp_path: Path) -> None:
    samples = without(draw(measured(tmp_path, {}), GEMMS), "h200-sxm")
    assert {sample.device.id for sample in samples} == {"a100-80gb-sxm"}


def test_drawing_twice_gives_the_same_rows(tmp_path: Path) -> None:
    folder = measured(tmp_path, {})
    one, two = draw(folder, GEMMS), draw(folder, GEMMS)
    assert all(np.array_equal(a.at, b.at) for a, b in zip(one, two, strict=True))


def test_written_files_carry_value_source_and_residual(tmp_path: Path) -> None:
    made = fit_gpus(draw(measured(tmp_path, {}), GEMMS), iterations=2)
    paths = write(made, made.errors(), tmp_path)
    names = ("simt", "hbm", "nvidia", "ampere", "hopper")
    assert {path.name for path in paths} == {f"{name}.toml" for name in names}
    text = (tmp_path / "ampere.toml").read_text()
    assert "a100-80gb-sxm" in text
    assert "mean absolute error" in text


def test_every_fitted_coefficient_is_one_of_the_engine() -> None:
    assert set(FREE) <= set(coefficients_for(device("a100-80gb-sxm")).values)


def test_shipped_coefficients_hold_a_fresh_sample(shared_folder: Path) -> None:
    """Rows drawn with another seed than the fit's: the median error stays below a quarter."""
    gemm = tuple(source for source in SOURCES if source.file == "aiconfigurator/gemm.csv.gz")
    samples = draw(shared_folder / "measurements", gemm, seed=7)
    errors = np.concatenate([log_errors(sample, {}) for sample in samples])
    assert np.median(np.abs(np.expm1(errors))) < 0.25


@pytest.mark.slow
def test_rows_of_the_fit_are_known_and_are_none_of_those_drawn_beside_them(shared_folder: Path) -> None:
    """Whole models: only inference is fitted, and with every row of it known none is left to report."""
    folder = shared_folder / "measurements"
    made = predict(folder / "neusight/e2e_fp32.csv")
    fitted = fitted_rows(folder, "neusight/e2e_fp32.csv")
    inference = frozenset(row for row, op in enumerate(made.ops) if op.endswith(" inf"))
    assert fitted < inference
    assert len(fitted) > 30
    reported = [line for line in unfitted("neusight/e2e_fp32.csv", made, inference, 0.0) if " inf " in line]
    assert reported == []


def test_a_coefficient_of_a_generation_is_pulled_to_that_of_all(tmp_path: Path) -> None:
    """One device made the measurements faster than the other: its generation moves, the other one stays."""
    samples = draw(measured(tmp_path, {"kernel_ramp_s": 9e-6}), GEMMS)
    only = [one for one in samples if one.device.id == "h200-sxm"]
    made = fit_gpus(only, iterations=8)
    assert ("kernel_ramp_s", "hopper") in made.values
    assert ("kernel_ramp_s", "ampere") not in made.values
    assert made.of(device("h100-sxm"))["kernel_ramp_s"] == made.values["kernel_ramp_s", "hopper"]
    assert made.of(device("l4"))["kernel_ramp_s"] == made.values["kernel_ramp_s", ""]
