"""GPUs from what drivers tell: reports as a driver would give them, read from folders and texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devices import DeviceError, device
from devices.detect import detect_all, survey, whole_cpu
from devices.drivers import amd, apple, gfx, nvidia_architecture, reported
from devices.reported import Reported, device_of

CARD = Reported(
    name="NVIDIA Imaginary 9000",
    told_by="NVML",
    architecture="sm_86",
    lanes=12800,
    clock_hz=1.5e9,
    memory_byte=20e9,
    memory_clock_hz=8e9,
    bus_bit=320,
    limit_w=260.0,
    host_link_byte_per_s=31.5e9,
)


def kfd(folder: Path, **changes: int) -> tuple[Path, Path]:
    """A topology folder with one CPU node and one GPU node of eight units."""
    nodes, drm = folder / "nodes", folder / "drm"
    gpu = nodes / "1"
    (gpu / "mem_banks" / "0").mkdir(parents=True)
    (gpu / "caches" / "0").mkdir(parents=True)
    (nodes / "0").mkdir()
    (nodes / "0" / "properties").write_text("cpu_cores_count 8\nsimd_count 0\nvendor_id 0\n")
    told = {
        "simd_count": 32,
        "simd_per_cu": 4,
        "max_engine_clk_fcompute": 1700,
        "gfx_target_version": 90010,
        "vendor_id": 4098,
        "drm_render_minor": 128,
        **changes,
    }
    (gpu / "properties").write_text("".join(f"{key} {value}\n" for key, value in told.items()))
    bank = {"heap_type": 1, "size_in_bytes": 68702699520, "width": 4096, "mem_clk_max": 1600}
    text = "".join(f"{key} {value}\n" for key, value in bank.items())
    (gpu / "mem_banks" / "0" / "properties").write_text(text)
    (gpu / "caches" / "0" / "properties").write_text("level 2\nsize 8192\n")
    card = drm / "renderD128" / "device"
    (card / "hwmon" / "hwmon3").mkdir(parents=True)
    (card / "hwmon" / "hwmon3" / "power1_cap").write_text("300000000\n")
    return nodes, drm


def test_a_known_name_is_its_profile() -> None:
    card = device_of(Reported(name="Tesla T4", told_by="NVML"))
    assert card == device("t4")


def test_what_differs_in_this_very_card_is_taken_from_the_driver() -> None:
    told = Reported(name="Tesla T4", told_by="NVML", limit_w=60.0, memory_byte=15e9, lanes=2560)
    card = device_of(told)
    assert card.id == "t4"
    assert card.power.limit_w == 60.0
    assert card.memory.dram is not None
    assert card.memory.dram.capacity_byte == 15e9
    assert card.compute == device("t4").compute
    assert card.sources["power"].endswith("limit as NVML reports")


def test_a_card_with_fewer_units_has_lower_peaks() -> None:
    told = Reported(name="Apple M2 Max", told_by="system_profiler", units=30)
    assert device_of(told).peak("fp32")[1] == pytest.approx(13.6e12 * 30 / 38)


def test_an_unknown_card_is_built_from_its_architecture() -> None:
    card = device_of(CARD)
    assert card.id == "nvidia-imaginary-9000"
    assert (card.kind, card.engine, card.generation, card.year) == ("gpu", "simt", "ampere", None)
    assert card.compute.units == 100.0
    assert card.peak("fp16") == ("fp16", pytest.approx(100 * 1024 * 1.5e9))
    assert card.vector_peak("fp32") == ("fp32", pytest.approx(100 * 256 * 1.5e9))
    assert card.memory.dram is not None
    assert card.memory.dram.bandwidth_byte_per_s == pytest.approx(320 / 8 * 16e9)
    assert card.power.limit_w == 260.0
    assert "NVML" in card.sources["compute"]


def test_built_cards_come_close_to_the_profiles_of_the_same_cards() -> None:
    told = Reported(
        name="a card of unknown name",
        told_by="NVML",
        architecture="sm_80",
        lanes=6912,
        clock_hz=1.41e9,
        memory_byte=85e9,
        memory_clock_hz=1.593e9,
        bus_bit=5120,
        limit_w=400.0,
    )
    built, profile = device_of(told), device("a100-80gb-sxm")
    for dtype in ("fp16", "bf16", "tf32", "int8", "fp64"):
        assert built.peak(dtype)[1] == pytest.approx(profile.peak(dtype)[1], rel=0.03)
    assert built.memory.dram is not None
    assert built.memory.dram.bandwidth_byte_per_s == pytest.approx(2039e9, rel=0.01)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            Reported(name="Voodoo 2", told_by="NVML", architecture="sm_10"),
            "GPU 'Voodoo 2': no profile of that name, and architecture 'sm_10' is not in architectures.toml",
        ),
        (
            Reported(name="Apple M9", told_by="system_profiler", units=10),
            "GPU 'Apple M9': no profile of that name, and architecture 'not told' is not in",
        ),
        (
            Reported(name="X", told_by="NVML", architecture="sm_86", lanes=1280, clock_hz=1e9),
            "and NVML does not tell its memory, memory clock, bus, power limit; write one in TOML",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(told: Reported, message: str) -> None:
    with pytest.raises(DeviceError) as refused:
        device_of(told)
    assert message in str(refused.value)


def test_geforce_cards_take_the_halved_rates() -> None:
    assert nvidia_architecture("NVIDIA GeForce RTX 4090", 8, 9) == "sm_89-geforce"
    assert nvidia_architecture("NVIDIA L4", 8, 9) == "sm_89"
    assert nvidia_architecture("NVIDIA GeForce GTX 1080 Ti", 6, 1) == "sm_61"


def test_versions_of_amd_chips_are_read_as_their_names() -> None:
    assert [gfx(version) for version in (90008, 90010, 90402, 90500, 110000)] == [
        "gfx908",
        "gfx90a",
        "gfx942",
        "gfx950",
        "gfx1100",
    ]


def test_amd_gpus_are_read_from_the_topology_folder(tmp_path: Path) -> None:
    nodes, drm = kfd(tmp_path)
    (told,) = amd(nodes, drm)
    assert (told.name, told.architecture, told.units, told.limit_w) == ("AMD gfx90a", "gfx90a", 8, 300.0)
    card = device_of(told)
    assert card.peak("fp16")[1] == pytest.approx(8 * 1024 * 1.7e9)
    assert card.memory.l2 is not None
    assert card.memory.l2.capacity_byte == 8 * 2**20
    assert card.memory.dram is not None
    assert card.memory.dram.bandwidth_byte_per_s == pytest.approx(1638.4e9)


def test_an_amd_gpu_with_a_product_name_is_its_profile(tmp_path: Path) -> None:
    nodes, drm = kfd(tmp_path, simd_count=416)
    (drm / "renderD128" / "device" / "product_name").write_text("AMD Instinct MI210\n")
    (told,) = amd(nodes, drm)
    assert device_of(told).id == "mi210"
    assert device_of(told).compute == device("mi210").compute


def test_no_folder_and_no_driver_mean_no_gpu(tmp_path: Path) -> None:
    assert amd(tmp_path / "none", tmp_path) == []


def test_apple_gpus_are_read_from_the_profiler() -> None:
    cards = [
        {"_name": "Apple M2 Max", "sppci_model": "Apple M2 Max", "sppci_cores": "38"},
        {"_name": "AMD Radeon Pro", "sppci_model": "AMD Radeon Pro 5500M"},
    ]
    (told,) = apple(json.dumps({"SPDisplaysDataType": cards}), 96e9)
    assert device_of(told) == device("m2-max-gpu")


def test_a_survey_holds_the_cpu_and_every_gpu_or_a_line_of_why_not() -> None:
    here = survey()
    assert here.devices[0].id == "local"
    assert len(here.devices) - 1 + len(here.skipped) == len(reported())
    assert detect_all() == list(here.devices)


def test_a_whole_cpu_of_the_catalogue_is_its_profile_with_the_ram_of_the_machine() -> None:
    here = whole_cpu("AMD EPYC 7763 64-Core Processor", 64)
    assert here is not None
    assert here.id == "local"
    assert here.compute == device("epyc-7763").compute
    assert here.memory.dram != device("epyc-7763").memory.dram


def test_a_slice_of_a_cpu_and_an_unknown_cpu_are_not_matched() -> None:
    assert whole_cpu("AMD EPYC 7763 64-Core Processor", 2) is None
    assert whole_cpu("Tesla T4", 40) is None
    assert whole_cpu("", 1) is None
