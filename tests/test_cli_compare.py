"""`hwsim compare`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import cli
import hwsim

pytestmark = pytest.mark.needs_torch


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["compare", *words])


def test_the_command_prints_what_the_library_says() -> None:
    expected = hwsim.compare(
        ["bert-base", "gpt2"], ["l4", "t4"], over="seq=128:1024:4", metric="energy", batch=2, dtype="fp16"
    )
    words = ("--over", "seq=128:1024:4", "--metric", "energy", "--batch", "2", "--dtype", "fp16")
    result = run("bert-base", "gpt2", "-d", "l4,t4", *words, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == json.loads(expected.to_json())


def test_a_range_is_a_table_with_notes_and_a_figure(tmp_path: Path) -> None:
    plot = tmp_path / "curves.svg"
    result = run("bert-base", "gpt2", "-d", "l4", "--over", "seq=128:1024", "--plot", str(plot))
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[1].split() == ["seq", "bert-base", "gpt2"]
    assert [line.split()[0] for line in lines[3:7]] == ["128", "256", "512", "1024"]
    assert "best first: bert-base, gpt2" in " ".join(result.stdout.split())
    assert plot.read_text().startswith("<?xml")


def test_without_a_range_models_and_devices_are_lines() -> None:
    lines = run("bert-base", "vit-b-16", "-d", "l4", "-d", "t4").stdout.splitlines()
    assert [line.split()[:2] for line in lines[3:]] == [
        ["bert-base", "l4"],
        ["bert-base", "t4"],
        ["vit-b-16", "l4"],
        ["vit-b-16", "t4"],
    ]


def test_warnings_go_to_stderr() -> None:
    result = run("bert-base", "-d", "coral-edge-tpu,l4", "--json")
    assert result.stderr == (
        "warning: coral-edge-tpu has no fp32 peak; priced at its int8 rate\n"
        "warning: coral-edge-tpu does not run attention, embedding, gelu: 27 kernels run on its host "
        "raspberry-pi-4, values cross 80 times\n"
    )
    json.loads(result.stdout)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "error: Missing argument 'MODEL...'"),
        (["bert-base", "--metric", "speed"], "error: no metric 'speed'; metrics are latency, energy, memory"),
        (["bert-base", "--over", "seq"], "error: 'seq' names no values; write seq=128:4096"),
        (["bert-base", "--over", "seq=9:1"], "error: seq=9:1 is no range"),
        (["bert-base", "--over", "seq=600:900"], "error: seq=600 is above bert-base's limit of 512"),
        (["bert-bass"], "error: no model 'bert-bass'; did you mean 'bert-base'"),
        (["bert-base", "--plot", "a.png"], "error: nothing to draw: a comparison is drawn over a size"),
    ],
)
def test_a_wrong_request_is_one_line_on_stderr_and_exit_code_2(words: list[str], message: str) -> None:
    result = run(*words, "-d", "l4")
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
