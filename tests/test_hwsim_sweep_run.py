"""Sweeps in memory and in processes: every row is an estimate; structural axes, constraints, workloads."""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwsim
from graphs.serial import load_graph
from hwsim import HwsimError
from hwsim.fitted import coefficients_for
from hwsim.sweeps.columns import ALL
from hwsim.sweeps.planning import make_plan
from hwsim.sweeps.spec import read_spec, with_flags
from tests.sweeping import BANDWIDTH, assert_same, drawn, grid, saved_graph, write_toml


def close(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-300)
    return bool(one == other)


@pytest.mark.parametrize("place", [0, 511, 512, 1999])
def test_every_row_is_what_estimate_says_of_that_point(tmp_path: Path, place: int) -> None:
    spec = drawn(tmp_path, 2000, columns=list(ALL))
    (row,) = hwsim.sweep(spec).rows([place])
    sizes = {name: row[name] for name in ("m", "n")}
    expected = hwsim.estimate(
        spec["model"], spec["device"], k=256, overrides={BANDWIDTH: row[BANDWIDTH]}, **sizes
    )
    assert all(
        close(row[name], value(expected)) for name, value in ALL.items() if value(expected) is not None
    )
    assert row["cost_usd"] is None
    assert row["feasible"] == (expected.fits and expected.latency_s < 1e-4)


def test_the_same_spec_gives_the_same_table_and_another_seed_does_not(tmp_path: Path) -> None:
    first = hwsim.sweep(drawn(tmp_path, 1500))
    assert_same(first, hwsim.sweep(drawn(tmp_path, 1500)))
    other = hwsim.sweep(drawn(tmp_path, 1500, sample={"points": 1500, "seed": 8}))
    assert not np.array_equal(first["latency_s"], other["latency_s"])


def test_two_processes_give_the_table_that_one_gives(tmp_path: Path) -> None:
    spec = drawn(tmp_path, 5000)
    assert_same(hwsim.sweep(spec, workers=1), hwsim.sweep(spec, workers=2))


def test_structural_axes_come_in_every_combination(tmp_path: Path) -> None:
    result = hwsim.sweep(grid(tmp_path, stack=["eager", "engine"], dtype=["own", "fp16"]))
    assert len(result) == 2 * 2 * 2 * 18
    found = set(zip(result["device"], result["stack"], result["dtype"], strict=True))
    assert len(found) == 8
    assert {dtype for _, _, dtype in found} == {"fp32", "fp16"}
    (row,) = result.rows([17])
    graph, device = load_graph(grid(tmp_path)["model"]), f"{tmp_path}/{row['device']}.toml"
    overrides = {BANDWIDTH: row[BANDWIDTH]}
    expected = hwsim.estimate(
        graph, device, k=256, n=128, m=row["m"], stack=row["stack"], overrides=overrides
    )
    assert row["latency_s"] == expected.latency_s


def test_words_of_a_stack_may_be_an_axis(tmp_path: Path) -> None:
    axes = {"m": [1, 2], "stack.graph_capture": [True, False], "stack.attention_kernel": ["math", "flash"]}
    result = hwsim.sweep(grid(tmp_path, axes=axes))
    assert len(result) == 2 * 2 * 4
    assert set(result["stack.graph_capture"]) == {"True", "False"}


def test_times_multiplies_what_each_device_has(tmp_path: Path) -> None:
    assert sorted(set(hwsim.sweep(grid(tmp_path))[BANDWIDTH])) == [0.5e11, 1e11, 2e11]


def test_joined_names_take_the_same_value(tmp_path: Path) -> None:
    axes = {"device.compute.array.rows, device.compute.array.columns": [8, 16, 32]}
    spec = grid(
        tmp_path, axes=axes, device=str(tmp_path / "toy-systolic.toml"), set={"m": 64, "n": 64, "k": 64}
    )
    result = hwsim.sweep(spec)
    rows, columns = result["device.compute.array.rows"], result["device.compute.array.columns"]
    assert np.array_equal(rows, columns)
    assert np.all(np.diff(result["latency_s"]) < 0)
    assert {one.axis for one in result.sensitivity()} == {"device.compute.array.rows"}


def test_stack_times_and_coefficients_are_axes_like_any_other(tmp_path: Path) -> None:
    axes = {
        "stack.launch": ["0 us", "5 us"],
        "coefficient.dram_efficiency": {"from": 0.5, "to": 1, "count": 3},
    }
    result = hwsim.sweep(grid(tmp_path, axes=axes, set={"m": 1, "n": 4096, "k": 4096}))
    by_launch = (
        result["overhead_s"][result["stack.launch"] > 0] - result["overhead_s"][result["stack.launch"] == 0]
    )
    assert by_launch == pytest.approx(5e-6)
    slow, fast = (result["latency_s"][result["coefficient.dram_efficiency"] == e].min() for e in (0.5, 1))
    assert slow > fast


