"""The energy meter: counters of packages and GPUs, differences over runs, and a word where nobody tells."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from graphs.meter import GPU, PROCESSOR, Counter, Meter, meter, nvml_counters, smi_counters


def package(folder: Path, name: str, joules: float, most: int = 10**9) -> Path:
    here = folder / name
    here.mkdir()
    (here / "energy_uj").write_text(f"{joules * 1e6:.0f}\n")
    (here / "max_energy_range_uj").write_text(f"{most}\n")
    return here / "energy_uj"


def test_a_run_uses_what_the_packages_count_and_parts_are_not_counted_twice(tmp_path: Path) -> None:
    first, second = (package(tmp_path, f"intel-rapl:{n}", 1.0) for n in range(2))
    part = package(tmp_path, "intel-rapl:0:0", 1.0)

    def run() -> None:
        for counter in (first, second, part):
            counter.write_text(str(int(counter.read_text()) + 250_000))

    assert meter(tmp_path).joules_of(run, 4)[PROCESSOR] == pytest.approx(0.5)


def test_a_counter_that_begins_again_loses_nothing(tmp_path: Path) -> None:
    counter = package(tmp_path, "intel-rapl:0", 0.000_009, most=9)
    found = meter(tmp_path).joules_of(lambda: counter.write_text("2"), 3)
    assert found[PROCESSOR] == pytest.approx(1e-6)


def test_where_nobody_tells_the_reason_is_told(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        assert f"processor: no powercap files (RAPL) in {folder}" in meter(folder).missing
    (tmp_path / "intel-rapl:0").mkdir()
    assert any("energy_uj cannot be read (FileNotFoundError)" in why for why in meter(tmp_path).missing)
    assert Meter(counters=(), missing=()).joules_of(lambda: None, 3) == {}


def test_counters_of_one_part_are_summed_and_parts_kept_apart() -> None:
    read = iter((0.0, 10.0, 5.0, 4.0, 13.0, 6.0))
    counters = tuple(Counter(part=part, joules=lambda: next(read)) for part in (GPU, GPU, PROCESSOR))
    found = Meter(counters=counters, missing=()).joules_of(lambda: None, 1)
    assert found == {GPU: pytest.approx((4.0 + 3.0) / 3), PROCESSOR: pytest.approx(1.0 / 3)}


def test_nvml_without_a_driver_is_one_line() -> None:
    """The real library, on a machine without a GPU; with one, it counts upwards."""
    nvml = pytest.importorskip("pynvml")
    counters, why_not = nvml_counters(nvml)
    assert bool(counters) != bool(why_not)
    assert all(one.part == GPU and one.joules() >= 0 for one in counters)
    assert why_not == "" or why_not.startswith("NVIDIA GPUs: ")


def test_power_told_in_watts_is_summed_over_time() -> None:
    """A program that prints as nvidia-smi does: two GPUs, 30 and 70 W."""
    told = (sys.executable, "-c", "print('30.0'); print('70.0')")
    (counter,), why_not = smi_counters(told)
    start = time.perf_counter()
    counter.joules()
    assert 0 < counter.joules() <= 100 * (time.perf_counter() - start)
    assert why_not == ""


def test_a_program_that_tells_no_power_is_one_line() -> None:
    for command in (("no-such-program",), (sys.executable, "-c", "print('N/A')")):
        assert smi_counters(command) == ([], "NVIDIA GPUs: neither NVML nor nvidia-smi here")
