"""Fitted and prior coefficients: read from files by scope, each with its source; arrays as what-ifs."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from devices import Device
from devices.measured import FILE, coefficient_folder, measured
from hwsim.errors import HwsimError
from hwsim.surface import Surface, read_surface
from hwsim.version import VERSION

FOLDER = Path(__file__).with_name("coefficients")
TIERS = {
    "engine": "datasheet",
    "vendor": "vendor",
    "memory": "datasheet",
    "generation": "vendor generation",
    "device": "measured on this device",
    "machine": "measured on this machine",
}
_ORDER = ("engine", "memory", "vendor", "generation", "device", "machine")
# Above 1 these would undercut the floors of the machine, at 0 something would be divided by nothing.
_SHARES, _FRACTIONS = ("_efficiency", "_share"), ("overlap", "clock_knee", "clock_floor", "surface_weight")
_OTHER_TABLES = ("environment", "device", "residuals", "peaks", "surface")
_POSITIVE = (
    "clock_floor",
    "board_memory_scale",
    "cluster_sharing",
    "unit_byte_per_clock",
    "unit_sharing",
    "blocks_together",
    "kernel_slowdown",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """Values by name for one device, and the scope each came from (engine, vendor, generation, device)."""

    values: Mapping[str, Any]
    scopes: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    surface: Surface = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def tier(self) -> str:
        """What an estimate rests on: the narrowest scope any coefficient came from."""
        scopes = [*self.scopes.values(), *(["device"] if self.surface else [])]
        narrowest = max(scopes, key=_ORDER.index)
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
        return replace(self, values={**self.values, **changes})


def coefficients_for(device: Device) -> Coefficients:
    """Coefficients of `device`, each from the narrowest file that has it."""
    values: dict[str, Any] = {}
    scopes: dict[str, str] = {}
    warnings = _doubts(device)
    names = (device.engine, *places_of(device))
    for name in names[: -1 if any(doubt.foreign for doubt in warnings) else None]:
        for coefficient, value, scope in _in_files(name):
            values[coefficient], scopes[coefficient] = value, scope
    if not values:
        raise HwsimError(
            f"engine {device.engine!r} has no coefficients; add hwsim/coefficients/{device.engine}.toml"
        )
    for coefficient, value, scope in _in_files("network"):
        values.setdefault(coefficient, value)
        scopes.setdefault(coefficient, scope)
    surface, stale = _surface_of(device, fingerprint(values))
    told = tuple(doubt.text for doubt in warnings) + stale
    return Coefficients(values=values, scopes=scopes, warnings=told, surface=surface)


def fingerprint(values: Mapping[str, float]) -> str:
    """Tells apart the coefficients by which a surface was learned; spreads change no latency."""
    told = ",".join(f"{name}={values[name]:.4g}" for name in sorted(values) if "sigma" not in name)
    return hashlib.blake2b(told.encode(), digest_size=6).hexdigest()


def _surface_of(device: Device, now: str) -> tuple[Surface, tuple[str, ...]]:
    """The patches of the user's own file of a device; those learned with other coefficients say nothing."""
    path = file_of(user_folder(), device.id)
    if not path.is_file():
        return {}, ()
    patches = surface_in(path, path.stat().st_mtime_ns)
    stale = [key for key, patch in patches.items() if patch.learned_with != now]
    if not stale:
        return patches, ()
    warning = (
        f"measured kernels in {path} ({', '.join(stale)}) were learned with other coefficients and are not "
        "used; run `hwsim calibrate --from` again, with all files at once"
    )
    return {key: patch for key, patch in patches.items() if key not in stale}, (warning,)


def file_of(folder: Path, place: str) -> Path:
    """The coefficient file of a place."""
    return folder / f"{place.replace('/', '_').replace(' ', '-')}.toml"


@cache
def surface_in(path: Path, changed_ns: int) -> Surface:
    """The patches in a coefficient file; cached by its time of change."""
    return read_surface(_document(path).get("surface", {}), path)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doubt:
    """What speaks against a calibration of this machine; a `foreign` one is of another and is left out."""

    text: str
    foreign: bool


