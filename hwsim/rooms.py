"""Guards the generic room names: `graphs`, `devices` and `reports` must be hwsim's own, nobody else's."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

ROOMS = ("graphs", "devices", "reports")


def check_rooms() -> None:
    """Raise one clear ImportError when another package or file of the same name is found first."""
    home = Path(__file__).resolve().parent.parent
    for room in ROOMS:
        spec = find_spec(room)
        origin = None if spec is None else spec.origin
        if origin is None or Path(origin).resolve().parent.parent != home:
            raise ImportError(
                f"import {room!r} finds {origin or 'nothing'} instead of hwsim's own {home / room}; "
                f"rename that module or take its folder off sys.path"
            )
