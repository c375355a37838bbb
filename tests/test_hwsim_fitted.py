"""Coefficients: which file wins, what a file must say, and what evidence an estimate may claim."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import hwsim
from devices import Device
from hwsim.errors import HwsimError
from hwsim.fitted import FOLDER, coefficients_for, user_folder
from tests.toys import NO_SOFTWARE, stream_graph, toy

BROKEN = {
    "no source": ('scope = "device"\n[overlap]\nvalue = 0.1\n', "names no source"),
    "unknown scope": ('scope = "galaxy"\n', "scope 'galaxy'; it must be one of"),
    "no number": ('scope = "device"\n[overlap]\nvalue = "much"\nsource = "x"\n', "is 'much'; it must be"),
    "negative": ('scope = "device"\n[overlap]\nvalue = -1.0\nsource = "x"\n', "is -1.0; it must be"),
    "not finite": ('scope = "device"\n[overlap]\nvalue = nan\nsource = "x"\n', "is nan; it must be"),
    "true": ('scope = "device"\n[overlap]\nvalue = true\nsource = "x"\n', "is True; it must be"),
    "no TOML": ("scope = ", "cannot be read"),
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the user's own coefficient files."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = user_folder()
    assert folder.is_relative_to(tmp_path)
    folder.mkdir(parents=True)
    return folder


def write(folder: Path, name: str, scope: str, value: float, *, fitted: bool = True) -> None:
    text = f'scope = "{scope}"\nfitted_on = "{"2026-01-01" if fitted else ""}"\n'
    (folder / f"{name}.toml").write_text(f'{text}[overlap]\nvalue = {value}\nsource = "a test"\n')


def test_the_engine_gives_what_nothing_narrower_says(own: Path) -> None:
    found = coefficients_for(hwsim.device("l4"))
    assert found.scopes["overlap"] == "engine"
    assert found.tier == "vendor"  # its kernels start as those of the vendor do


def test_a_narrower_file_wins_for_each_coefficient_it_has(own: Path) -> None:
    """Vendor over engine, generation over vendor, device over generation; the rest stays as it was."""
    device = hwsim.device("t4")
    before = coefficients_for(device)
    for value, (name, scope) in enumerate(
        [("nvidia", "vendor"), ("turing", "generation"), ("t4", "device")], start=1
    ):
        write(own, name, scope, value / 10)
        found = coefficients_for(device)
        assert found["overlap"] == value / 10
        assert found.scopes["overlap"] == scope
        assert found["matrix_efficiency"] == before["matrix_efficiency"]


def test_a_device_of_another_generation_is_left_alone(own: Path) -> None:
    write(own, "turing", "generation", 0.9)
    assert coefficients_for(hwsim.device("l4"))["overlap"] != 0.9
    assert coefficients_for(hwsim.device("t4"))["overlap"] == 0.9


def test_the_users_own_value_wins_over_the_shipped_one_and_leaves_the_rest(own: Path) -> None:
    before = coefficients_for(hwsim.device("h100-sxm"))
    assert (FOLDER / "hopper.toml").is_file()
    write(own, "hopper", "generation", 0.77)
    after = coefficients_for(hwsim.device("h100-sxm"))
    assert after["overlap"] == 0.77
    assert {**after.values, "overlap": before["overlap"]} == before.values


def test_only_what_was_fitted_is_evidence(own: Path) -> None:
    """A prior for one device is still a guess: the estimate rests on what was fitted for its vendor."""
    write(own, "l4", "device", 0.3, fitted=False)
    prior = coefficients_for(hwsim.device("l4"))
    assert prior["overlap"] == 0.3
    assert prior.tier == "vendor"
    write(own, "l4", "device", 0.3)
    assert coefficients_for(hwsim.device("l4")).tier == "measured on this device"


def test_an_estimate_names_its_tier_and_what_it_was_calibrated_with(own: Path) -> None:
    write(own, "l4", "device", 0.3)
    found = hwsim.estimate(stream_graph(), "l4", e=1000)
    assert found.provenance["tier"] == "measured on this device"
    assert found.provenance["calibration"]["overlap"] == "device"


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_one_line_that_names_it(case: str, own: Path) -> None:
    text, message = BROKEN[case]
    (own / "t4.toml").write_text(text)
    with pytest.raises(HwsimError, match=r"t4\.toml") as caught:
        coefficients_for(hwsim.device("t4"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_edited_file_is_read_again(own: Path) -> None:
    write(own, "t4", "device", 0.3)
    assert coefficients_for(hwsim.device("t4"))["overlap"] == 0.3
    write(own, "t4", "device", 0.25)
    stamp = (own / "t4.toml").stat().st_mtime_ns + 10_000_000
    os.utime(own / "t4.toml", ns=(stamp, stamp))
    assert coefficients_for(hwsim.device("t4"))["overlap"] == 0.25


def test_an_unknown_coefficient_is_refused_with_its_nearest(own: Path) -> None:
    with pytest.raises(HwsimError, match="no coefficient 'overlapp'; did you mean 'overlap'"):
        coefficients_for(hwsim.device("t4")).replace({"overlapp": 0.1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("overlap", -0.1), ("overlap", np.nan), ("overlap", 1.5), ("matrix_efficiency", 0.0),
        ("matrix_efficiency", 1.2), ("dram_efficiency", np.array([0.5, 0.0])), ("clock_floor", 0.0),
        ("clock_knee", 2.0), ("cluster_sharing", 0.0), ("unit_byte_per_clock", 0.0),
    ],
)  # fmt: skip
def test_values_outside_their_range_are_refused(name: str, value: object, own: Path) -> None:
    """An efficiency above one would undercut every floor; zero would divide by nothing."""
    with pytest.raises(HwsimError, match=rf"coefficient\.{name} is .*; it must be"):
        coefficients_for(hwsim.device("t4")).replace({name: value})


def test_every_shipped_value_has_a_meaning_and_a_source() -> None:
    import tomllib

    for path in sorted(FOLDER.glob("*.toml")):
        for name, entry in tomllib.loads(path.read_text(encoding="utf-8")).items():
            if isinstance(entry, dict):
                assert entry.get("meaning"), (path.name, name)
                assert entry.get("source"), (path.name, name)


def test_an_engine_without_coefficients_is_one_line(tmp_path: Path) -> None:
    from dataclasses import replace

    device: Device = replace(toy(tmp_path, "simt"), engine="quantum")  # type: ignore[arg-type]
    with pytest.raises(HwsimError, match=r"engine 'quantum' has no coefficients; add hwsim/coefficients"):
        coefficients_for(device)


def test_an_engine_without_module_is_one_line() -> None:
    from hwsim.engines import engine

    with pytest.raises(HwsimError, match=r"no engine 'quantum'; add hwsim/engines/quantum\.py"):
        engine("quantum")


def test_a_coefficient_may_be_set_for_one_estimate(tmp_path: Path) -> None:
    device = toy(tmp_path, "simt")
    half = hwsim.estimate(
        stream_graph(), device, stack=NO_SOFTWARE, e=10**6,
        overrides={"coefficient.dram_efficiency": 0.5, "coefficient.kernel_ramp_s": 0.0,
                   "coefficient.overlap": 0.0},
    )  # fmt: skip
    assert half.latency_s == pytest.approx(12e6 / 0.5e11)