def _doubts(device: Device) -> list[_Doubt]:
    """Whether the user's calibration of `local` was made on this CPU, with this torch."""
    seen = measured() if f"{device.id}.toml" == FILE else None
    if seen is None:
        return []
    again = "run `hwsim calibrate -d local`"
    if not seen.of(device.name, int(np.max(device.compute.units))):
        told = f"{seen.environment.get('cpu')}, {seen.environment.get('cores')} cores"
        return [
            _Doubt(
                text=f"the calibration in the user's folder is of {told} and not used; {again}", foreign=True
            )
        ]
    here = torch_version()
    if here and seen.environment.get("torch") not in (here, None):
        told = f"with torch {seen.environment['torch']}, and this is {here}"
        return [_Doubt(text=f"this machine was calibrated {told}; {again}", foreign=False)]
    if seen.environment.get("hwsim") != VERSION:
        told = f"by hwsim {seen.environment.get('hwsim', 'of old')}, and this is {VERSION}"
        return [_Doubt(text=f"this machine was calibrated {told}; {again[:-1]} --refit`", foreign=False)]
    return []


def user_folder() -> Path:
    """Where `hwsim calibrate` writes and where its files are found first."""
    return coefficient_folder()


@cache
def torch_version() -> str | None:
    """The version of the installed torch, without importing it."""
    spec = find_spec("torch")
    file = Path(spec.origin).with_name("version.py") if spec is not None and spec.origin else None
    found = re.search(r"__version__ = '([^']+)'", file.read_text()) if file and file.is_file() else None
    return found[1] if found else None


def shipped(name: str) -> dict[str, float]:
    """The values of one file that ships, whatever device or way of measuring it is of."""
    return {coefficient: value for coefficient, value, _ in _read(FOLDER / f"{name}.toml", 0)}


def places_of(device: Device) -> tuple[str, ...]:
    """Names of the files that may say something of a device, from broad to narrow: its kind of memory, its
    vendor, its generation, itself.
    """
    dram = device.memory.dram
    memory = re.match("[A-Z]+", dram.type) if dram is not None else None
    kind = (memory.group().lower(),) if memory else ()
    return (*kind, device.vendor.lower(), device.generation.lower(), device.id)


def _in_files(name: str) -> tuple[tuple[str, float, str], ...]:
    """(coefficient, value, scope) of the shipped file of a name, then of the user's own, which is to win."""
    stem = name.replace("/", "_").replace(" ", "-")
    files = (f"{stem}.toml", f"{stem}-energy.toml")  # fitted on latencies, and on joules
    paths = [folder / file for folder in (FOLDER, user_folder()) for file in files]
    return tuple(entry for path in paths if path.is_file() for entry in _read(path, path.stat().st_mtime_ns))


@cache
def _read(path: Path, changed_ns: int) -> tuple[tuple[str, float, str], ...]:
    """The entries of a file; cached by its time of change, so that an edited file is read again."""
    document = _document(path)
    scope = document.get("scope")
    if scope not in _ORDER:
        raise HwsimError(
            f"coefficient file {path} has scope {scope!r}; it must be one of {', '.join(_ORDER)}"
        )
    scope = scope if document.get("fitted_on") else "engine"  # a prior is no evidence, however narrow
    found = []
    for name, entry in document.items():
        if not isinstance(entry, dict) or name in _OTHER_TABLES:
            continue
        value: Any = entry.get("value")
        rule = _broken_rule(name, value)
        if rule:
            raise HwsimError(f"coefficient {name!r} in {path} is {value!r}; it must be {rule}")
        if not entry.get("source"):
            raise HwsimError(f"coefficient {name!r} in {path} names no source; say where it comes from")
        found.append((name, float(value), scope))
    return tuple(found)


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HwsimError(f"coefficient file {path} cannot be read ({error}); correct or delete it") from error


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
