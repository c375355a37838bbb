"""What notebooks show: whole, escaped HTML without scripts or styles from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

import hwsim
from tests.estimates import bert_on

VOID = {"br", "hr", "img", "input", "meta", "link"}


class Reader(HTMLParser):
    """Checks that what opens closes, and keeps tags, cells and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag not in VOID
        assert all(name == "style" for name, _ in attrs)
        self.open.append(tag)
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    assert set(reader.tags) <= {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
    return reader


def test_an_estimate_is_a_table_of_names_and_values() -> None:
    page = read(bert_on("h100-sxm", usd_per_hour=3.6)._repr_html_())
    assert page.text.startswith("bert-base on h100-sxm: forward, batch 1, seq 512, bf16, compiled")
    found = dict(zip(page.cells[::2], page.cells[1::2], strict=True))
    assert found["latency"] == "400 us (267 us to 600 us)"
    assert found["energy"] == "160 mJ"
    assert found["memory"] == "727 MB of 84.9 GB: fits"
    assert found["cost"] == "$ 4e-07"
    assert found["bound"] == "compute"


def test_what_is_absent_has_no_line() -> None:
    page = read(bert_on("h100-sxm", tokens=None)._repr_html_())
    assert "tokens/s" not in page.cells
    assert "cost" not in page.cells


def test_many_points_are_shown_by_their_range() -> None:
    many = bert_on(
        "h100-sxm",
        latency_s=np.array([1e-3, 4e-3, np.inf]),
        memory_bytes={"total": np.array([1e9, 2e9, 3e9]), "capacity": 2e9},
        sizes={"batch": np.array([1.0, 2.0, 3.0]), "seq": 512.0},
        breakdown_s={"compute": np.array([1.0, 2.0, 1.0]), "memory": np.array([2.0, 1.0, 2.0])},
    )
    page = read(many._repr_html_())
    assert "batch 1 to 3, seq 512" in page.text
    assert "(3 points)" in page.text
    found = dict(zip(page.cells[::2], page.cells[1::2], strict=True))
    assert found["latency"] == "1 ms to 4 ms"
    assert found["memory"] == "1 GB to 3 GB of 2 GB: does not fit / fits"
    assert found["bound"] == "compute / memory"


def test_names_and_warnings_are_escaped() -> None:
    nasty = '<script>alert("a & b")</script>'
    html = bert_on("h100-sxm", model=nasty, warnings=(nasty,))._repr_html_()
    assert "<script" not in html
    page = read(html)
    assert page.text.startswith(nasty)
    assert page.cells[-1] == nasty


@pytest.mark.needs_torch
def test_a_request_shows_both_kinds_of_token() -> None:
    page = read(hwsim.request("gpt2", "l4", prompt=16, generate=4, price=1)._repr_html_())
    assert page.text.startswith("gpt2 on l4: 4 tokens after 16, batch 1, fp32, compiled")
    names = page.cells[::2]
    assert names[:3] == ["time to first token", "time per token after it", "total"]
    assert "per million tokens" in names
    assert "time per token after it" not in read(hwsim.request("gpt2", "l4", generate=1)._repr_html_()).cells


@pytest.mark.needs_torch
def test_a_comparison_shows_a_column_per_curve_and_what_is_noted() -> None:
    comparison = hwsim.compare(["bert-base", "gpt2"], "l4", over="seq=256:1024")
    page = read(comparison._repr_html_())
    assert page.cells[:3] == ["seq", "bert-base", "gpt2"]
    rows = [page.cells[at : at + 3] for at in range(3, len(page.cells), 3)]
    assert [row[0] for row in rows] == ["256", "512", "1024"]
    assert rows[2][1] == "-"
    assert all(note in page.text for note in comparison.notes)
    single = read(hwsim.compare(["bert-base", "gpt2"], "l4")._repr_html_())
    assert single.cells[:3] == ["", "bert-base", "gpt2"]
