"""Matrix products on TPUs from documentation: op, dtype, m, n, k and a note on how each was timed."""

from __future__ import annotations

from collections.abc import Iterator

from hwsim.measurements.gemm import products
from hwsim.measurements.question import Answerable, Protocol, Refusal
from hwsim.measurements.table import Table

TITLE = "matrix products with a note on their timing: op, dtype, m, n, k, note"
NEEDS = frozenset(("device", "op", "dtype", "m", "n", "k", "note"))
TRACED = Protocol(timing="kernel", statistic="unstated", warm=True, source="example outputs of documentation")
# "one device" is read as one chip, although it may be one of its two cores; v6e is the source's own guess
DEVICES = {
    "TPU v7x (Ironwood) one device": "tpu-v7x",
    "TPU v6e? (device not named in the source)": "tpu-v6e",
}


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device and dtype."""
    m, n, k = (table.number(name) for name in ("m", "n", "k"))
    for (device, op, dtype), rows in table.groups("device", "op", "dtype").items():
        if op != "matmul":
            yield Refusal(rows, f"operator {op!r} is not known to this layout", op)
            continue
        yield from products(DEVICES.get(device, device), f"gemm {dtype}", dtype, rows, (m, n, k), TRACED)
