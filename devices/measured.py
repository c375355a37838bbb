"""What `hwsim calibrate -d local` measured of this machine: clock and bandwidths, from a user's file.

The file is that of the coefficients (`hwsim.fitted`); its tables `environment` and `device` are read here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from devices.errors import DeviceError

FILE = "local.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Where and with what it was measured, and device paths with their values in text with units."""

    environment: Mapping[str, str | int | float]
    changes: Mapping[str, str]

    def of(self, cpu: str, cores: int) -> bool:
        """Whether this was measured on such a machine."""
        return self.environment.get("cpu") == cpu and self.environment.get("cores") == cores


def coefficient_folder() -> Path:
    """Where `hwsim calibrate` writes and where its files are found first."""
    from platformdirs import user_config_path

    return user_config_path("hwsim", appauthor=False) / "coefficients"


def measured() -> Measured | None:
    """What the user's file says, or None where there is none."""
    path = coefficient_folder() / FILE
    return _read(path, path.stat().st_mtime_ns) if path.is_file() else None


@cache
def _read(path: Path, changed_ns: int) -> Measured:
    """The two tables; cached by the file's time of change, so that a new calibration is seen."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeviceError(f"{path} cannot be read ({error}); delete it and calibrate again") from None
    return Measured(environment=document.get("environment", {}), changes=document.get("device", {}))
