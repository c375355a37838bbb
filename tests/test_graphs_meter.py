"""The energy meter: counters of packages, differences over runs, and nothing where nobody tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphs.meter import meter


def package(folder: Path, name: str, joules: float, most: int = 10**9) -> Path:
    here = folder / name
    here.mkdir()
    (here / "energy_uj").write_text(f"{joules * 1e6:.0f}\n")
    (here / "max_energy_range_uj").write_text(f"{most}\n")
    return here / "energy_uj"


def test_a_run_uses_what_the_packages_count_and_parts_are_not_counted_twice(tmp_path: Path) -> None:
    first, second = (package(tmp_path, f"intel-rapl:{n}", 1.0) for n in range(2))
    part = package(tmp_path, "intel-rapl:0:0", 1.0)
    found = meter(tmp_path)
    assert found is not None

    def run() -> None:
        for counter in (first, second, part):
            counter.write_text(str(int(counter.read_text()) + 250_000))

    assert found.joules_of(run, 4) == pytest.approx(0.5)


def test_a_counter_that_begins_again_loses_nothing(tmp_path: Path) -> None:
    counter = package(tmp_path, "intel-rapl:0", 0.000_009, most=9)
    found = meter(tmp_path)
    assert found is not None
    assert found.joules_of(lambda: counter.write_text("2"), 3) == pytest.approx(1e-6)


def test_where_nobody_tells_there_is_no_meter(tmp_path: Path) -> None:
    assert meter(tmp_path) is None
    assert meter(tmp_path / "absent") is None
