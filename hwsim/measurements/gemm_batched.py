"""Batched and plain products with bias, one op between two events: op, batch, m, k, n, bias."""

from __future__ import annotations

from collections.abc import Iterator

from graphs import kernels
from hwsim.measurements.event import EVENT
from hwsim.measurements.question import Answerable, Part, Question, Refusal, dtype_name
from hwsim.measurements.table import Table

TITLE = "batched GEMM, and GEMM with bias, event timing: op, batch, m, k, n, bias"
NEEDS = frozenset(("op", "batch", "m", "k", "n", "bias", "dtype"))


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, op, dtype and bias."""
    sizes = {name: table.number(name) for name in ("batch", "m", "n", "k")}
    for (device, op, dtype, bias), rows in table.groups("device", "op", "dtype", "bias").items():
        name = dtype_name(dtype)
        if op not in ("bmm", "linear") or name is None:
            yield Refusal(rows, f"operator {op!r} in {dtype!r} is not known to this layout", op)
            continue
        m, n, k = (sizes[s][rows] for s in ("m", "n", "k"))
        if op == "bmm":
            graph, given = (
                kernels.gemm(name, batched=True),
                {"b": sizes["batch"][rows], "m": m, "n": n, "k": k},
            )
        else:
            graph, given = (
                kernels.gemm(name, bias=bias == "1"),
                {"m": sizes["batch"][rows] * m, "n": n, "k": k},
            )
        yield Question(
            rows=rows, device=device, op=op, parts=(Part(graph=graph, sizes=given),), protocol=EVENT
        )
