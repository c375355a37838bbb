"""Tables and figure of a measurement file, and the command that prints them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

import cli
from hwsim.errors import HwsimError
from hwsim.measurements.judging import judge
from hwsim.measurements.predicting import Predictions, layouts
from reports.measured import layouts_table, measured_tables
from reports.measured_plot import MANY, draw_measured
from tests.measured import A100, GEMM, answered, read_back, table


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["validate", *words])


def printed(made: Predictions) -> list[str]:
    console = Console(width=80, file=io.StringIO(), markup=False, highlight=False)
    console.print(measured_tables(made, judge(made)))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_the_tables_fit_eighty_columns_and_say_what_was_answered(tmp_path: Path) -> None:
    lines = printed(answered(tmp_path, GEMM, f"{A100},fp16,64,64,64,9", f"{A100},odd,64,64,64,9"))
    assert max(map(len, lines)) <= 80
    assert "layout gemm, 2 rows, 1 predicted, 1 compared" in lines
    assert any(line.startswith("MAPE ") and "inside the 80 % interval" in line for line in lines)
    assert any(line.startswith("a100-80gb-sxm ") for line in lines)
    assert "       1 dtype 'odd' is unknown" in lines


def test_a_file_without_answers_has_its_notes(tmp_path: Path) -> None:
    lines = printed(answered(tmp_path, "device,op,num_gpus,message_bytes,latency_us", "x,all_reduce,2,8,1"))
    assert "predicted from: nothing" in lines
    assert not any(line.startswith("MAPE") for line in lines)
    assert any(line.startswith("       1 unknown device: ") for line in lines)


def test_long_lists_say_how_many_more_there_are(tmp_path: Path) -> None:
    lines = printed(answered(tmp_path, GEMM, *[f"{A100},odd{i},64,64,64,9" for i in range(15)]))
    assert "     and 3 more; all are in --json" in lines


def test_layouts_are_listed_with_their_columns() -> None:
    console = Console(width=300, file=io.StringIO(), markup=False, highlight=False)
    console.print(layouts_table(layouts()))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert (
        "gemm: GEMM kernels, and vector kernels of m x n elements: m, n, k, dtype\n    dtype, k, m, n\n"
        in text
    )


@pytest.mark.parametrize("rows", [3, MANY])
def test_the_figure_is_drawn_as_dots_or_as_density(tmp_path: Path, rows: int) -> None:
    devices = (A100, "NVIDIA L4", "Tesla T4")
    lines = [f"{devices[i % 3]},fp16,{64 + i},64,64,{5 + i % 7}" for i in range(rows)]
    made = answered(tmp_path, GEMM, *lines)
    for ending in ("png", "svg"):
        target = tmp_path / f"parity.{ending}"
        draw_measured(made, target)
        assert target.stat().st_size > 5000
    again = tmp_path / "again.svg"
    draw_measured(made, again)
    assert again.read_bytes() == (tmp_path / "parity.svg").read_bytes()


def test_a_figure_of_nothing_is_refused(tmp_path: Path) -> None:
    made = answered(tmp_path, GEMM, f"{A100},odd,64,64,64,9")
    with pytest.raises(HwsimError, match="no row that is measured and predicted; there is nothing to draw"):
        draw_measured(made, tmp_path / "parity.png")


def test_the_command_writes_predictions_and_prints_one_document(tmp_path: Path) -> None:
    path, out, plot = table(tmp_path, GEMM, f"{A100},fp16,64,64,64,9"), tmp_path / "p.csv", tmp_path / "p.png"
    result = run("--measurements", str(path), "--out", str(out), "--plot", str(plot), "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["rows"], found["predicted"]) == (1, 1)
    (row,) = read_back(out)
    assert float(row["predicted_us"]) > 0
    assert plot.is_file()


def test_the_command_prints_tables(tmp_path: Path) -> None:
    result = run("--measurements", str(table(tmp_path, GEMM, f"{A100},fp16,64,64,64,9")))
    assert result.exit_code == 0, result.stderr
    assert "layout gemm, 1 rows, 1 predicted, 1 compared" in result.stdout


def test_the_command_lists_layouts() -> None:
    assert "attention: attention kernels" in run("--layouts").stdout
    found = json.loads(run("--layouts", "--json").stdout)
    assert {one["name"] for one in found["layouts"]} == {one.name for one in layouts()}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--measurements", "nowhere.csv"], "error: measurement file 'nowhere.csv' cannot be read: "),
        (
            ["bert-base", "--measurements", "x.csv"],
            "error: --measurements answers a file and runs nothing; leave",
        ),
    ],
)
def test_a_wrong_request_is_one_line(words: list[str], message: str) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
