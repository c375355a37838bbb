"""How a device is found: by id, by alias, by file, in the folder of the user."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices import DeviceError, device, devices
from devices.catalog import user_folder


def test_devices_of_a_kind_are_those_of_the_whole_list() -> None:
    assert devices("tpu") == [one for one in devices() if one.kind == "tpu"]


def test_hopper_numbers_are_those_of_the_datasheet() -> None:
    h100 = device("h100-sxm")
    assert h100.peak("bf16") == ("bf16", 989.4e12)
    assert h100.peak("fp32") == ("fp32", 66.9e12)
    assert h100.peak("int4") == ("bf16", 989.4e12)
    assert h100.memory.dram is not None
    assert h100.memory.dram.bandwidth_byte_per_s == 3.35e12


def test_a_missing_dtype_runs_as_the_next_one_and_says_so() -> None:
    assert device("t4").peak("bf16") == ("fp16", 65e12)
    assert device("p100-pcie").peak("bf16") == ("fp16", 18.68e12)
    assert device("v100-sxm2-16gb").peak("tf32") == ("fp32", 15.7e12)
    assert device("raspberry-pi-4").peak("fp16") == ("fp32", 48e9)
    assert device("eyeriss-v1").peak("bf16") == ("int16", 67.2e9)
    assert device("tpu-v4").vector_peak("fp16") == ("fp32", 4.3e12)


def test_the_last_level_cache_of_a_chip_without_l2_is_all_its_l1() -> None:
    cache = device("tpu-v3").memory.last_level_cache
    assert cache is not None
    assert cache.capacity_byte == 32 * 2**20


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("nvidia a100-sxm4-80gb", "a100-80gb-sxm"),
        ("NVIDIA A100-PCIE-40GB", "a100-40gb-pcie"),
        ("Tesla T4", "t4"),
        ("T4", "t4"),
        ("NVIDIA L4", "l4"),
        ("Tesla V100-PCIE-32GB", "v100-pcie-32gb"),
        ("TPU v5e", "tpu-v5e"),
    ],
)
def test_a_device_is_found_by_the_names_that_software_prints(name: str, id: str) -> None:
    assert device(name).id == id


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("h100", "no device 'h100'; did you mean 'h100-"),
        ("tpu-v44", "no device 'tpu-v44'; did you mean 'tpu-v4'?"),
        ("energy", "no device 'energy'"),
        ("../devices/t4", "no device '../devices/t4'"),
        ("", "no device ''; `hwsim devices` lists all"),
    ],
)
def test_an_unknown_device_names_near_ones(name: str, message: str) -> None:
    with pytest.raises(DeviceError) as refused:
        device(name)
    assert message in str(refused.value)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"no kind 'gpus'; kinds are .*; did you mean 'gpu'"):
        devices("gpus")  # type: ignore[arg-type]  # what a caller may well type


def test_a_profile_in_the_users_folder_hides_a_built_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = user_folder()
    folder.mkdir(parents=True)
    own = 'extends = "t4"\nname = "My card"\naliases = ["my card"]\nsource = "mine"\n'
    (folder / "mine.toml").write_text(own, encoding="utf-8")
    assert device("my card").name == "My card"
    assert "mine" in [one.id for one in devices()]
    assert device("mine").compute == device("t4").compute


def test_one_alias_in_two_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = user_folder()
    folder.mkdir(parents=True)
    own = 'extends = "t4"\nname = "My card"\naliases = ["NVIDIA L4"]\nsource = "mine"\n'
    (folder / "mine.toml").write_text(own, encoding="utf-8")
    with pytest.raises(DeviceError, match=r"alias 'NVIDIA L4' is in l4.toml and in mine.toml; keep one"):
        device("nvidia l4")
