"""The page of a sweep as text: complete, escaped, self-contained."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import cli
from hwsim.studies.study import Study
from reports.html import html_page
from reports.points import points
from reports.summary import keys, sentences, title_of
from reports.units import called, shown
from tests.studies import grid, samples, study
from tests.test_hwsim_studies import write

pytest.importorskip("jinja2")
VOID = {"meta", "link", "br", "input", "img", "hr"}


class Page(HTMLParser):
    """Checks that tags are nested, and remembers ids, links and what is fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.targets: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in ("src", "href", "xlink:href", "action"):
                (self.targets if str(value).startswith("#") else self.fetched).append(str(value))


@pytest.fixture(scope="module")
def text() -> str:
    return html_page(study(grid()))


def test_tags_are_nested_and_ids_are_unique(text: str) -> None:
    page = Page(text)
    assert page.stack == []
    assert len(page.ids) == len(set(page.ids))
    assert {target.removeprefix("#") for target in page.targets} <= set(page.ids)


def test_nothing_is_fetched(text: str) -> None:
    assert all(link.startswith("data:") for link in Page(text).fetched)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)


def test_every_figure_has_a_title_a_description_and_a_caption(text: str) -> None:
    figures = re.findall(r"<figure.*?</figure>", text, re.DOTALL)
    assert len(figures) == 6
    for figure in figures:
        assert re.search(r'<svg [^>]*role="img" aria-labelledby="[\w-]+-title [\w-]+-description"', figure)
        assert re.search(r"<title [^>]*>[^<]{4,}</title>", figure)
        assert re.search(r"<desc [^>]*>[^<]{40,}</desc>", figure)
        assert re.search(r"<figcaption>[^<]{20,}</figcaption>", figure)


def test_names_from_outside_are_escaped() -> None:
    columns = grid()
    columns["device"] = np.where(columns["device"] == "small", "<script>alert(1)</script>", "a & b").astype(
        object
    )
    page = html_page(study(columns))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    Page(page)


def test_the_same_study_gives_the_same_page(text: str) -> None:
    assert html_page(study(grid())) == text


def test_the_summary_says_what_is_best_and_what_matters() -> None:
    said = " ".join(sentences(study(grid())))
    assert (
        "40 points over device (small, large); batch from 1 to 8; DRAM bandwidth from 100 GB/s to 1.60 TB/s."
        in said
    )
    assert "30 of them (75 %) fit in memory." in said
    assert (
        "Least latency 1.50 ms (interval 1.20 ms to 2.25 ms) with large, batch 1, DRAM bandwidth 1.60 TB/s"
        in said
    )
    assert "least energy per sample 206 mJ with small, batch 4, DRAM bandwidth 1.60 TB/s." in said
    assert (
        "Latency depends most on batch (5.67 times between 1 and 8), then device (2.5 times between" in said
    )
    assert "80 % interval, here typically -20 % / +50 %" in said


def test_the_keys_are_the_numbers_people_ask_first() -> None:
    found = {key.label: key.value for key in keys(study(grid()))}
    assert found["points"] == "40"
    assert found["fit in memory"] == "75 %"
    assert found["least latency"] == "1.50 ms"


def test_crossings_are_told() -> None:
    columns = grid()
    wide = np.where(
        columns["device"] == "small", 1e-3 * columns["batch"] ** 2, 4e-3 * columns["batch"] ** 0.5
    )
    said = " ".join(sentences(study({**columns, "latency_s": wide})))
    assert "From batch 2.52 on (interpolated between 2 and 4) large needs less latency than small." in said


def test_conditions_and_unknown_costs_are_told() -> None:
    columns = grid(feasible=grid()["latency_s"] < 9e-3)
    columns["cost_usd"] = np.where(columns["device"] == "large", np.nan, columns["cost_usd"])
    spec = {"minimize": ["latency", "cost"], "where": "latency < 9ms", "warnings": ["left out x: too large"]}
    said = " ".join(sentences(study(columns, spec=spec)))
    assert "meet the conditions: latency < 9ms." in said
    assert "The cost of 50 % of the points is not known; no front holds them." in said
    assert "Left out x: too large." in said


def test_the_title_is_the_model_or_the_name_of_the_sweep() -> None:
    assert title_of(study(grid())) == "by hand"
    named = grid(model=np.full(40, "bert-base", dtype=object))
    assert title_of(study(named)) == "bert-base"


def rows_of(found: Study, most: int) -> tuple[int, int]:
    table = points(found, most)
    return len(table.rows), sum(row.front for row in table.rows)


def test_a_long_table_is_sampled_and_keeps_the_front() -> None:
    found = study(samples(6000))
    assert rows_of(found, 100) == (100, found.answers[0].front.size)
    assert points(found).note.startswith("2 000 of 6 000 points: the best ones and an even sample.")
    assert rows_of(study(grid()), 100)[0] == 40


def test_cells_carry_the_number_they_are_sorted_by() -> None:
    table = points(study(grid()))
    at = [column.name for column in table.columns].index("latency_s")
    cells = [row.cells[at] for row in table.rows]
    assert cells[0].text == "12.0 ms"
    assert float(cells[0].raw or 0) == pytest.approx(12e-3)
    words = table.rows[0].cells[0]
    assert (words.text, words.raw) == ("small", None)


@pytest.mark.parametrize(
    ("name", "value", "said", "read"),
    [
        ("latency_s", 0.0123, "latency", "12.3 ms"),
        ("device.memory.dram.bandwidth", 2e12, "DRAM bandwidth", "2.00 TB/s"),
        ("device.memory.l2.capacity", 3.2e7, "L2 capacity", "32.0 MB"),
        ("device.compute.array.rows", 128.0, "array rows", "128"),
        ("device.compute.matrix.bf16", 1e15, "matrix bf16", "1.00 PFLOP/s"),
        ("device.compute.matrix.int8", 1e12, "matrix int8", "1.00 TOP/s"),
        ("device.power.limit", 0.5, "power limit", "500 mW"),
        ("stack.launch", 2e-6, "launch", "2.00 us"),
        ("energy_per_token_j", 0.02, "energy per token", "20.0 mJ"),
        ("cost_per_sample_usd", 0.002, "cost per sample", "$ 0.00200"),
        ("tokens_per_s", 1500.0, "tokens per second", "1.50 k/s"),
        ("chat_latency_s", 0.5, "chat latency", "500 ms"),
        ("mfu", 0.42, "MFU", "42 %"),
        ("fits", False, "fits", "NO"),
        ("batch", 8.0, "batch", "8"),
        ("kv", "fp8", "KV", "fp8"),
        ("cost_usd", float("nan"), "cost", "-"),
        ("latency_s*energy_j", 0.25, "latency*energy", "0.250"),
    ],
)
def test_columns_and_values_read_as_people_write_them(
    name: str, value: float | str | bool, said: str, read: str
) -> None:
    assert called(name) == said
    assert shown(name, value) == read


def test_the_command_writes_the_page_and_names_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "swept", grid())
    out = tmp_path / "page.html"
    result = CliRunner().invoke(cli.app, ["report", str(folder), "--out", str(out)])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(out)
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_command_refuses_what_is_no_sweep_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["report", str(tmp_path), "--out", str(tmp_path / "x.html")])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: no *.parquet in")
    assert len(result.stderr.splitlines()) == 1
