"""The page of devices says what the profiles say."""

from __future__ import annotations

from devices import clusters, devices
from reports.devices_page import power_shares, tables, with_tables
from tools.device_table import PAGE


def test_the_tables_of_the_page_are_those_of_the_profiles() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_tables(page), "run python -m tools.device_table"


def test_every_device_cluster_and_conflict_is_in_the_tables() -> None:
    text = tables()
    for one in [*devices(), *clusters()]:
        assert f"| `{one.id}` |" in text
        assert all(conflict in text for conflict in getattr(one, "conflicts", ()) if one in devices())


def test_the_power_limited_are_those_whose_peak_needs_more_than_the_limit() -> None:
    listed = tables().partition("### Power-limited at peak")[2].partition("### Clusters")[0]
    for one in devices():
        assert (f"| `{one.id}` |" in listed) == (max(power_shares(one).values()) > 1)


def test_the_words_around_the_marks_stay() -> None:
    page = "before\n<!-- generated: begin -->\nwhat was there\n<!-- generated: end -->\nafter\n"
    made = with_tables(page)
    assert made.startswith("before\n")
    assert made.endswith("\nafter\n")
    assert "what was there" not in made
    assert with_tables(made) == made
