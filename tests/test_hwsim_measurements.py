"""Answering a table of measurements: recognition, order, notes, targets, hostile files, what is written."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graphs import kernels
from hwsim.errors import HwsimError
from hwsim.estimating import estimate
from hwsim.measurements import predicting
from hwsim.measurements.gemm import REPLAY
from hwsim.measurements.predicting import layout_of, layouts, predict
from hwsim.measurements.question import Part, Question, Target
from hwsim.measurements.table import read_table
from hwsim.measurements.writing import write_predictions
from tests.measured import A100, GEMM, answered, first, read_back, silent, table

BARE = replace(REPLAY, added_s=0.0)


def test_the_answer_is_the_estimate_of_the_kernel(tmp_path: Path) -> None:
    made = answered(tmp_path, GEMM, f"{A100},bfloat16,512,1024,2048,20")
    alone = estimate(kernels.gemm("bf16"), "a100-80gb-sxm", m=512, n=1024, k=2048, stack="kernel", warm=True)
    added = REPLAY.added_s
    assert first(made)[0] == pytest.approx(1e6 * (alone.latency_s + added))
    assert made.low["latency_us"][0] == pytest.approx(1e6 * (alone.latency_low_s + added))
    assert made.high["latency_us"][0] == pytest.approx(1e6 * (alone.latency_high_s + added))
    assert (made.devices, made.ops, made.notes) == (["a100-80gb-sxm"], ["gemm bfloat16"], [""])


def test_rows_come_back_in_order_whatever_groups_they_fall_into(tmp_path: Path) -> None:
    lines = [f"{A100},{d},{m},1024,1024,1" for m in (64, 128, 4096) for d in ("fp8", "bfloat16", "odd")]
    path, out = table(tmp_path, GEMM, *lines), tmp_path / "out.csv"
    made = predict(path)
    write_predictions(made, out)
    written = read_back(out)
    assert [",".join(list(row.values())[:6]) for row in written] == lines
    assert [bool(row["predicted_us"]) for row in written] == [True, True, False] * 3
    assert {row["note"] for row in written} == {"", "dtype 'odd' is unknown"}
    values = [float(row["predicted_us"]) for row in written if row["dtype"] == "bfloat16"]
    assert values == sorted(values)


def test_what_is_written_reads_as_what_was_predicted(tmp_path: Path) -> None:
    path, out = table(tmp_path, GEMM, f"{A100},fp16,300,700,900,1"), tmp_path / "out.csv"
    made = predict(path)
    write_predictions(made, out)
    (row,) = read_back(out)
    assert list(row)[-4:] == ["predicted_us", "low_us", "high_us", "note"]
    assert float(row["predicted_us"]) == pytest.approx(first(made)[0], rel=1e-5)
    assert float(row["low_us"]) < float(row["predicted_us"]) < float(row["high_us"])
    again = predict(out)
    assert first(again)[0] == first(made)[0]
    write_predictions(again, out)
    assert float(read_back(out)[0]["hwsim_predicted_us"]) == float(row["predicted_us"])


def test_a_file_is_known_by_its_columns_and_not_by_its_name(tmp_path: Path) -> None:
    path = table(tmp_path, GEMM, f"{A100},fp16,64,64,64,1", name="attention.csv")
    packed = tmp_path / "moe.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    unnamed = tmp_path / "no-ending"
    unnamed.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert [predict(one).layout.name for one in (path, packed, unnamed)] == ["gemm"] * 3
    assert len({first(predict(one))[0] for one in (path, packed, unnamed)}) == 1


def test_the_measured_column_may_be_missing(tmp_path: Path) -> None:
    made = answered(tmp_path, "device,dtype,m,n,k", f"{A100},fp16,64,64,64")
    assert first(made)[0] > 0


def test_the_layout_that_needs_most_columns_is_taken(tmp_path: Path) -> None:
    more = "device,dtype,m,n,k,op,num_tokens,tp,n_embd,ffn_dim"
    assert layout_of(read_table(table(tmp_path, more))).name == "vidur"


def test_no_two_layouts_are_known_by_the_same_columns() -> None:
    every = [needs for one in layouts() for needs in one.needs]
    assert len(set(every)) == len(every) >= 40
    assert all(one.title and one.targets for one in layouts())


def test_unknown_columns_are_an_error_that_names_the_closest_layout(tmp_path: Path) -> None:
    with pytest.raises(HwsimError, match="closest is 'gemm', which also needs k; `hwsim validate --layouts`"):
        predict(table(tmp_path, "device,dtype,m,n", "x,fp16,1,1"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "needs a header line"),
        (b"a,a\n1,2\n", "distinct column names"),
        (b"\xff\xfe\x00", "not a CSV file in UTF-8"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], "is cut off"),
    ],
)
def test_a_file_that_cannot_be_read_says_why_in_one_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "hostile.csv"
    path.write_bytes(content)
    with pytest.raises(HwsimError, match=message) as caught:
        predict(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line() -> None:
    with pytest.raises(HwsimError, match="cannot be read: No such file or directory; check the path"):
        predict("nowhere.csv")


def test_lines_cut_short_or_too_long_are_kept_with_a_note(tmp_path: Path) -> None:
    made = answered(tmp_path, GEMM, f"{A100},fp16,64,64,64,1", f"{A100},fp16,64,64", f"{A100},fp16,1,1,1,1,9")
    assert made.predicted.tolist() == [True, False, False]
    assert made.notes[1] == "line has 4 values for 6 columns; is the file cut off?"
    assert made.notes[2] == "line has 7 values for 6 columns; the last are left out"


@pytest.mark.parametrize("size", ["", "abc", "nan", "inf", "-1", "0", "1e400"])
def test_a_size_that_is_none_is_noted(tmp_path: Path, size: str) -> None:
    made = answered(tmp_path, GEMM, f"{A100},fp16,{size},64,64,1", f"{A100},fp16,64,64,64,1")
    assert made.predicted.tolist() == [False, True]
    assert made.notes == ["a size is missing, negative or zero", ""]


def test_an_unknown_device_is_noted_with_the_nearest(tmp_path: Path) -> None:
    made = answered(tmp_path, GEMM, "NVIDIA H1O0,fp16,64,64,64,1", ",fp16,64,64,64,1")
    assert made.notes[0].startswith("unknown device: no device 'NVIDIA H1O0'")
    assert made.notes[1] == "no device is named"
    assert silent(made) == []


def test_a_table_without_rows_has_no_predictions(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    write_predictions(answered(tmp_path, GEMM), out)
    assert out.read_text() == f"{GEMM},predicted_us,low_us,high_us,note\n"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    made = answered(tmp_path, GEMM, f"{A100},fp16,64,64,64,1")
    with pytest.raises(HwsimError, match=r"cannot be written: .*; choose another place for --out"):
        write_predictions(made, tmp_path / "no" / "such" / "folder.csv")


def _asked(tmp_path: Path, **changes: object) -> predicting.Predictions:
    """A question of one product, changed, as if a layout had put it."""
    path = table(tmp_path, "device,dtype,m,n,k,latency_us,per_s,joule,watt", f"{A100},fp16,64,64,64,1,1,1,1")
    loaded = read_table(path)
    layout = replace(layout_of(loaded), targets=("latency_us", "per_s", "joule", "watt"))
    made = predicting._nothing_yet(loaded, layout)
    one = np.ones(1)
    part = Part(graph=kernels.gemm("fp16"), sizes={"m": 512 * one, "n": 512 * one, "k": 512 * one})
    plain = Question(rows=np.array([0]), device="a100-80gb-sxm", op="x", parts=(part,), protocol=BARE)
    predicting._answer(made, replace(plain, **changes))  # type: ignore[arg-type]
    return made


def test_parts_add_up_and_repeats_count(tmp_path: Path) -> None:
    once = _asked(tmp_path).values["latency_us"][0]
    question_part = Part(graph=kernels.gemm("fp16"), sizes={"m": 512.0, "n": 512.0, "k": 512.0})
    thrice = replace(question_part, repeats=3.0)
    assert _asked(tmp_path, parts=(question_part, thrice)).values["latency_us"][0] == pytest.approx(4 * once)
    taken_off = replace(question_part, repeats=-1.0)
    assert _asked(tmp_path, parts=(thrice, taken_off)).values["latency_us"][0] == pytest.approx(2 * once)


def test_what_the_method_adds_is_added_once(tmp_path: Path) -> None:
    once = _asked(tmp_path).values["latency_us"][0]
    slow = _asked(tmp_path, protocol=replace(REPLAY, added_s=1e-3)).values["latency_us"][0]
    assert slow == pytest.approx(once + 1000)


def test_rates_energies_and_powers_follow_from_time_and_joules(tmp_path: Path) -> None:
    targets = (
        Target(unit=1e6),
        Target(column="per_s", quantity="rate", amount=8.0),
        Target(column="joule", quantity="energy", amount=4.0),
        Target(column="watt", quantity="power"),
    )
    made = _asked(tmp_path, targets=targets)
    time_s, rate, joule, watt = (made.values[name][0] for name in ("latency_us", "per_s", "joule", "watt"))
    assert rate == pytest.approx(8 / (time_s / 1e6))
    assert watt == pytest.approx(4 * joule / (time_s / 1e6))
    assert made.low["per_s"][0] == pytest.approx(8e6 / made.high["latency_us"][0])
    assert made.high["per_s"][0] == pytest.approx(8e6 / made.low["latency_us"][0])


def test_several_targets_have_a_column_each_and_the_first_the_common_name(tmp_path: Path) -> None:
    made = _asked(tmp_path, targets=(Target(unit=1e6), Target(column="per_s", quantity="rate")))
    out = tmp_path / "out.csv"
    write_predictions(made, out)
    (row,) = read_back(out)
    assert row["predicted_us"] == row["predicted_latency_us"] != ""
    assert float(row["predicted_per_s"]) * float(row["predicted_us"]) == pytest.approx(1e6, rel=1e-4)
    assert row["predicted_joule"] == ""


def test_a_first_target_that_is_no_time_is_called_value(tmp_path: Path) -> None:
    made = _asked(tmp_path, targets=(Target(column="per_s", quantity="rate"),))
    for store in (made.values, made.low, made.high):
        del store["latency_us"]
    out = tmp_path / "out.csv"
    write_predictions(made, out)
    (row,) = read_back(out)
    assert row["predicted_value"] == row["predicted_per_s"] != ""
    assert {"low", "high"} <= row.keys()


def test_a_note_stands_beside_a_prediction_too(tmp_path: Path) -> None:
    made = _asked(tmp_path, note="a stand-in")
    assert made.predicted[0]
    assert made.notes == ["a stand-in"]


def test_a_row_that_breaks_a_model_s_limits_does_not_take_others_with_it(tmp_path: Path) -> None:
    m = np.array([512.0, 512.0, 512.0])
    graph = kernels.gemm("fp16")
    limited = replace(graph, symbols=tuple(replace(s, maximum=kernels.number(1000)) for s in graph.symbols))
    path = table(tmp_path, GEMM, *[f"{A100},fp16,{size},1,1,1" for size in (1, 2, 3)])
    loaded = read_table(path)
    made = predicting._nothing_yet(loaded, layout_of(loaded))
    part = Part(graph=limited, sizes={"m": np.array([10.0, 2000.0, 30.0]), "n": m, "k": m})
    question = Question(rows=np.arange(3), device="a100-80gb-sxm", op="x", parts=(part,), protocol=REPLAY)
    predicting._answer(made, question)
    assert made.predicted.tolist() == [True, False, True]
    assert made.notes[1] == "m=2000 is above gemm's limit of 1000"


def test_a_question_that_fails_says_so_and_others_are_answered(tmp_path: Path) -> None:
    broken = Part(graph=None, sizes={"m": 1.0})  # type: ignore[arg-type]
    made = _asked(tmp_path, parts=(broken,))
    assert made.notes[0] == "NoneType is no model; pass a name, a path, a graph or a torch module"
