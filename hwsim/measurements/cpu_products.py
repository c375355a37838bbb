"""Square products of a CPU library: section (the machine), dtype, m, n, k, gflops, n_runs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from devices import DeviceError
from devices import device as find_device
from graphs import kernels
from hwsim.measurements.device_names import device_called
from hwsim.measurements.quantised_weights import FORMATS
from hwsim.measurements.question import Answerable, Part, Protocol, Question, Refusal
from hwsim.measurements.table import Table

TITLE = "square products on a CPU: section, dtype, m, n, k, gflops, n_runs"
NEEDS = frozenset(("section", "dtype", "m", "n", "k", "gflops", "n_runs"))
# the tool's later tables were run with one thread, as their other columns say; the old one used all cores
ONE_THREAD = {"device.compute.units": 1.0}
BENCH = Protocol(
    timing="host", statistic="mean", warm=True, source="a library's own benchmark of its products"
)


def questions(table: Table) -> Iterator[Answerable]:
    """One question per machine and dtype, where the machine's CPU has a profile."""
    m, n, k = (table.number(name) for name in ("m", "n", "k"))
    for (section, dtype), rows in table.groups("section", "dtype").items():
        name, label = re.sub(r"\(.*\)", "", section).strip(), f"gemm {dtype}"
        cpu = _cpu(name)
        if cpu is None or dtype.upper() not in FORMATS:
            note = f"no profile of the CPU of {name!r}" if cpu is None else f"dtype {dtype!r} is unknown"
            yield Refusal(rows, note, label)
            continue
        # quantised blocks are widened as they are read
        data, weights = ("fp16", "") if dtype == "F16" else ("fp32", FORMATS[dtype.upper()] or "")
        part = Part(graph=kernels.gemm(data, weights), sizes={"m": m[rows], "n": n[rows], "k": k[rows]})
        yield Question(
            rows=rows, device=cpu, op=label, parts=(part,), protocol=BENCH,
            settings={} if "old" in section else ONE_THREAD,
        )  # fmt: skip


def _cpu(name: str) -> str | None:
    """The id of a profile of that name, if it is of a CPU."""
    try:
        found = find_device(device_called(name, cpu=True))
    except DeviceError:
        return None
    return found.id if found.kind == "cpu" else None
