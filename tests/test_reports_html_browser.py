"""The page in a real browser: no errors, sorting and filtering, themes, narrow screens, print."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hwsim.studies.study import Study
from reports.html import html_page
from tests.studies import grid, samples, study

pytestmark = [pytest.mark.needs_browser, pytest.mark.slow]
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """`opened(study, ...)` is the page of a study; afterwards the console must be empty."""
    said: list[str] = []
    contexts = []

    def show(found: Study, **options: Any) -> Any:
        path = tmp_path / "report.html"
        path.write_text(html_page(found), encoding="utf-8")
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if "http" in request.url[:5] else None)
        page.goto(path.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert said == []


def column(page: Any, name: str) -> list[str]:
    """The texts of one column, in the order shown."""
    names = [text.strip() for text in page.locator("#table th").all_inner_texts()]
    texts: list[str] = page.locator(f"#table tbody td:nth-child({names.index(name) + 1})").all_inner_texts()
    return texts


def count(page: Any) -> str:
    text: str = page.locator("#count").inner_text()
    return text


def test_a_click_sorts_by_value_and_another_the_other_way(opened: Any) -> None:
    page = opened(study(grid()))
    head = page.locator("#table th", has_text="latency").first
    head.locator("button").click()
    up = column(page, "latency")
    assert up[0] == "1.50 ms"
    assert up[-1] == "40.0 ms"
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    assert column(page, "latency")[0] == "40.0 ms"
    assert head.get_attribute("aria-sort") == "descending"
    page.locator("#table th button", has_text="device").click()
    assert column(page, "device") == sorted(column(page, "device"))
    assert head.get_attribute("aria-sort") is None


@pytest.mark.parametrize(
    ("name", "text", "kept"),
    [
        ("latency", "<2ms", ["1.50 ms"]),
        ("latency", ">= 40ms", ["40.0 ms"]),
        ("batch", "=8", ["8"]),
        ("device", "small", ["small"]),
        ("DRAM bandwidth", ">1 TB/s", ["1.60 TB/s"]),
        ("MFU", "<6%", ["5.6 %"]),
    ],
)
def test_a_column_is_filtered_by_a_bound_or_by_text(
    opened: Any, name: str, text: str, kept: list[str]
) -> None:
    page = opened(study(grid()))
    page.get_by_label(f"Filter {name}", exact=True).fill(text)
    shown = column(page, name)
    assert set(shown) == set(kept)
    assert count(page) == f"{len(shown)} of 40 rows"


def test_search_and_boxes_narrow_and_the_button_shows_all_again(opened: Any) -> None:
    page = opened(study(grid()))
    page.get_by_label("Search").fill("LARGE")
    assert set(column(page, "device")) == {"large"}
    page.get_by_label("usable").check()
    assert "NO" not in column(page, "fits")
    assert count(page) == "15 of 40 rows"
    page.get_by_label("no other is better").check()
    assert page.locator("#table tbody tr:not([data-front])").count() == 0
    page.get_by_role("button", name="Show all").click()
    assert count(page) == "40 of 40 rows"


def test_long_tables_are_shown_in_parts(opened: Any) -> None:
    page = opened(study(samples(3000)))
    assert count(page) == "2000 of 2000 rows"
    assert page.locator("#table tbody tr").count() == 100
    page.get_by_role("button", name="Show more").click()
    assert page.locator("#table tbody tr").count() == 600


def test_every_figure_is_named_and_described_to_assistive_software(opened: Any) -> None:
    page = opened(study(grid()))
    assert page.locator("figure").count() == 6
    for title in page.locator("figure svg > title").all_text_contents():
        assert page.get_by_role("img", name=title).count() == 1
    snapshot = page.locator("main").aria_snapshot()
    for name in (
        "Trade-off",
        "Scaling",
        "Two axes at once",
        "What matters",
        "Where time and energy go",
        "Roofline",
    ):
        assert f'img "{name}' in snapshot


def ink(page: Any) -> Any:
    return page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")


def test_figures_follow_the_theme_of_the_system_and_of_the_button(opened: Any) -> None:
    dark = opened(study(grid()), color_scheme="dark")
    assert dark.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
    assert ink(dark) == "rgb(232, 234, 237)"
    dark.get_by_role("button", name="Switch between light and dark").click()
    assert ink(dark) == "rgb(34, 34, 34)"
    assert dark.locator("#theme").inner_text() == "Dark"


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_the_page_is_as_wide_as_the_screen(opened: Any, width: int) -> None:
    page = opened(study(grid()), viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_figures_stay_in_their_frame(opened: Any) -> None:
    """Texts are in the fonts of the reader, which may be wider than those the figure was laid out with."""
    page = opened(study(grid()), viewport={"width": 1200, "height": 800})
    outside = page.evaluate(
        """[...document.querySelectorAll("figure svg")].flatMap((svg) => {
             const frame = svg.getBoundingClientRect();
             return [...svg.querySelectorAll("text")]
               .filter((text) => {
                 const box = text.getBoundingClientRect();
                 return box.left < frame.left - 2 || box.right > frame.right + 2;
               })
               .map((text) => text.textContent);
           })"""
    )
    assert outside == []


def test_print_is_light_and_without_controls(opened: Any) -> None:
    page = opened(study(grid()), color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert ink(page) == "rgb(34, 34, 34)"
    assert not page.locator("#filters").is_visible()
    assert page.locator("#table tbody tr").first.is_visible()


def test_the_page_reads_without_scripts(opened: Any) -> None:
    page = opened(study(grid()), java_script_enabled=False)
    assert page.locator("#table tbody tr").count() == 40
    assert not page.locator("#filters").is_visible()