def test_only_feasible_points_are_kept_when_asked(tmp_path: Path) -> None:
    everything = hwsim.sweep(drawn(tmp_path, 3000))
    kept = hwsim.sweep(drawn(tmp_path, 3000, keep="feasible"))
    feasible = everything["feasible"].astype(bool)
    assert 0 < np.sum(feasible) < 3000
    for name in ("m", BANDWIDTH, "latency_s", "energy_j"):
        assert np.array_equal(kept[name], everything[name][feasible])


def test_the_front_is_of_feasible_points_and_nothing_beats_it(tmp_path: Path) -> None:
    result = hwsim.sweep(drawn(tmp_path, 3000))
    front = result.front()
    latency, energy, feasible = result["latency_s"], result["energy_j"], result["feasible"].astype(bool)
    assert front[0]["latency_s"] == latency[feasible].min()
    for row in front:
        assert row["feasible"]
        beaten = (latency <= row["latency_s"]) & (energy <= row["energy_j"])
        beaten &= (latency < row["latency_s"]) | (energy < row["energy_j"])
        assert not np.any(beaten & feasible)
    assert len(result.front(["latency"], where=[])) == 1
    most = result.front(maximize=["m / latency"], where=[])
    assert most[0]["m"] / most[0]["latency_s"] == (result["m"] / latency).max()


def test_the_best_of_each_group_is_the_best_there(tmp_path: Path) -> None:
    result = hwsim.sweep(grid(tmp_path, where=[]))
    rows = result.best("energy", by=("device", "m"))
    assert len(rows) == 12
    for row in rows:
        group = (result["device"] == row["device"]) & (result["m"] == row["m"])
        assert row["energy_j"] == result["energy_j"][group].min()
    (fastest,) = result.best(maximize="1 / latency")
    assert fastest["latency_s"] == result["latency_s"].min()


def test_time_that_is_all_traffic_has_elasticity_minus_one_to_bandwidth(tmp_path: Path) -> None:
    spec = drawn(tmp_path, 2000, set={"k": 4096, "stack.launch": 0, "stack.dispatch": 0}, where=[])
    axes = {"n": {"from": 4096, "to": 8192}, BANDWIDTH: {"from": "1 GB/s", "to": "2 GB/s"}}
    found = {one.axis: one for one in hwsim.sweep({**spec, "axes": axes}).sensitivity(["latency"])}
    assert found[BANDWIDTH].elasticity == pytest.approx(-1, abs=0.01)
    assert found["n"].elasticity == pytest.approx(1, abs=0.01)
    assert found["n"].explained > 0.99


WORKLOADS = [
    {"name": "one", "share": 3, "set": {"m": 1, "n": 4096}},
    {"name": "many", "set": {"m": 64, "n": 64}},
]


def several(folder: Path, combine: str | None) -> dict[str, Any]:
    spec = grid(folder, axes={BANDWIDTH: ["10 GB/s", "100 GB/s"]}, where=[])
    model = spec.pop("model")
    spec["set"] = {"k": 256}
    spec["workload"] = [{**one, "model": model} for one in WORKLOADS]
    return spec | ({"combine": combine} if combine else {})


def test_workloads_that_are_not_combined_are_cases_of_their_own(tmp_path: Path) -> None:
    result = hwsim.sweep(several(tmp_path, None))
    assert len(result) == 2 * 2 * 2
    assert set(result["workload"]) == {"one", "many"}


@pytest.mark.parametrize(
    ("combine", "latency"),
    [
        ("sum", lambda one, many: 3 * one + many),
        ("geomean", lambda one, many: (one**3 * many) ** 0.25),
        ("worst", lambda one, many: np.maximum(3 * one, many)),
    ],
)
def test_combined_workloads_are_one_row_of_their_shares(tmp_path: Path, combine: str, latency: Any) -> None:
    apart, result = hwsim.sweep(several(tmp_path, None)), hwsim.sweep(several(tmp_path, combine))
    assert len(result) == 4
    one, many = (
        {n: apart[n][apart["workload"] == name] for n in ALL if n in apart.columns}
        for name in ("one", "many")
    )
    assert np.array_equal(result["one_latency_s"], one["latency_s"])
    assert result["latency_s"] == pytest.approx(latency(one["latency_s"], many["latency_s"]))
    assert result["energy_j"] == pytest.approx(latency(one["energy_j"], many["energy_j"]))
    assert np.array_equal(
        result["peak_memory_bytes"], np.maximum(one["peak_memory_bytes"], many["peak_memory_bytes"])
    )
    if combine == "sum":
        assert result["average_power_w"] == pytest.approx(result["energy_j"] / result["latency_s"])
        assert result["samples_per_s"] == pytest.approx(4 / result["latency_s"])


