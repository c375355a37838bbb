"""Collective operations of several devices: op, num_gpus, message bytes; or a table of bus bandwidths."""

from __future__ import annotations

from collections.abc import Iterator

from hwsim.measurements.question import SEVERAL_DEVICES, Answerable, Refusal
from hwsim.measurements.table import Table

TITLE = "collective operations: op, num_gpus, message_bytes or size_bytes; or busbw_gbs, algbw_gbs"
NEEDS = (
    frozenset(("op", "num_gpus", "message_bytes")),
    frozenset(("op", "num_gpus", "size_bytes", "devices_per_node")),
    frozenset(("message_bytes", "busbw_gbs", "algbw_gbs")),
)


def questions(table: Table) -> Iterator[Answerable]:
    """Refusals only: links between devices are not simulated yet."""
    for (op,), rows in table.groups("op").items():
        yield Refusal(rows, f"{SEVERAL_DEVICES}: collectives are not simulated yet", op or "collective")
