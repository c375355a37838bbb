"""Text with a unit to an SI float and back: the only place where units are read.

Prefixes are case-sensitive (`mW` is not `MW`). GB is 1e9 bytes and GiB is 2**30. `KB` is read as 1000 bytes.
One multiply-accumulate is two operations, so `2 pJ/MAC` is `1 pJ/FLOP`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal

from devices.errors import DeviceError, near

NUMBER = "number"

_NUMBER = re.compile(
    r"\s*(?P<value>[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|nan|inf(?:inity)?))\s*(?P<unit>\S.*?)?\s*",
    re.IGNORECASE,
)
_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
_SMALL = {"p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3}


def _with_prefixes(unit: str, prefixes: Mapping[str, float], scale: float = 1.0) -> dict[str, float]:
    return {prefix + unit: factor * scale for prefix, factor in prefixes.items()}


_BYTE = {**_with_prefixes("B", {**_DECIMAL, "K": 1e3, **_BINARY}), "byte": 1.0, "bytes": 1.0}
_JOULE = _with_prefixes("J", {**_SMALL, **_DECIMAL})

# Dimension -> unit -> factor to the unit that the dimension's name says.
UNITS: Mapping[str, Mapping[str, float]] = {
    "byte": _BYTE,
    "byte_per_s": {f"{unit}/s": factor for unit, factor in _BYTE.items()},
    "flop": _with_prefixes("FLOP", _DECIMAL),
    "flop_per_s": {**_with_prefixes("FLOP/s", _DECIMAL), **_with_prefixes("FLOPS", _DECIMAL)},
    "op_per_s": {**_with_prefixes("OP/s", _DECIMAL), **_with_prefixes("OPS", _DECIMAL)},
    "watt": _with_prefixes("W", {"": 1.0, "m": 1e-3, "u": 1e-6, "k": 1e3, "M": 1e6}),
    "hertz": _with_prefixes("Hz", {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}),
    "second": {**_with_prefixes("s", {"": 1.0, **_SMALL}), "min": 60.0, "h": 3600.0},
    "joule": {**_JOULE, "Wh": 3600.0, "kWh": 3.6e6},
    "joule_per_byte": {
        **{f"{unit}/B": factor for unit, factor in _JOULE.items()},
        **{f"{unit}/byte": factor for unit, factor in _JOULE.items()},
        **{f"{unit}/bit": factor * 8 for unit, factor in _JOULE.items()},
    },
    "joule_per_op": {
        **{f"{unit}/FLOP": factor for unit, factor in _JOULE.items()},
        **{f"{unit}/op": factor for unit, factor in _JOULE.items()},
        **{f"{unit}/MAC": factor / 2 for unit, factor in _JOULE.items()},
    },
    "usd_per_hour": {"$/h": 1.0, "USD/h": 1.0},
    "gram_per_kwh": {"g/kWh": 1.0, "kg/kWh": 1e3},
    "square_mm": {"mm^2": 1.0, "mm2": 1.0, "cm^2": 100.0},
    "nm": {"nm": 1.0, "um": 1e3},
    "transfer_per_s": {"MT/s": 1e6, "GT/s": 1e9},
    NUMBER: {"": 1.0},
}

# Operations on integers are written OP/s and those on floats FLOP/s; peaks take either.
_ALSO_READ = {"flop_per_s": ("op_per_s",)}

# Units that format_quantity writes, largest first.
_WRITTEN: Mapping[str, tuple[str, ...]] = {
    "byte": ("PB", "TB", "GB", "MB", "kB", "B"),
    "byte_per_s": ("PB/s", "TB/s", "GB/s", "MB/s", "kB/s", "B/s"),
    "flop": ("EFLOP", "PFLOP", "TFLOP", "GFLOP", "MFLOP", "kFLOP", "FLOP"),
    "flop_per_s": ("PFLOP/s", "TFLOP/s", "GFLOP/s", "MFLOP/s", "kFLOP/s", "FLOP/s"),
    "op_per_s": ("POP/s", "TOP/s", "GOP/s", "MOP/s", "kOP/s", "OP/s"),
    "watt": ("MW", "kW", "W", "mW", "uW"),
    "hertz": ("GHz", "MHz", "kHz", "Hz"),
    "second": ("s", "ms", "us", "ns"),
    "joule": ("MJ", "kJ", "J", "mJ", "uJ", "nJ", "pJ"),
    "joule_per_byte": ("uJ/B", "nJ/B", "pJ/B"),
    "joule_per_op": ("uJ/FLOP", "nJ/FLOP", "pJ/FLOP"),
    "usd_per_hour": ("$/h",),
    "gram_per_kwh": ("g/kWh",),
    "square_mm": ("mm^2",),
    "nm": ("nm",),
    "transfer_per_s": ("GT/s", "MT/s"),
    NUMBER: ("",),
}
_WRITTEN_BINARY = ("TiB", "GiB", "MiB", "KiB", "B")


def parse_quantity(text: str | float, dimension: str) -> float:
    """The value of a text such as `"3.35 TB/s"` in the unit its dimension names; no NaN, inf or negatives.

    A bare number is taken only where the dimension is `number`.
    """
    units = _units_of(dimension)
    value, unit = _split(text)
    if unit not in units:
        raise DeviceError(_wrong_unit(text, unit, dimension, units))
    return _scaled(text, value, units[unit])


def parse_any(text: str | float) -> tuple[float, str]:
    """The value and the dimension of a text whose dimension is not known beforehand."""
    value, unit = _split(text)
    for dimension, units in UNITS.items():
        if unit in units:
            return _scaled(text, value, units[unit]), dimension
    every_unit = {unit for units in UNITS.values() for unit in units}
    raise DeviceError(f"'{text}': no unit '{unit}'{near(unit, every_unit)}")


def format_quantity(value: float, dimension: str, *, digits: int = 3, binary: bool = False) -> str:
    """The value with the largest unit that keeps it at or above one, for example `"3.35 TB/s"`."""
    _units_of(dimension)
    written = _WRITTEN_BINARY if binary and dimension == "byte" else _WRITTEN[dimension]
    factors = UNITS[dimension]
    if not math.isfinite(value) or value == 0:
        unit = min(written, key=lambda name: abs(math.log(factors[name])))
        return f"{value:g} {unit}".rstrip()
    for unit in written:
        shown = f"{value / factors[unit]:.{digits}g}"
        if abs(float(shown)) >= 1:
            break
    return f"{shown} {unit}".rstrip()


def _units_of(dimension: str) -> Mapping[str, float]:
    if dimension not in UNITS:
        raise DeviceError(f"no dimension '{dimension}'{near(dimension, UNITS)}")
    merged = dict(UNITS[dimension])
    for other in _ALSO_READ.get(dimension, ()):
        merged.update(UNITS[other])
    return merged


def _split(text: str | float) -> tuple[float, str]:
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise DeviceError(f"{text!r} is not a quantity; write text such as '3.35 TB/s'")
    found = _NUMBER.fullmatch(text if isinstance(text, str) else repr(text))
    if found is None:
        raise DeviceError(f"'{text}' is not a quantity; write a number and a unit, such as '3.35 TB/s'")
    value = float(found["value"])
    _finite(text, value)
    if value < 0:
        raise DeviceError(f"'{text}' is negative; quantities are zero or more")
    return value, found["unit"] or ""


def _scaled(text: str | float, value: float, factor: float) -> float:
    """Exact in decimal, so that 66.9 TFLOP/s is 66.9e12 and not a neighbour of it."""
    return _finite(text, float(Decimal(repr(value)) * Decimal(repr(factor))))


def _finite(text: str | float, value: float) -> float:
    if not math.isfinite(value):
        raise DeviceError(f"'{text}' is not finite; give a number")
    return value


def _wrong_unit(text: str | float, unit: str, dimension: str, units: Mapping[str, float]) -> str:
    written = _WRITTEN[dimension]
    example = written[len(written) // 3]
    if dimension == NUMBER:
        return f"'{text}' has a unit where a plain number belongs; drop '{unit}'"
    if not unit:
        return f"'{text}' has no unit; a {dimension} is written like '1 {example}'"
    return f"'{text}' is not a {dimension}; write it like '1 {example}'{near(unit, units)}"
