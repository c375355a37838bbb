"""What README.md shows is what hwsim prints. `pytest --update-golden` writes it anew."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cli

README = Path(__file__).resolve().parent.parent / "README.md"
CONSOLE = re.compile(r"```console\n\$ hwsim (?P<command>[^\n]*)\n(?P<output>.*?)```", re.DOTALL)


@pytest.mark.needs_torch
def test_the_readme_shows_what_is_printed(request: pytest.FixtureRequest) -> None:
    text = README.read_text(encoding="utf-8")
    assert CONSOLE.search(text)
    written = CONSOLE.sub(lambda found: _printed(found["command"]), text)
    if request.config.getoption("--update-golden"):
        README.write_text(written, encoding="utf-8")
    assert README.read_text(encoding="utf-8") == written, "README.md is stale; run pytest --update-golden"


def _printed(command: str) -> str:
    result = CliRunner().invoke(cli.app, shlex.split(command))
    assert result.exit_code == 0, result.stderr
    lines = (line.rstrip() for line in (result.stderr + result.stdout).splitlines())
    return f"```console\n$ hwsim {command}\n" + "\n".join(lines) + "\n```"
