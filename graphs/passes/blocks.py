"""Repeated blocks of a model: the items of its outermost module lists, such as `layers.3`."""

from __future__ import annotations


def block_of(path: str) -> str:
    """The outermost list item that a module or parameter belongs to; '' outside of any."""
    parts = path.split(".")
    for place, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[: place + 1])
    return ""
