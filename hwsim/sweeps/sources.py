"""A hash of the sources that price points: where it differs, numbers may."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

# What these read (graphs, devices, coefficients) is hashed as it is used.
SOURCES = (
    *("hwsim", "hwsim/engines", "hwsim/sweeps", "devices"),
    *("graphs", "graphs/expressions", "graphs/work", "graphs/passes"),
)


@cache
def tool_hash() -> str:
    """Hash of the sources that price points."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((root / folder).glob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
