"""`hwsim estimate --generate`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

import cli
import hwsim

pytestmark = pytest.mark.needs_torch


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["estimate", *words])


def test_the_command_prints_what_the_library_says() -> None:
    expected = hwsim.request("gpt2", "l4", prompt=64, generate=8, batch=2, stack="engine", price=2)
    words = ("--seq", "64", "--generate", "8", "--batch", "2", "--stack", "engine", "--price", "2/h")
    result = run("gpt2", "-d", "l4", *words, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == json.loads(expected.to_json())


def test_several_devices_are_one_table_and_a_list_of_documents() -> None:
    words = ("gpt2", "-d", "l4,t4", "--seq", "64", "--generate", "8")
    lines = run(*words).stdout.splitlines()
    assert lines[0] == "gpt2: 8 tokens after 64, batch 1, fp32, compiled"
    assert [line.split()[0] for line in lines[3:]] == ["l4", "t4"]
    assert [one["device"] for one in json.loads(run(*words, "--json").stdout)] == ["l4", "t4"]


def test_one_device_is_a_panel_and_warnings_go_to_stderr() -> None:
    result = run("gpt2", "-d", "coral-edge-tpu", "--seq", "16", "--generate", "2")
    assert "TTFT" in result.stdout
    assert "TPOT" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert result.stderr.startswith("warning: coral-edge-tpu has no fp32 peak")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["bert-base", "--generate", "4"],
            "error: bert-base has no phase 'prefill'; it has forward, train; a whole",
        ),
        (["gpt2", "--generate", "0"], "error: Invalid value for '--generate'"),
        (["gpt2", "--generate", "600", "--seq", "600"], "error: 600 tokens after 600 are too many: "),
        (
            ["gpt2", "--generate", "4", "--by", "op"],
            "error: --by is about one phase and --generate about two",
        ),
        (["gpt2", "--generate", "4", "--phase", "decode"], "error: --phase is about one phase"),
        (["gpt2", "--generate", "4", "--plot", "a.png"], "error: --plot is about one phase"),
        (["gpt2", "--generate", "4", "--trace-out", "a.json"], "error: --trace-out is about one phase"),
    ],
)
def test_a_wrong_request_is_one_line_on_stderr_and_exit_code_2(words: list[str], message: str) -> None:
    result = run(*words, "-d", "l4")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
