"""Files that people asked for, and what is said when one cannot be written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hwsim.errors import HwsimError


def write(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write beside the path, then rename: a full disk or an interruption leaves no half file."""
    beside = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    try:
        fill(beside)
        beside.replace(path)
    except OSError as error:
        raise HwsimError(f"cannot write '{path}': {error.strerror or error}; name another path") from error
    finally:
        _remove(beside)


def write_text(path: Path, text: str) -> None:
    """The text as UTF-8."""
    write(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def make_folder(path: Path) -> None:
    """The folder, where its parent is there."""
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise HwsimError(f"cannot write '{path}': {error.strerror or error}; name another path") from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        # the folder itself is the trouble, and has been reported
        return
