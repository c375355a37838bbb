"""The door: what it prints, where, and with which exit code. Nothing here traces a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

import cli

ROOT = Path(__file__).resolve().parent.parent


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, list(words))


def test_without_a_command_the_help_is_shown() -> None:
    result = run()
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: hwsim")
    for command in ("estimate", "trace", "models", "devices", "cache"):
        assert f"\n  {command} " in result.stdout


def test_the_help_of_estimate_explains_every_flag_and_gives_examples() -> None:
    text = run("estimate", "--help").stdout
    flags = (
        "--device",
        "--phase",
        "--batch",
        "--seq",
        "--context",
        "--dtype",
        "--weights",
        "--kv",
        "--stack",
    )
    more = ("--set", "--by", "--top", "--strict", "--json", "--plot", "--trace-out", "--price")
    assert all(flag in text for flag in flags + more)
    assert "\n  hwsim estimate bert-base -d h100-sxm --batch 8\n" in text


def test_help_loads_none_of_the_heavy_libraries() -> None:
    heavy = ("torch", "numpy", "matplotlib", "rich.console", "scipy", "networkx")
    program = (
        "import sys, cli\n"
        "try: cli.app(['estimate', '--help'])\n"
        "except SystemExit: pass\n"
        f"print(*[name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stderr.split() == []


def test_the_version_is_that_of_the_package() -> None:
    result = run("--version")
    assert result.exit_code in (0, 1)  # 1 in a checkout that is not installed
    assert result.stdout.startswith("hwsim ") or "PackageNotFoundError" in result.stderr


def test_models_can_be_narrowed_to_a_family() -> None:
    lines = run("models", "--family", "vision").stdout.splitlines()
    assert any(line.startswith("vit-b-16 ") for line in lines)
    assert not any(line.startswith("bert-base") for line in lines)


def test_models_as_json_is_one_document() -> None:
    document = json.loads(run("models", "--json").stdout)
    names = [model["name"] for model in document["models"]]
    assert document["schema"] == "hwsim.models/1"
    assert {"bert-base", "llama-3-8b"} <= set(names)


def test_a_model_is_shown_with_its_paper() -> None:
    assert "arXiv:1810.04805" in run("models", "show", "bert-base").stdout


def test_devices_as_json_carries_si_units_in_its_names() -> None:
    document = json.loads(run("devices", "--kind", "tpu", "--json").stdout)
    found = {device["id"]: device for device in document["devices"]}
    assert found["tpu-v4"]["memory"]["dram"]["bandwidth_byte_per_s"] == 1200e9
    assert {device["kind"] for device in found.values()} == {"tpu"}


def test_a_device_is_found_by_its_alias() -> None:
    assert run("devices", "show", "NVIDIA H100 80GB HBM3").stdout.startswith("h100-sxm: ")


def test_this_machine_is_detected() -> None:
    assert run("devices", "detect").stdout.startswith("local: ")
    assert json.loads(run("devices", "detect", "--json").stdout)["devices"][0]["id"] == "local"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["models", "show", "bert-bas"], "error: no model 'bert-bas'; did you mean 'bert-base'"),
        (["models", "--family", "bird"], "error: no family 'bird'; families are audio, "),
        (["devices", "show", "h100-sx"], "error: no device 'h100-sx'; did you mean 'h100-sxm'"),
        (["devices", "--kind", "abacus"], "error: no kind 'abacus'; kinds are gpu, tpu, "),
        (["estimate", "bert-base"], "error: Missing option '--device' / '-d'; see `hwsim estimate --help`"),
        (["estimate", "bert-base", "-d", ","], "error: --device names no device"),
        (["estimate", "bert-base", "-d", "nosuch"], "error: no device 'nosuch'"),
        (["estimate", "bert-base", "-d", "l4", "--batch", "many"], "error: Invalid value for '--batch': "),
        (["estimate", "bert-base", "-d", "l4", "--set", "seq"], "error: --set seq: write key=value"),
        (
            ["estimate", "bert-base", "-d", "l4", "--set", "a=1", "--set", "a=2"],
            "error: --set a is given twice",
        ),
        (["estimate", "bert-base", "-d", "l4", "--price", "much"], "error: 'much $/h' is not a quantity"),
        (["estimate", "bert-base", "-d", "l4", "--set", "coefficient.x=a"], "error: 'a' is not a quantity"),
        (["trace", "bert-base", "--set", "seq=many"], "error: --set seq=many: a size is a whole number"),
        (
            ["trace", "bert-base", "--phase", "decode"],
            "error: bert-base has no phase 'decode'; it has",
        ),
        (["estimate", "bert-base", "-d", "l4", "--frobnicate"], "error: No such option: --frobnicate"),
        (["frobnicate"], "error: No such command 'frobnicate'; see `hwsim --help`"),
    ],
)
def test_a_wrong_request_is_one_line_on_stderr_and_exit_code_2(words: list[str], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


def app_that_raises(error: BaseException) -> typer.Typer:
    app = typer.Typer(cls=cli.Door, rich_markup_mode=None, pretty_exceptions_enable=False)

    @app.callback()
    def door() -> None:
        pass

    @app.command()
    def command() -> None:
        raise error

    return app


def test_a_failure_of_ours_is_one_line_exit_code_1_and_a_traceback_on_demand() -> None:
    app = app_that_raises(ZeroDivisionError("division\nby zero"))
    result = CliRunner().invoke(app, ["command"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "hwsim failed: ZeroDivisionError: division by zero (add --debug to see where)\n"
    assert isinstance(CliRunner().invoke(app, ["command", "--debug"]).exception, ZeroDivisionError)


def test_an_interrupt_ends_with_130() -> None:
    assert CliRunner().invoke(app_that_raises(KeyboardInterrupt()), ["command"]).exit_code == 130


def test_output_cut_off_by_a_pager_is_no_traceback() -> None:
    command = f"'{sys.executable}' -m cli devices --json | head -c 100"
    result = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert len(result.stdout) == 100
    assert "Traceback" not in result.stderr


def test_the_shell_completes_models_and_each_device_of_a_list() -> None:
    names = ["bert-base", "bert-base-mlm", "bert-large", "bert-large-mlm"]
    assert cli._complete_model("bert-") == names
    assert cli._complete_device("h100-sxm,tpu-v5") == ["h100-sxm,tpu-v5e", "h100-sxm,tpu-v5p"]
    assert "local" in cli._complete_device("")


def test_traces_are_listed_and_forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HWSIM_CACHE", str(tmp_path))
    (tmp_path / "a-forward-0.json").write_text("{}")
    assert run("cache", "list").stdout.splitlines() == [str(tmp_path), "a-forward-0.json"]
    assert run("cache", "clear").stdout == "1 traces removed\n"
    assert os.listdir(tmp_path) == []
