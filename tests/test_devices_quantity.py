"""Text with units: what is read, what is written, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.errors import DeviceError
from devices.quantity import UNITS, format_quantity, parse_any, parse_quantity

EVERY_UNIT = sorted((dimension, unit) for dimension, units in UNITS.items() for unit in units)


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("3.35 TB/s", "byte_per_s", 3.35e12),
        ("80 GiB", "byte", 80 * 2**30),
        ("80 GB", "byte", 80e9),
        ("1 kB", "byte", 1000.0),
        ("66.9 TFLOP/s", "flop_per_s", 66.9e12),
        ("4 TOP/s", "flop_per_s", 4e12),
        ("72 mW", "watt", 0.072),
        ("1.83 GHz", "hertz", 1.83e9),
        ("500ms", "second", 0.5),
        ("7 pJ/bit", "joule_per_byte", 56e-12),
        ("2 pJ/MAC", "joule_per_op", 1e-12),
        ("10.8 $/h", "usd_per_hour", 10.8),
        ("400 g/kWh", "gram_per_kwh", 400.0),
        ("814 mm^2", "square_mm", 814.0),
        ("1e3", "number", 1000.0),
        (0.5, "number", 0.5),
    ],
)
def test_text_with_a_unit_is_the_value_of_its_dimension(
    text: str | float, dimension: str, value: float
) -> None:
    assert parse_quantity(text, dimension) == value


@given(pair=st.sampled_from(EVERY_UNIT), value=st.floats(min_value=0, max_value=1e6))
def test_every_unit_scales_by_its_factor(pair: tuple[str, str], value: float) -> None:
    dimension, unit = pair
    parsed = parse_quantity(f"{value!r} {unit}", dimension)
    assert parsed == pytest.approx(value * UNITS[dimension][unit], rel=1e-12)


@given(dimension=st.sampled_from(sorted(UNITS)), value=st.floats(min_value=1e-13, max_value=1e19))
def test_what_is_written_reads_back_as_the_same_value(dimension: str, value: float) -> None:
    text = format_quantity(value, dimension, digits=9)
    assert parse_quantity(text, dimension) == pytest.approx(value, rel=1e-8)


def test_the_written_unit_keeps_the_number_at_or_above_one() -> None:
    assert format_quantity(3.35e12, "byte_per_s") == "3.35 TB/s"
    assert format_quantity(999.99e9, "byte") == "1 TB"
    assert format_quantity(80 * 2**30, "byte", binary=True) == "80 GiB"
    assert format_quantity(0.0, "joule") == "0 J"
    assert format_quantity(132.0, "number") == "132"


def test_an_unknown_dimension_of_the_text_is_found_from_its_unit() -> None:
    assert parse_any("3 GB") == (3e9, "byte")
    assert parse_any("70 W") == (70.0, "watt")
    assert parse_any("12") == (12.0, "number")


@pytest.mark.parametrize(
    ("text", "dimension", "message"),
    [
        ("nan TB/s", "byte_per_s", "'nan TB/s' is not finite; give a number"),
        ("inf W", "watt", "'inf W' is not finite; give a number"),
        ("1e308 PB", "byte", "'1e308 PB' is not finite; give a number"),
        ("-1 GB", "byte", "'-1 GB' is negative; quantities are zero or more"),
        ("3 gb/s", "byte_per_s", "did you mean 'GB/s'?"),
        ("3 W", "byte", "'3 W' is not a byte; write it like '1 GB'"),
        ("3", "byte", "'3' has no unit; a byte is written like '1 GB'"),
        ("3 MW/h", "number", "has a unit where a plain number belongs"),
        ("fast", "hertz", "'fast' is not a quantity"),
        ("", "hertz", "'' is not a quantity"),
        (True, "number", "True is not a quantity"),
        ("3 GB", "bytes", "no dimension 'bytes'; did you mean 'byte'?"),
    ],
)
def test_a_bad_quantity_is_refused_in_one_line(text: str, dimension: str, message: str) -> None:
    with pytest.raises(DeviceError) as refused:
        parse_quantity(text, dimension)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_unit_names_a_near_one() -> None:
    with pytest.raises(DeviceError, match="no unit 'GHertz'; did you mean 'GHz'"):
        parse_any("3 GHertz")


def test_writing_in_an_unknown_dimension_is_refused() -> None:
    with pytest.raises(DeviceError, match="no dimension 'speed'"):
        format_quantity(1.0, "speed")
