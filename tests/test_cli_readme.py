"""README.md is run: what it shows is what hwsim prints. `pytest --update-golden` writes it anew."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cli

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
IMAGES = ROOT / "docs" / "images"
CONSOLE = re.compile(r"```console\n\$ hwsim (?P<command>[^\n]*)\n(?P<output>.*?)```", re.DOTALL)
PYTHON = re.compile(r"```python\n(?P<code>.*?)```\n\n```text\n(?P<output>.*?)```", re.DOTALL)
TOML = re.compile(r"\((?P<file>examples/[^)]*\.toml)\) is\n\n```toml\n(?P<text>.*?)```", re.DOTALL)


@pytest.fixture
def text(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The README, run where its examples are and where the files it writes are in nobody's way."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    yield README.read_text(encoding="utf-8")
    if request.config.getoption("--update-golden"):
        for image in tmp_path.glob("*.png"):
            shutil.copy(image, IMAGES / image.name)


def check(request: pytest.FixtureRequest, written: str) -> None:
    if request.config.getoption("--update-golden"):
        README.write_text(written, encoding="utf-8")
    shown = README.read_text(encoding="utf-8")
    assert shown == written, "README.md is stale; run pytest --update-golden"


@pytest.mark.needs_torch
def test_the_commands_print_what_is_shown(request: pytest.FixtureRequest, text: str) -> None:
    assert len(CONSOLE.findall(text)) >= 5
    check(request, CONSOLE.sub(lambda found: _printed(found["command"]), text))


@pytest.mark.needs_torch
def test_the_python_prints_what_is_shown(request: pytest.FixtureRequest, text: str) -> None:
    assert len(PYTHON.findall(text)) == text.count("```python")
    check(request, PYTHON.sub(lambda found: _run(found["code"]), text))


def test_a_file_that_is_shown_is_the_file_that_is_there(request: pytest.FixtureRequest, text: str) -> None:
    assert len(TOML.findall(text)) == text.count("```toml") > 0
    check(request, TOML.sub(lambda found: _file(found["file"]), text))


def test_every_link_and_every_image_leads_somewhere() -> None:
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_commands_of_the_table_exist() -> None:
    known = CliRunner().invoke(cli.app, ["--help"]).stdout
    for command in re.findall(r"`hwsim ([a-z]+)", README.read_text(encoding="utf-8")):
        assert f"\n  {command} " in known, command


def _printed(command: str) -> str:
    result = CliRunner().invoke(cli.app, shlex.split(command))
    assert result.exit_code == 0, result.stderr
    written = re.search(r"--plot (\S+\.png)", command)
    assert written is None or (Path(os.getcwd()) / written[1]).stat().st_size > 10_000
    lines = (line.rstrip() for line in (result.stderr + result.stdout).splitlines())
    return f"```console\n$ hwsim {command}\n" + "\n".join(lines) + "\n```"


def _run(code: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})  # noqa: S102  # the reader is told to run it
    return f"```python\n{code}```\n\n```text\n{printed.getvalue()}```"


def _file(name: str) -> str:
    return f"({name}) is\n\n```toml\n{(ROOT / name).read_text(encoding='utf-8')}```"
