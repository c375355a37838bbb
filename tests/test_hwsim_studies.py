"""A sweep's table as axes, best points, curves and effects."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwsim.errors import HwsimError
from hwsim.studies import gathering
from hwsim.studies.effects import effects
from hwsim.studies.planes import plane
from hwsim.studies.profiles import Curve, Profile, crossings, groups, profile
from hwsim.studies.reading import read_study
from hwsim.studies.study import Study
from tests.estimates import bert_on, too_large_for_its_device
from tests.studies import BANDWIDTH, BATCH, BYTES, DEVICES, Columns, grid, samples, study

WIDTH = "device.memory.dram.bandwidth"


def best_row(found: Study, objective: int) -> dict[str, Any]:
    at = found.answers[0].best[objective]
    assert at is not None
    return {name: column[at] for name, column in found.columns.items()}


def test_columns_that_are_no_results_are_axes() -> None:
    found = study(grid())
    assert [axis.name for axis in found.axes] == ["device", "batch", WIDTH]
    assert [axis.words for axis in found.axes] == [True, False, False]
    assert tuple(found.axis("batch").values) == BATCH
    assert found.axis("device").middle == "small"
    assert found.gridded


def test_a_column_of_one_value_is_no_axis() -> None:
    columns = grid()
    columns["device"] = np.full(len(columns["device"]), "only", dtype=object)
    found = study(columns)
    assert found.fixed == {"device": "only"}
    assert [axis.name for axis in found.axes] == ["batch", WIDTH]


def test_axes_that_move_together_are_one() -> None:
    columns = grid()
    columns["device.compute.units"] = columns["batch"] * 3
    found = study(columns)
    assert [axis.name for axis in found.axes] == ["device", "batch", WIDTH]
    assert found.axis("batch").followers == ("device.compute.units",)


def test_counts_are_of_all_points() -> None:
    found = study(grid())
    assert (found.rows, found.fitting) == (40, 30)
    assert found.bounds == {bound: int(np.sum(grid()["bound"] == bound)) for bound in found.bounds}
    assert sum(found.bounds.values()) == 40


def test_energy_is_per_sample_where_the_amount_of_work_varies() -> None:
    found = study(grid())
    assert [one.name for one in found.objectives] == ["latency_s", "energy_per_sample_j"]
    assert found.columns["energy_per_sample_j"] == pytest.approx(
        found.columns["energy_j"] / found.columns["batch"]
    )
    one_batch = grid()
    kept = one_batch["batch"] == 2
    found = study({name: column[kept] for name, column in one_batch.items()})
    assert [one.name for one in found.objectives] == ["latency_s", "energy_j"]


def test_the_best_points_fit_in_memory() -> None:
    found = study(grid())
    fastest, leanest = best_row(found, 0), best_row(found, 1)
    assert (fastest["device"], fastest["batch"], fastest[WIDTH]) == ("large", 1, 16e11)
    # 50 W x (4 ms + 0.5 ms / batch) per sample; the largest batch that fits is 4
    assert (leanest["device"], leanest["batch"], leanest[WIDTH]) == ("small", 4, 16e11)
    assert leanest["energy_per_sample_j"] == pytest.approx(50 * (4e-3 + BYTES / 16e11 / 4))


def test_the_front_is_what_no_other_point_beats() -> None:
    found = study(grid())
    (answer,) = found.answers
    first, second = (found.value(one) for one in found.objectives)
    usable = np.flatnonzero(found.usable)
    for at in usable:
        beaten = np.any(
            (first[usable] <= first[at]) & (second[usable] <= second[at])
            & ((first[usable] < first[at]) | (second[usable] < second[at]))
        )  # fmt: skip
        assert beaten != (at in answer.front)


def test_objectives_and_conditions_are_those_of_the_spec() -> None:
    spec = {"minimize": "energy", "maximize": ["samples_per_s/average_power_w"], "where": ["latency < 9ms"]}
    columns = grid(feasible=grid()["latency_s"] < 9e-3)
    found = study(columns, spec=spec)
    assert [(one.name, one.largest) for one in found.objectives] == [
        ("energy_j", False),
        ("samples_per_s/average_power_w", True),
    ]
    assert found.conditions == ("latency < 9ms",)
    assert found.allowed == int(np.sum(columns["feasible"]))
    assert best_row(found, 1)["latency_s"] < 9e-3


def test_a_price_that_is_not_known_is_never_the_least() -> None:
    columns = grid()
    columns["cost_usd"] = np.where(columns["device"] == "large", np.nan, columns["cost_usd"])
    found = study(columns, spec={"minimize": ["latency", "cost"]})
    assert best_row(found, 0)["device"] == "large"
    assert best_row(found, 1)["device"] == "small"


def test_every_model_is_a_question_of_its_own() -> None:
    columns = grid()
    columns["model"] = np.where(np.arange(40) % 2 == 0, "even", "odd").astype(object)
    assert [answer.question for answer in study(columns).answers] == ["even", "odd"]


def test_sizes_that_make_a_question_easier_are_held_at_their_middle() -> None:
    columns = grid()
    columns["context"] = columns.pop("batch")
    columns["fits"] = np.ones(40, dtype=bool)
    found = study(columns)
    assert found.held == {"context": 2.0}
    assert best_row(found, 0)["context"] == 2.0


def test_reading_in_batches_changes_nothing() -> None:
    whole, parts = study(grid()), study(grid(), batches=7)
    assert whole.bounds == parts.bounds
    for one, other in zip(whole.answers, parts.answers, strict=True):
        assert whole.number[one.front].tolist() == parts.number[other.front].tolist()
        assert [whole.number[at] for at in one.best] == [parts.number[at] for at in other.best]


def test_a_large_table_is_sampled_but_its_best_points_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = samples(20_000)
    exact = study(columns)
    monkeypatch.setattr(gathering, "KEPT", 500)
    found = study(columns, batches=9)
    assert not found.whole
    assert 300 < found.sample.sum() < 700
    assert found.rows == 20_000
    assert found.fitting == int(np.sum(columns["fits"]))
    assert sorted(found.number[found.answers[0].front]) == sorted(exact.number[exact.answers[0].front])


def test_lines_through_the_middle_of_a_large_grid_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "KEPT", 4)
    found = study(grid())
    within = groups(found, found.words)
    curves = profile(found, found.axis("batch"), found.objectives[0], within).curves
    assert [tuple(curve.x) for curve in curves] == [BATCH, BATCH]


def test_a_curve_holds_all_other_axes_at_their_middle() -> None:
    found = study(grid())
    within = groups(found, found.words)
    assert [group.label for group in within] == ["small", "large"]
    along = profile(found, found.axis("batch"), found.objectives[0], within)
    assert along.held == {WIDTH: 4e11}
    assert not along.binned
    small = along.curves[0]
    assert small.y == pytest.approx(4e-3 * small.x + BYTES / 4e11)
    assert small.low == pytest.approx(0.8 * small.y)
    assert small.fits.tolist() == [True, True, True, False]


def test_of_samples_a_curve_shows_medians_and_quartiles() -> None:
    found = study(samples(5000))
    along = profile(found, found.axis(WIDTH), found.objectives[0], groups(found, found.words))
    assert along.binned
    assert along.held == {}
    for curve in along.curves:
        expected = DEVICES[curve.label][0] * 4.5 + BYTES / curve.x
        assert curve.y == pytest.approx(expected, rel=0.2)
        assert np.all((curve.low < curve.y) & (curve.y < curve.high))


def a_curve(label: str, y: list[float]) -> Curve:
    values = np.array(y)
    return Curve(
        label=label,
        x=np.array([1.0, 2.0, 4.0]),
        y=values,
        low=values,
        high=values,
        fits=np.ones(3, dtype=bool),
    )


def test_curves_cross_where_their_logarithms_do() -> None:
    found = study(grid())
    flat, steep = a_curve("flat", [2.0, 2.0, 2.0]), a_curve("steep", [1.0, 2 * 2**-0.5, 2 * 2**0.5])
    along = Profile(
        axis=found.axis("batch"), objective=found.objectives[0], curves=(flat, steep), held={}, binned=False
    )
    (crossing,) = crossings(along)
    assert (crossing.before, crossing.after) == (2, 4)
    assert crossing.at == pytest.approx(2 * 2**0.5)
    assert (crossing.below, crossing.above) == ("flat", "steep")
    assert crossings(replace(along, binned=True)) == ()


def test_effects_compare_the_ends_of_an_axis_with_its_middle() -> None:
    found = study(grid())
    by_axis = {one.axis: one for one in effects(found, found.objectives[0])}
    middle = 4e-3 * 2 + BYTES / 4e11
    batch = by_axis["batch"]
    assert (batch.low, batch.high) == (1, 8)
    assert batch.at_low == pytest.approx((4e-3 + BYTES / 4e11) / middle)
    assert batch.at_high == pytest.approx((32e-3 + BYTES / 4e11) / middle)
    device = by_axis["device"]
    assert (device.low, device.high) == ("large", "small")
    assert device.at_low == pytest.approx((2e-3 + BYTES / 4e11) / middle)
    assert [one.size for one in effects(found, found.objectives[0])] == sorted(
        (one.size for one in by_axis.values()), reverse=True
    )


def test_the_elasticity_of_a_power_law_is_its_exponent() -> None:
    columns = grid()
    columns["latency_s"] = columns["batch"] ** 0.7 * columns[WIDTH] ** -0.4
    found = study(columns)
    by_axis = {one.axis: one.elasticity for one in effects(found, found.objectives[0])}
    assert by_axis["batch"] == pytest.approx(0.7)
    assert by_axis[WIDTH] == pytest.approx(-0.4)
    assert by_axis.get("device") is None


def test_a_plane_has_a_cell_for_every_pair_of_values() -> None:
    found = study(grid())
    (small, _) = groups(found, found.words)
    cells = plane(found, found.axis(WIDTH), found.axis("batch"), found.objectives[0], small)
    assert cells.values == pytest.approx(4e-3 * np.array(BATCH)[:, None] + BYTES / np.array(BANDWIDTH))
    assert cells.fits.all(axis=1).tolist() == [True, True, True, False]


def test_of_samples_a_plane_has_bins() -> None:
    found = study(samples(5000))
    cells = plane(
        found, found.axis(WIDTH), found.axis("batch"), found.objectives[0], groups(found, found.words)[0]
    )
    assert cells.binned
    assert cells.values.shape == (10, 10)
    assert cells.x_values.size == 11
    assert cells.values[-1, 0] > 3 * cells.values[0, -1]


def write(folder: Path, columns: Columns) -> Path:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    folder.mkdir()
    half = len(columns["batch"]) // 2
    for number, rows in enumerate((slice(0, half), slice(half, None))):
        part = arrow.table({name: arrow.array(column[rows]) for name, column in columns.items()})
        parquet.write_table(part, folder / f"part-{number:07d}.parquet")
    return folder


def test_a_directory_and_a_file_are_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "swept", grid())
    found = read_study(folder)
    assert (found.name, found.rows) == ("swept", 40)
    assert found.answers[0].best == study(grid()).answers[0].best
    assert read_study(folder / "part-0000000.parquet").rows == 20


def test_a_real_sweep_is_read_with_its_objectives_and_gaps(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import hwsim

    axes = {"batch": [1, 2, 4], "device.memory.dram.bandwidth": ["1 TB/s", "2 TB/s"]}
    spec = {"model": "bert-base", "device": ["h100-sxm", "l4"], "axes": axes, "minimize": ["latency", "cost"]}
    hwsim.sweep(spec, out=tmp_path / "swept")
    found = read_study(tmp_path / "swept")
    assert found.rows == 12
    assert {axis.name for axis in found.axes} == {"device", "batch", WIDTH}
    assert found.gridded
    assert [one.name for one in found.objectives] == ["latency_s", "cost_usd"]
    assert found.notes == ()
    next((tmp_path / "swept").glob("part-*.parquet")).unlink()
    assert any("the sweep is not whole" in note for note in read_study(tmp_path / "swept").notes)


def test_estimates_in_json_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "two.json"
    both = [bert_on("h100-sxm").to_dict(), bert_on("l4", memory_bytes=too_large_for_its_device()).to_dict()]
    path.write_text(json.dumps(both))
    found = read_study(path)
    assert (found.rows, found.fitting) == (2, 1)
    assert [axis.name for axis in found.axes] == ["device"]
    assert found.fixed["model"] == "bert-base"
    path.write_text(json.dumps(both[0]))
    assert read_study(path).rows == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", "{", "is not JSON"),
        ("x.json", '{"schema": "other"}', "holds no estimates"),
        ("x.parquet", "no table", "is no sweep's table"),
        ("x.html", "<p>", "is no sweep's table"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(HwsimError, match=message) as caught:
        read_study(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HwsimError, match=r"no \*\.parquet in"):
        read_study(tmp_path)
    with pytest.raises(HwsimError, match="give a sweep's directory"):
        read_study(tmp_path / "missing")
    empty = {name: column[:0] for name, column in grid().items()}
    with pytest.raises(HwsimError, match="has no rows yet"):
        study(empty)


def test_arrays_in_json_are_refused(tmp_path: Path) -> None:
    document = bert_on("l4").to_dict()
    document["latency_s"]["value"] = [1.0, 2.0]
    (tmp_path / "x.json").write_text(json.dumps(document))
    with pytest.raises(HwsimError, match="a report of many points is made from a sweep's directory"):
        read_study(tmp_path / "x.json")


def test_a_table_without_results_is_refused() -> None:
    axes_only = {"batch": np.arange(3.0)}
    with pytest.raises(HwsimError, match="this is no sweep's table"):
        gathering.study_of(gathering.in_memory(axes_only), name="x")