def test_what_a_model_does_not_allow_is_refused_or_left_out(tmp_path: Path) -> None:
    axes = {"m": {"from": 0, "to": 4, "count": 5}, "n": [16, 32]}
    with pytest.raises(HwsimError, match="m=0 is below gemm's least m of 1"):
        hwsim.sweep(grid(tmp_path, axes=axes, set={}))
    result = hwsim.sweep(grid(tmp_path, axes=axes, set={}, impossible="skip"))
    assert len(result) == 2 * 4 * 2
    assert result["m"].min() == 1


def test_combinations_that_are_impossible_are_left_out_and_named(tmp_path: Path) -> None:
    spec = grid(tmp_path, phase=["forward", "decode"])
    with pytest.raises(ValueError, match="phase"):
        hwsim.sweep(spec)
    result = hwsim.sweep({**spec, "impossible": "skip"})
    assert set(result["phase"]) == {"forward"}
    assert "left out" in result.warnings[0]


def test_a_file_a_dict_and_flags_say_the_same(tmp_path: Path) -> None:
    spec = grid(tmp_path)
    path = write_toml(tmp_path / "spec.toml", spec)
    assert_same(hwsim.sweep(spec), hwsim.sweep(path))
    flags = with_flags(path, {"axes": {"m": "1,2"}, "where": None})
    assert len(hwsim.sweep(flags)) == 2 * 2 * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axis": {}}, "sweep: axis: no such key; did you mean 'axes'"),
        ({"device": []}, "device is an empty list"),
        ({"model": []}, "name a model or some [[workload]]s"),
        ({"axes": {"m": {"from": 1, "to": 2}}}, "axis 'm' says neither count nor step; add one, or [sample]"),
        ({"axes": {"m": {"from": 1}}}, "axes.m: give either values, or from and to"),
        ({"axes": {"m": "1:2:3:4:5"}}, "axes.m: '1:2:3:4:5' is no range"),
        ({"axes": {"m": []}}, "axes.m: an axis of no values has no points"),
        ({"sample": {"points": 9}}, "[sample] draws from ranges without count and step, and no axis is one"),
        ({"axes": {"q": [1]}}, "has no open size 'q'; it has b, m"),
        ({"axes": {"k": [1]}}, "'k' is given twice; keep one of its axes or settings"),
        ({"minimize": ["latancy"]}, "no column 'latancy'; did you mean 'latency'"),
        ({"columns": ["latancy"]}, "no column 'latancy'; did you mean 'latency'"),
        ({"combine": "sum"}, "combine says how several [[workload]]s count together"),
        ({"keep": "feasible", "where": []}, "keep = 'feasible' needs constraints"),
        ({"axes": {"m": {"values": [1], "times": True}}}, "axis 'm' says times"),
    ],
)
def test_a_wrong_spec_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(HwsimError, match=re.escape(message)) as refused:
        hwsim.sweep(grid(tmp_path, **changes))
    assert "\n" not in str(refused.value)


def test_a_result_names_the_column_that_is_near(tmp_path: Path) -> None:
    result = hwsim.sweep(grid(tmp_path))
    with pytest.raises(HwsimError, match="no column 'latencys'; did you mean 'latency_s'"):
        result["latencys"]
    with pytest.raises(HwsimError, match="names no objective"):
        hwsim.sweep(grid(tmp_path, minimize=[])).front()


def test_models_are_found_by_name_graph_and_path(tmp_path: Path) -> None:
    spec = grid(tmp_path)
    graph = load_graph(saved_graph(tmp_path))
    assert set(hwsim.sweep(spec)["model"]) == {"gemm"}
    assert set(hwsim.sweep(spec)["device"]) == {"toy-simt", "toy-systolic"}
    assert_same(hwsim.sweep(spec), hwsim.sweep({**spec, "model": graph}))


def test_a_plan_carries_the_coefficients_of_the_machine_that_made_it(tmp_path: Path) -> None:
    changed = {"coefficient.overlap": 0.5}
    plan = make_plan(read_spec(grid(tmp_path, set={"k": 256, "n": 128, **changed})))
    for case in plan.cases:
        known = coefficients_for(case.device).values
        assert {f"coefficient.{name}": value for name, value in known.items()} | changed == case.settings


def test_the_spec_in_the_documentation_is_one() -> None:
    text = (Path(__file__).resolve().parent.parent / "docs" / "sweeps.md").read_text(encoding="utf-8")
    spec = read_spec(tomllib.loads(text.partition("```toml\n")[2].partition("```")[0]))
    assert [name for name, axis in spec.axes.items() if axis.sampled] == ["device.compute.clock"]
    assert (spec.weights, spec.maximize) == (("own", "int4:g128"), ("tokens_per_s",))
