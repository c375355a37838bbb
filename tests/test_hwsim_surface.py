"""The surface of a device: near its own measured kernels those decide, away from them the physics does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hwsim
from devices import stack
from graphs import kernels
from hwsim.errors import HwsimError
from hwsim.fitted import coefficients_for, user_folder
from hwsim.measurements.gemm import REPLAY
from hwsim.result import Estimate
from hwsim.surface import Patch, krige

DEVICE, NAME = "a100-80gb-sxm", "NVIDIA A100-SXM4-80GB"
NEAR = {"m": 3000.0, "n": 5000.0, "k": 7000.0}
FAR = {"m": 1.0, "n": 64.0, "k": 64.0}


def product(sizes: dict[str, float] | dict[str, np.ndarray], **asked: object) -> Estimate:
    made = hwsim.estimate(kernels.gemm("bf16"), DEVICE, stack=stack("kernel"), warm=True, **sizes, **asked)
    assert isinstance(made, Estimate)
    return made


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a calibration on large products whose slowdown grows with k, as no coefficient
    does.
    """
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    draws = np.random.default_rng(3)
    powers = ((9, 13), (10, 14), (10, 14))
    m, n, k = (8.0 * np.floor(2.0 ** draws.uniform(low, high, 240) / 8) for low, high in powers)
    times = (product({"m": m, "n": n, "k": k}).latency_s * bump(k) + REPLAY.added_s) * 1e6
    lines = ["device,dtype,m,n,k,latency_us"]
    lines += [f"{NAME},bfloat16,{a},{b},{c},{t}" for a, b, c, t in zip(m, n, k, times, strict=True)]
    (tmp_path / "gemm.csv").write_text("\n".join(lines) + "\n")
    hwsim.calibrate(tmp_path / "gemm.csv")
    return user_folder() / f"{DEVICE}.toml"


def bump(k: np.ndarray | float) -> np.ndarray | float:
    return 1.5 + 0.5 * np.sin(2 * np.log2(k))


def test_near_measured_kernels_estimates_follow_them_and_say_so(own: Path) -> None:
    physics = product(NEAR, overrides={"coefficient.surface_weight": 0.0})
    found = product(NEAR)
    own.unlink()
    truth = product(NEAR).latency_s * bump(NEAR["k"])
    assert abs(found.latency_s / truth - 1) < 0.06
    assert abs(found.latency_s / truth - 1) < abs(physics.latency_s / truth - 1)
    assert found.provenance["tier"] == "measured on this device"
    assert found.provenance["coverage"]["measured_neighbours"] > 0.9
    assert found.log_spread < physics.log_spread / 2


def test_far_from_measured_kernels_the_physics_and_its_interval_stay(own: Path) -> None:
    found, physics = product(FAR), product(FAR, overrides={"coefficient.surface_weight": 0.0})
    assert found.latency_s == pytest.approx(physics.latency_s, rel=0.05)
    assert found.log_spread == pytest.approx(physics.log_spread, rel=0.1)


def test_other_devices_and_kinds_of_kernels_do_not_move(own: Path) -> None:
    stream = hwsim.estimate(kernels.elementwise("add", "bf16", 2), DEVICE, rows=4096, cols=4096)
    assert stream.provenance["coverage"]["measured_neighbours"] == 0.0
    assert coefficients_for(hwsim.device("a100-40gb-pcie")).surface == {}


def test_an_array_of_points_is_the_same_as_one_at_a_time(own: Path) -> None:
    k = np.array([1500.0, 3000.0, 6000.0, 12000.0])
    together = product({**NEAR, "k": k}).latency_s
    apart = [product({**NEAR, "k": float(one)}).latency_s for one in k]
    assert np.allclose(together, apart, rtol=1e-9)


def test_no_measured_kernel_makes_a_product_faster_than_its_peak(own: Path) -> None:
    text = own.read_text()
    lines = text.split("rows = '''")[1].split("'''")[0].splitlines()
    fast = [" ".join([*line.split()[:-1], "0.1"]) for line in lines if line]
    own.write_text(text.replace("\n".join(line for line in lines if line), "\n".join(fast)))
    found = product(NEAR)
    assert found.latency_s > 2 * NEAR["m"] * NEAR["n"] * NEAR["k"] / found.peak_flop_per_s
    assert found.latency_s > found.dram_bytes / found.bandwidth_byte_per_s


def test_a_surface_learned_with_other_coefficients_is_not_used_and_says_so(own: Path) -> None:
    text = own.read_text()
    mark = text.split('learned_with = "')[1].split('"')[0]
    own.write_text(text.replace(mark, "0" * len(mark)))
    found = product(NEAR)
    assert "measured_neighbours" not in found.provenance["coverage"]
    assert any("learned with other coefficients" in one for one in found.warnings)


def test_a_broken_surface_says_how_to_go_on(own: Path) -> None:
    own.write_text(own.read_text().replace("rows = '''\n", "rows = '''\nno numbers here\n", 1))
    with pytest.raises(HwsimError, match=r"cannot be read .* delete that table or run `hwsim calibrate"):
        product(NEAR)


def test_kriging_by_hand() -> None:
    """One neighbour a doubling away, no noise: exp(-1/2) of its value, exp(-1) of its variance explained."""
    mean, explained = krige(np.array([[1.0]]), np.zeros((1, 1, 1)), np.array([[0.3]]), 2.0, 0.0)
    assert mean[0] == pytest.approx(0.3 * np.exp(-0.5))
    assert explained[0] == pytest.approx(np.exp(-1.0))


def test_at_a_measured_size_without_noise_the_measurement_comes_back() -> None:
    sizes = 2.0 ** np.array([[1.0, 8.0], [2.0, 9.0], [4.0, 7.0]])
    patch = Patch(
        sizes=sizes, slowdown=np.array([1.2, 0.9, 1.5]), length=2.0, noise=1e-9, sigma=0.1, reach=1.0,
        learned_with="",
    )  # fmt: skip
    mean, explained = patch.at(sizes)
    assert np.allclose(np.exp(mean), patch.slowdown)
    assert np.allclose(explained, 1.0)
    far, nothing = replace(patch).at(np.array([[1e12, 1e12]]))
    assert abs(far[0]) < 1e-3
    assert nothing[0] < 1e-3
