"""Fitted and prior coefficients: read from files by scope, each with its source; arrays as what-ifs."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from devices import Device
from hwsim.errors import HwsimError

FOLDER = Path(__file__).with_name("coefficients")
TIERS = {
    "engine": "datasheet",
    "vendor": "vendor",
    "generation": "vendor generation",
    "device": "measured on this device",
    "machine": "measured on this machine",
}
_ORDER = ("engine", "vendor", "generation", "device", "machine")
# Above 1 these would undercut the floors of the machine, at 0 something would be divided by nothing.
_SHARES, _FRACTIONS = ("_efficiency", "_share"), ("overlap", "clock_knee", "clock_floor")
_POSITIVE = ("clock_floor", "board_memory_scale", "cluster_sharing", "unit_byte_per_clock")


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """Values by name for one device, and the scope each came from (engine, vendor, generation, device)."""

    values: Mapping[str, Any]
    scopes: Mapping[str, str]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def tier(self) -> str:
        """What an estimate rests on: the narrowest scope any coefficient came from."""
        narrowest = max(self.scopes.values(), key=_ORDER.index)
        return TIERS[narrowest]

    def replace(self, changes: Mapping[str, Any]) -> Coefficients:
        """With values changed; numbers or arrays within their range."""
        for name, value in changes.items():
            if name not in self.values:
                near = get_close_matches(name, list(self.values), n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(self.values)}"
                raise HwsimError(f"no coefficient {name!r}{hint}")
            rule = _broken_rule(name, value)
            if rule:
                raise HwsimError(f"coefficient.{name} is {value}; it must be {rule}")
        return Coefficients(values={**self.values, **changes}, scopes=self.scopes)


def coefficients_for(device: Device) -> Coefficients:
    """Coefficients of `device`, each from the narrowest file that has it."""
    values: dict[str, Any] = {}
    scopes: dict[str, str] = {}
    for name in (device.engine, device.vendor.lower(), device.generation.lower(), device.id):
        for coefficient, value, scope in _in_files(name):
            values[coefficient], scopes[coefficient] = value, scope
    if not values:
        raise HwsimError(
            f"engine {device.engine!r} has no coefficients; add hwsim/coefficients/{device.engine}.toml"
        )
    return Coefficients(values=values, scopes=scopes)


def _in_files(name: str) -> tuple[tuple[str, float, str], ...]:
    """(coefficient, value, scope) of the shipped file of a name, then of the user's own, which is to win."""
    stem = name.replace("/", "_").replace(" ", "-")
    files = (f"{stem}.toml", f"{stem}-energy.toml")  # fitted on latencies, and on joules
    paths = [folder / file for folder in (FOLDER, user_folder()) for file in files]
    return tuple(entry for path in paths if path.is_file() for entry in _read(path, path.stat().st_mtime_ns))


def user_folder() -> Path:
    """Where `hwsim calibrate` writes and where its files are found first."""
    from platformdirs import user_config_path

    return user_config_path("hwsim", appauthor=False) / "coefficients"


@cache
def _read(path: Path, changed_ns: int) -> tuple[tuple[str, float, str], ...]:
    """The entries of a file; cached by its time of change, so that an edited file is read again."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HwsimError(f"coefficient file {path} cannot be read ({error}); correct or delete it") from error
    scope = document.get("scope")
    if scope not in _ORDER:
        raise HwsimError(
            f"coefficient file {path} has scope {scope!r}; it must be one of {', '.join(_ORDER)}"
        )
    scope = scope if document.get("fitted_on") else "engine"  # a prior is no evidence, however narrow
    found = []
    for name, entry in document.items():
        if not isinstance(entry, dict):
            continue
        value: Any = entry.get("value")
        rule = _broken_rule(name, value)
        if rule:
            raise HwsimError(f"coefficient {name!r} in {path} is {value!r}; it must be {rule}")
        if not entry.get("source"):
            raise HwsimError(f"coefficient {name!r} in {path} names no source; say where it comes from")
        found.append((name, float(value), scope))
    return tuple(found)


def _broken_rule(name: str, value: Any) -> str | None:
    """What a value of this coefficient must be and is not."""
    if isinstance(value, bool | str) or value is None:
        return "a number"
    numbers = np.asarray(value, dtype=np.float64)
    if not np.all(np.isfinite(numbers)) or np.any(numbers < 0):
        return "a finite number of at least 0"
    share = name.endswith(_SHARES)
    if (share or name in _POSITIVE) and np.any(numbers == 0):
        return "above 0"
    if (share or name in _FRACTIONS) and np.any(numbers > 1):
        return "at most 1"
    return None
