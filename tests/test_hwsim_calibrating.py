"""`hwsim calibrate --from`: own rows move estimates, files land where they are found, errors help."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import cli
import hwsim
from hwsim.errors import HwsimError
from hwsim.fitted import coefficients_for, user_folder
from tests.test_hwsim_fitting import measured

TIMES = {"dram_efficiency": 0.6, "kernel_ramp_s": 9e-6}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder, empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return user_folder()


def test_own_rows_move_the_device_and_no_other(tmp_path: Path, own: Path) -> None:
    measured(tmp_path, TIMES)
    found = hwsim.calibrate(tmp_path / "gemm.csv")
    assert {path.name for path in found.files} == {"a100-80gb-sxm.toml", "h200-sxm.toml"}
    assert all(path.parent == own for path in found.files)
    assert all(row.after < 0.05 < row.before for row in found.rows)
    near = coefficients_for(hwsim.device("h200-sxm"))
    assert near["dram_efficiency"] == pytest.approx(0.6, rel=0.1)
    assert near.tier == "measured on this device"
    assert coefficients_for(hwsim.device("l4"))["dram_efficiency"] > 0.7


def test_a_generation_is_one_file_for_all_its_devices(tmp_path: Path, own: Path) -> None:
    found = hwsim.calibrate(measured(tmp_path, TIMES) / "gemm.csv", scope="generation")
    assert {path.name for path in found.files} == {"ampere.toml", "hopper.toml"}
    assert coefficients_for(hwsim.device("h100-sxm"))["dram_efficiency"] == pytest.approx(0.6, rel=0.1)


def test_several_devices_do_not_fit_one_file(tmp_path: Path) -> None:
    source = measured(tmp_path, {}) / "gemm.csv"
    with pytest.raises(
        HwsimError, match=r"one file, and a100-80gb-sxm, h200-sxm were measured; give a folder"
    ):
        hwsim.calibrate(source, out=tmp_path / "one.toml")


def test_a_file_of_unknown_devices_says_so(tmp_path: Path) -> None:
    lines = ["device,dtype,m,n,k,latency_us", *(["no such card,bfloat16,512,512,512,9"] * 9)]
    (tmp_path / "strange.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(HwsimError, match="no row of a known GPU with a measured time"):
        hwsim.calibrate(tmp_path / "strange.csv")


def test_the_command_prints_errors_before_and_after(tmp_path: Path, own: Path) -> None:
    source = measured(tmp_path, TIMES) / "gemm.csv"
    done = CliRunner().invoke(cli.app, ["calibrate", "--from", str(source), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0
    assert "before" in done.output
    assert (tmp_path / "out" / "h200-sxm.toml").is_file()
    assert not own.exists()


def test_the_same_file_gives_the_same_values(tmp_path: Path, own: Path) -> None:
    source = measured(tmp_path, TIMES) / "gemm.csv"
    one, two = (hwsim.calibrate(source, out=tmp_path / name) for name in ("a", "b"))
    assert list(one.values) == list(two.values)
    assert np.allclose(list(one.values.values()), list(two.values.values()), rtol=0)
