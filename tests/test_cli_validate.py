"""`hwsim validate` from the command line, with real runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import cli

pytestmark = pytest.mark.needs_torch


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["validate", *words])


def test_json_is_one_document_and_no_figure_is_drawn_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "predictions.csv"
    result = run("deit-ti", "--json", "--minutes", "0.03", "--rounds", "2", "--out", str(out))
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["schema"] == "hwsim.validation/1"
    assert document["protocol"]["rounds"] >= 2
    assert document["rows"][0]["model"] == "deit-ti"
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]
    assert out.read_text().startswith("model,mode,batch,dtype,device,stack,latency_us,")


def test_tables_are_printed_and_figures_written_beside_each_other(tmp_path: Path) -> None:
    plot = tmp_path / "parity.png"
    result = run("deit-ti", "-d", "local", "--minutes", "0.03", "--rounds", "1", "--plot", str(plot))
    assert result.exit_code == 0, result.stderr
    assert "deit-ti by kind: forward, batch 1, fp32" in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"parity.png", "parity-kinds.png"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["deit-ti", "-d", "h100-sxm"], "error: device 'h100-sxm' is not this machine"),
        (["deit-tiny"], "error: no model 'deit-tiny'; did you mean 'deit-ti'"),
        (["deit-ti", "--plot", "parity.pdf"], "error: cannot draw 'parity.pdf': the name must end in .png"),
        (["deit-ti", "--minutes", "0"], "error: 1 models in 0 minutes"),
        (["deit-ti", "--rounds", "0"], "error: Invalid value for '--rounds': "),
        (["deit-ti", "--phase", "decode"], "error: deit-ti has no phase 'decode'; it has forward"),
        ([], "error: Missing argument 'MODEL...'; see `hwsim validate --help`"),
    ],
)
def test_a_wrong_request_is_one_line(words: list[str], message: str) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_three_models_are_run_drawn_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("bert-base", "gpt2", "vit-b-16", "-d", "local")
    assert result.exit_code == 0, result.stderr
    for model in ("bert-base", "gpt2", "vit-b-16"):
        assert f"\n{model} by kind: forward" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert {path.name for path in tmp_path.iterdir()} == {
        "validation-local.png",
        "validation-local-kinds.png",
    }
