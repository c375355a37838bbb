"""Claims as people see them: a table with the counts last, the generated page, the figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import cli
import hwsim
from hwsim.published.answers import Answers
from hwsim.published.checking import Checked, Claims
from hwsim.published.claim import Claim
from hwsim.published.verdicts import VERDICTS
from reports.claims import claims_tables
from reports.claims_page import tables, with_claims
from reports.claims_plot import claims_figure, draw_claims
from reports.devices_page import BEGIN, END
from tests.test_hwsim_published import claims_file

pytestmark = pytest.mark.needs_torch


def row(system: str, ratio: float | None, note: str = "", not_checkable: str = "") -> Checked:
    claim = Claim(
        system=system,
        title=f"The {system} paper",
        year=2024,
        quantity="params",
        configuration="Large",
        baseline=None,
        published=None if ratio is None else 10.0,
        says="",
        unit="M",
        kind="number",
        convention=None,
        workload=None,
        device=None,
        device_assumed="",
        source="abstract",
        not_checkable=not_checkable,
        note=note,
    )
    return Checked(claim=claim, ours=None if ratio is None else 10.0 * ratio)


FOUND = Claims(
    rows=(
        row("first", 1.01),
        row("first", 30.0, "the head is missing"),
        row("second", None, not_checkable="the device is not named"),
    )
)


def printed(found: Claims) -> str:
    console = Console(width=110, markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        console.print(claims_tables(found))
    return capture.get()


def test_the_counts_of_all_verdicts_are_printed_last() -> None:
    text = printed(FOUND)
    assert "first, params of Large: the head is missing" in text
    last = text.rstrip().splitlines()[-1].split()
    assert last == ["number", "1", "0", "1", "0", "1", "3"]
    assert all(name in text for name in VERDICTS)


def test_the_page_keeps_the_words_around_its_marks() -> None:
    page = with_claims(f"before\n{BEGIN}\nold\n{END}\nafter\n", FOUND, Answers())
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "old" not in page
    assert "2 systems, 3 entries. Not checkable or by construction are 33 % of the 3 printed numbers" in page
    assert "The second paper, 2024." in page
    assert "| 2 | params | Large | 10 M | 300 | 30.0 | differs |" in page
    assert "Not computed" not in page
    assert "Not computed when this page was written: third." in tables(FOUND, Answers(), ["third"])


def test_the_page_prices_the_first_model_of_a_system_on_four_machines(tmp_path: Path) -> None:
    found = hwsim.claims(claims_file(tmp_path, 'published = 448\nrun = { take = "params" }'))
    text = tables(found, Answers())
    (line,) = [line for line in text.splitlines() if "as its first claim runs it" in line]
    assert all(machine in line for machine in ("h100-sxm", "tpu-v5e", "jetson-orin-agx", "eyeriss-v1"))


def test_every_ratio_is_a_dot_and_far_ones_stand_at_the_border(tmp_path: Path) -> None:
    figure = claims_figure(FOUND)
    dots = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", "")]
    assert [line.get_xdata()[0] for line in dots] == [1.01, 10.0]
    draw_claims(FOUND, tmp_path / "claims.png")
    assert (tmp_path / "claims.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_prints_the_document(tmp_path: Path) -> None:
    file = claims_file(tmp_path, 'published = 448\nrun = { take = "params" }')
    result = CliRunner().invoke(cli.app, ["claims", file, "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["schema"] == "hwsim.claims/1"
    assert document["claims"][0]["verdict"] == "reproduced"
    shown = CliRunner().invoke(cli.app, ["claims", file])
    assert shown.stdout.rstrip().splitlines()[-1].split()[-1] == "1"
