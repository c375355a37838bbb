"""Searches: near the best that pricing everything finds, the same again from the same seed, and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwsim
from hwsim import HwsimError
from tests.sweeping import BANDWIDTH, RANGES, assert_same, drawn, grid


def searched(folder: Path, **changes: Any) -> dict[str, Any]:
    spec = drawn(folder, 1)
    del spec["sample"], spec["chunk"]
    return {**spec, **changes}


def test_one_objective_comes_near_its_best(tmp_path: Path) -> None:
    spec = searched(tmp_path, minimize=["energy * latency / m"], where=[])
    found = hwsim.sweep(spec, search=200)
    assert len(found) == 200
    ((*_, best),) = [[row["energy_j"] * row["latency_s"] / row["m"] for row in found.best()]]
    sample = hwsim.sweep({**spec, "sample": {"points": 20_000}})
    known = np.min(sample["energy_j"] * sample["latency_s"] / sample["m"])
    assert best < 1.5 * known


def test_several_objectives_come_near_the_front(tmp_path: Path) -> None:
    spec = searched(tmp_path, minimize=["latency"], maximize=["m"], where=["energy < 1mJ"])
    found = hwsim.sweep(spec, search=600)
    front = found.front()
    assert all(row["energy_j"] < 1e-3 for row in front)
    assert max(row["m"] for row in front) >= 60
    fewest = hwsim.sweep({**spec, "sample": {"points": 20_000}}).best("latency")[0]
    assert front[0]["latency_s"] < 1.2 * fewest["latency_s"]


@pytest.mark.parametrize("method", ["tpe", "nsga2"])
def test_the_same_seed_gives_the_same_table_and_another_does_not(tmp_path: Path, method: str) -> None:
    def run(seed: int) -> hwsim.SweepResult:
        return hwsim.sweep(searched(tmp_path, search={"trials": 96, "method": method, "seed": seed}))

    assert_same(run(3), run(3))
    assert not np.array_equal(run(3)["n"], run(4)["n"])


def test_structural_axes_and_lists_are_chosen_from(tmp_path: Path) -> None:
    spec = grid(tmp_path, stack=["eager", "engine"], chunk=None)
    result = hwsim.sweep(spec, search=96)
    assert set(result["m"]) <= {1, 2, 4, 8, 16, 32}
    assert len(set(zip(result["device"], result["stack"], strict=True))) == 4
    assert set(result[BANDWIDTH]) == {0.5e11, 1e11, 2e11}


def test_what_a_model_does_not_allow_is_tried_and_left_out(tmp_path: Path) -> None:
    axes = {**RANGES, "m": {"from": 0, "to": 3}}
    result = hwsim.sweep(searched(tmp_path, axes=axes, impossible="skip"), search=64)
    assert 0 < len(result) < 64
    assert result["m"].min() == 1


@pytest.mark.parametrize("method", ["tpe", "nsga2"])
def test_a_search_is_resumed_to_the_table_of_an_unbroken_one(tmp_path: Path, method: str) -> None:
    spec = searched(tmp_path, search={"trials": 160, "method": method})
    whole, out = hwsim.sweep(spec), tmp_path / "out"
    hwsim.sweep(spec, out=out)
    for number in (3, 4):
        (out / f"part-000000{number}.parquet").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert_same(whole, hwsim.sweep(spec, out=out, resume=True))
    assert all((out / name).stat().st_mtime_ns == changed for name, changed in before.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minimize": []}, "a search needs an objective"),
        ({"axes": {}}, "a search needs axes to choose on"),
        ({"minimize": ["latancy"]}, "no column 'latancy'"),
    ],
)
def test_a_search_without_a_goal_or_a_space_is_refused(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(HwsimError, match=message):
        hwsim.sweep(searched(tmp_path, **changes), search=10)
