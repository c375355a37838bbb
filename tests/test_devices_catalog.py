"""Laws over the folder of profiles, and how a device is found by name."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from devices import Device, DeviceError, device, devices
from devices.balance import peak_power_w, ridge_flop_per_byte, vector_power_w
from devices.catalog import user_folder

ALL = devices()
IDS = [one.id for one in ALL]
# Blackwell Ultra gives int8 up for fp4.
CUT_INTEGERS = ("b300", "gb300")


def each(test_name: str = "one") -> pytest.MarkDecorator:
    return pytest.mark.parametrize(test_name, ALL, ids=IDS)


def number(value: object) -> float:
    assert isinstance(value, float)
    return value


def within(value: float, expected: float, tolerance: float = 0.03) -> bool:
    return abs(value / expected - 1) <= tolerance


def test_the_catalogue_holds_every_kind_and_every_engine() -> None:
    assert {one.kind for one in ALL} == {"gpu", "tpu", "edge", "cpu", "accelerator"}
    assert {one.engine for one in ALL} == {"simt", "systolic", "spatial", "cpu"}
    assert len(ALL) >= 23


def test_devices_of_a_kind_are_those_of_the_whole_list() -> None:
    assert devices("tpu") == [one for one in ALL if one.kind == "tpu"]


@each()
def test_every_number_has_a_source(one: Device) -> None:
    levels = [name for name in ("register", "l1", "l2", "l3", "dram", "host") if getattr(one.memory, name)]
    groups = ["identity", "compute", "power", "energy", *(f"memory.{name}" for name in levels)]
    groups += [f"links.{name}" for name in one.links]
    groups += ["compute.array"] if one.compute.array is not None else []
    groups += ["price"] if one.price.usd_per_hour is not None else []
    assert all(len(one.sources[group]) > 3 for group in groups)


@each()
def test_the_matrix_peak_is_what_the_array_does_in_a_second(one: Device) -> None:
    array = one.compute.array
    if array is None:
        return
    cells = number(array.rows) * number(array.columns) * number(array.count)
    peak = 2 * cells * number(array.macs_per_pe_per_cycle) * number(one.compute.clock_hz)
    assert any(within(number(rate), peak) for rate in one.compute.matrix_flop_per_s.values())


@each()
def test_the_vector_peak_is_lanes_times_clock(one: Device) -> None:
    compute = one.compute
    if compute.lanes_per_unit is None:
        return
    clock = compute.clock_hz if one.engine == "cpu" else compute.boost_clock_hz
    peak = 2 * number(compute.units) * number(compute.lanes_per_unit) * number(clock)
    assert within(number(compute.vector_flop_per_s["fp32"]), peak)


@each()
def test_matrix_units_do_a_power_of_two_per_clock(one: Device) -> None:
    compute = one.compute
    if one.engine != "simt" or "fp16" not in compute.matrix_flop_per_s:
        return
    per_clock = number(compute.matrix_flop_per_s["fp16"]) / number(compute.units) / number(compute.clock_hz)
    assert within(per_clock, 2 ** round(math.log2(per_clock)))


@each()
def test_narrower_types_are_never_slower(one: Device) -> None:
    rates = one.compute.matrix_flop_per_s
    integers = () if one.id in CUT_INTEGERS else ("int8", "int4")
    for chain in (("tf32", "bf16", "fp8", "fp4"), ("tf32", "fp16", *integers), ("fp32", "bf16", *integers)):
        known = [number(rates[dtype]) for dtype in chain if dtype in rates]
        assert known == sorted(known)


@each()
def test_the_ridge_of_the_roofline_is_where_ridges_are(one: Device) -> None:
    fastest = max(
        number(ridge_flop_per_byte(one, dtype)) for dtype in one.compute.matrix_flop_per_s or ["fp32"]
    )
    # The Coral streams its weights over USB: 4 TOP/s over 0.4 GB/s.
    highest = 10_001.0 if one.id == "coral-edge-tpu" else 2_500.0
    assert 1.0 <= fastest <= highest


@each()
def test_power_at_peak_is_near_the_power_limit(one: Device) -> None:
    limit = number(one.power.limit_w)
    matrix = [number(peak_power_w(one, dtype)) / limit for dtype in one.compute.matrix_flop_per_s]
    vector = number(vector_power_w(one)) / limit
    assert 0.4 <= max([*matrix, vector]) <= 4.0


def test_the_boards_known_to_throttle_are_power_limited_at_peak() -> None:
    limited = {one.id for one in ALL if peak_power_w(one, "bf16") > one.power.limit_w}
    assert {"t4", "l4", "h100-sxm", "mi300x"} <= limited
    assert not {"rtx-3090", "p100-pcie", "raspberry-pi-4", "tpu-v3"} & limited


@each()
def test_every_shared_level_is_larger_than_the_one_before_it(one: Device) -> None:
    memory = one.memory
    shared = [memory.l2, memory.l3, memory.dram]
    capacities = [number(level.capacity_byte) for level in shared if level is not None]
    assert capacities == sorted(capacities)
    assert memory.last_level_cache is not None
    assert not memory.last_level_cache.per_unit


@each()
def test_every_on_chip_level_below_the_registers_has_a_bandwidth(one: Device) -> None:
    for level in (one.memory.l1, one.memory.l2, one.memory.l3):
        if level is not None:
            assert level.bandwidth_byte_per_s is not None


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


def test_every_energy_is_a_number_for_every_dtype() -> None:
    for one in ALL:
        assert set(one.compute.matrix_flop_per_s) <= set(one.energy.matrix_j_per_flop)
        assert set(one.compute.vector_flop_per_s) <= set(one.energy.vector_j_per_flop)
