"""What a host adds where a profile is silent: the cited table `hosts.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from devices.device import MemoryLevel
from devices.quantity import parse_quantity

_FILE = Path(__file__).with_name("hosts.toml")


def nvme() -> MemoryLevel:
    """The drive of a host."""
    row = _table()["nvme"]
    return MemoryLevel(
        capacity_byte=parse_quantity(row["capacity"], "byte"),
        per_unit=False,
        bandwidth_byte_per_s=parse_quantity(row["bandwidth"], "byte_per_s"),
        label=row["label"],
    )


def nvme_source() -> str:
    """What stands beside it in a device: that it is assumed; the table holds its own source."""
    return f"assumed: {_table()['nvme']['label']} (devices/hosts.toml)"


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))
