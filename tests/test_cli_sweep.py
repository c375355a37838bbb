"""`hwsim sweep`: a file or flags, what is printed where, exit codes, the bar on a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import cli
import hwsim
from tests.sweeping import BANDWIDTH, drawn, grid, write_toml

ROOT = Path(__file__).resolve().parent.parent


def run(*words: Any) -> Result:
    return CliRunner().invoke(cli.app, ["sweep", *map(str, words)])


def document(*words: Any) -> dict[str, Any]:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def flags(spec: dict[str, Any]) -> list[str]:
    """The grid of `tests.sweeping` as flags."""
    words = ["-m", spec["model"], "-d", ",".join(spec["device"]), "--axis", "m=1,2,4,8,16,32"]
    words += ["--axis", f"{BANDWIDTH}=50GB/s:200GB/s", "--set", "k=256", "--set", "n=128"]
    return [
        *words,
        "--where",
        "fits",
        "--where",
        "latency < 0.1ms",
        "--minimize",
        "latency",
        "--minimize",
        "energy",
    ]


def test_a_file_and_flags_give_the_same_answer(tmp_path: Path) -> None:
    spec = grid(tmp_path)
    by_file, by_flags = document(write_toml(tmp_path / "spec.toml", spec)), document(*flags(spec))
    assert by_file["schema"] == "hwsim.sweep/1"
    for name in ("points", "feasible", "front", "best", "sensitivity", "columns"):
        assert by_file[name] == by_flags[name], name


def test_the_document_is_what_the_library_says(tmp_path: Path) -> None:
    spec = grid(tmp_path)
    found, result = document(*flags(spec)), hwsim.sweep(spec)
    assert found["points"] == len(result) == 36
    assert found["feasible"] == int(result["feasible"].sum())
    assert found["front"] == result.front()
    assert {row["device"] for row in found["best"]} == {"toy-simt", "toy-systolic"}


def test_flags_replace_keys_of_the_file(tmp_path: Path) -> None:
    path = write_toml(tmp_path / "spec.toml", grid(tmp_path))
    found = document(path, "--axis", "m=1,2", "--stack", "eager,engine", "-d", tmp_path / "toy-simt.toml")
    assert found["points"] == 2 * 2 * 3


def test_the_answer_fits_a_terminal_and_names_front_best_and_slopes(tmp_path: Path) -> None:
    result = run(*flags(grid(tmp_path)))
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.startswith("36 points, ")
    assert "points that no other beats in latency, energy" in result.stdout
    assert "best latency of each" in result.stdout
    assert "% of change per % of an axis" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_directory_is_written_and_resumed(tmp_path: Path) -> None:
    path, out = write_toml(tmp_path / "spec.toml", drawn(tmp_path, 1500)), tmp_path / "out"
    first = run(path, "--out", out)
    assert first.exit_code == 0, first.stderr
    assert f"{out}: " in first.stdout.replace("\n", "")
    again = run(path, "--out", out)
    assert again.exit_code == 2
    assert again.stderr.startswith(f"error: {out} already holds a sweep; --resume goes on with it")
    (out / "part-0000001.parquet").unlink()
    assert run(path, "--out", out, "--resume").stdout == first.stdout


def test_points_are_drawn_and_searched_for_by_flags(tmp_path: Path) -> None:
    drawn(tmp_path, 1)
    words = ["-m", tmp_path / "gemm.json", "-d", tmp_path / "toy-simt.toml", "--minimize", "latency / m"]
    words += ["--axis", "m=1:64:log", "--axis", "n=16:4096:log"]
    sampled = document(*words, "--samples", 500, "--method", "sobol", "--seed", 2)
    assert (sampled["points"], sampled["spec"]["sample"]) == (
        500,
        {"points": 500, "method": "sobol", "seed": 2},
    )
    searched = document(*words, "--search", 64, "--seed", 2)
    assert (searched["points"], searched["spec"]["search"]) == (64, {"trials": 64, "seed": 2})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a model or some [[workload]]s"),
        (["nowhere.toml"], "nowhere.toml cannot be read (No such file or directory)"),
        (["--axis", "m"], "--axis m: write key=value, such as batch=1:64"),
        (["--axis", "m=1:2:3:4:5"], "'1:2:3:4:5' is no range"),
        (["--axis", "m=1:9:log"], "axis 'm' says neither count nor step"),
        (["--axis", "m=1", "--where", "latancy < 1"], "no column 'latancy'; did you mean 'latency'"),
        (["--axis", "m=1", "--workers", "0"], "0 workers cannot price anything"),
        (["--axis", "m=1", "--minimize", "latency", "--search", "0"], "search.trials: "),
        (["--axis", "m=1", "--method", "guess"], "sample.points: "),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(tmp_path: Path, words: list[str], message: str) -> None:
    toy = grid(tmp_path)
    base = [] if not words else ["-m", toy["model"], "-d", toy["device"][0]]
    result = run(*base, *words)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_the_bar_is_for_terminals_only(tmp_path: Path) -> None:
    path = write_toml(tmp_path / "spec.toml", drawn(tmp_path, 20_000))
    command = [sys.executable, "-m", "cli", "sweep", str(path), "--workers", "1", "--json"]
    plain = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert plain.stderr == b""
    screen, terminal = pty.openpty()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=terminal) as process:
        os.close(terminal)
        shown = read_all(screen)
        assert process.stdout is not None
        found = json.loads(process.stdout.read())
    assert found == json.loads(plain.stdout)
    assert "points/s" in shown
    assert "20.0 kpoints" in shown or "20.0 k points" in shown


def read_all(screen: int) -> str:
    """What is written to a terminal until it is closed."""
    found = b""
    while True:
        try:
            part = os.read(screen, 65536)
        except OSError:  # how Linux says that nobody writes any more
            return found.decode()
        if not part:
            return found.decode()
        found += part


@pytest.mark.needs_torch
@pytest.mark.slow
@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples" / "sweeps").glob("*.toml")), ids=lambda path: path.stem
)
def test_the_examples_find_feasible_points(path: Path, tmp_path: Path) -> None:
    found = document(path, "--out", tmp_path / "out")
    assert found["front"]
    assert 0 < found["feasible"] <= found["points"]
    wanted = tomllib.loads(path.read_text())
    assert set(wanted.get("minimize", [])) | set(wanted.get("maximize", []))


def test_a_sweep_and_its_page_are_one_command(tmp_path: Path) -> None:
    spec, page = write_toml(tmp_path / "spec.toml", grid(tmp_path)), tmp_path / "page.html"
    result = run(spec, "--out", tmp_path / "table", "--report", page)
    assert result.exit_code == 0, result.stderr
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_page_without_a_table_is_refused() -> None:
    result = run("-m", "gpt2", "-d", "l4", "--report", "page.html")
    assert result.exit_code == 2
    assert "give --out DIR as well" in result.stderr
