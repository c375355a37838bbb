"""Numbers as people read them: three significant digits, a unit with its SI prefix, a dash where unknown."""

from __future__ import annotations

import math

_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_SMALL = ((1e-3, "m"), (1e-6, "u"), (1e-9, "n"), (1e-12, "p"))
_HOUR_S = 3600.0
UNKNOWN = "-"


def significant(value: float) -> str:
    """Three significant digits, in exponent form only below 0.001 and from a million on."""
    # rounded first, so that 9.996 becomes 10.0 and not 10.00
    value = float(f"{value:.3g}")
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def quantity(value: float | None, unit: str, *, small: bool = False) -> str:
    """`quantity(3.35e12, "B/s")` is "3.35 TB/s"; `small` allows prefixes below one as well."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    factor, prefix = scale_of(value, small=small)
    return f"{significant(value / factor)} {prefix}{unit}".rstrip()


def scale_of(value: float, *, small: bool = False) -> tuple[float, str]:
    """Factor and prefix with which the value reads as 1 to 1000."""
    rounded = abs(float(f"{value:.3g}"))
    scales = (*_PREFIXES, *_SMALL) if small else _PREFIXES
    for factor, prefix in scales:
        # a hair below, because 999.6e-6 rounds to something beside 1e-3
        if rounded >= factor * (1 - 1e-9):
            return factor, prefix
    return scales[-1] if small and rounded else (1.0, "")


def seconds(value: float | None) -> str:
    """Picoseconds to seconds, and hours from a thousand seconds on."""
    if value is not None and value >= 1000:
        return f"{significant(value / _HOUR_S)} h"
    return quantity(value, "s", small=True)


def byte_count(value: float | None) -> str:
    """GB is 1e9 bytes."""
    return quantity(value, "B")


def percent(fraction: float | None) -> str:
    """No decimals from ten percent on, one below, two significant digits below 0.1 %."""
    if fraction is None or not math.isfinite(fraction):
        return UNKNOWN
    value = 100 * fraction
    if value == 0 or value >= 9.95:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if value >= 0.1 else f"{value:.1g} %"
