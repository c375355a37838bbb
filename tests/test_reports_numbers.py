"""Numbers as they are printed."""

from __future__ import annotations

import pytest

from reports.numbers import byte_count, percent, quantity, seconds, significant


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1.00"),
        (9.996, "10.0"),
        (99.96, "100"),
        (12.345, "12.3"),
        (123456, "123000"),
        (999_999, "1.00e6"),
        (0.00123, "0.00123"),
        (1.2345e-5, "1.23e-5"),
        (-3.14159, "-3.14"),
    ],
)
def test_three_digits_are_shown(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.35e12, "3.35 TB/s"), (999.6e9, "1.00 TB/s"), (0, "0 B/s"), (0.5, "0.500 B/s"), (2e21, "2000 EB/s")],
)
def test_the_prefix_keeps_a_number_between_one_and_a_thousand(value: float, text: str) -> None:
    assert quantity(value, "B/s") == text


def test_times_go_from_nanoseconds_to_hours() -> None:
    assert [seconds(t) for t in (2e-9, 6.12e-3, 999.6e-6, 1.5, 7200.0)] == [
        "2.00 ns",
        "6.12 ms",
        "1.00 ms",
        "1.50 s",
        "2.00 h",
    ]


def test_what_is_unknown_is_a_dash_and_not_a_zero() -> None:
    assert {seconds(None), byte_count(None), percent(None), quantity(float("nan"), "J")} == {"-"}


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.534, "53 %"), (0.0999, "10 %"), (0.0213, "2.1 %"), (0.00042, "0.04 %"), (0.0, "0 %"), (1.2, "120 %")],
)
def test_percentages_have_the_digits_they_deserve(fraction: float, text: str) -> None:
    assert percent(fraction) == text
