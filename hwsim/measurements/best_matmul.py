"""The fastest matrix product found per device: m, n, k, dtype, best_tflops, theory_tflops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hwsim.measurements.device_names import device_called
from hwsim.measurements.gemm import product_graph
from hwsim.measurements.question import LATENCY, Answerable, Part, Protocol, Question, Refusal, Target
from hwsim.measurements.table import Table

TITLE = "best matrix product per device: m, n, k, dtype, best_tflops, theory_tflops"
NEEDS = frozenset(("device", "m", "n", "k", "dtype", "best_tflops", "theory_tflops"))
TARGETS = ("latency_us", "best_tflops")
SEARCH = Protocol(
    timing="event",
    statistic="fastest of 100",
    warm=False,
    source="a search over shapes, cache flushed between runs",
)
# names in the table for cards whose profile is called otherwise
DEVICES = {"NVIDIA GH200 SXM": "gh200", "AMD MI355X": "mi355x", "AMD MI325X": "mi325x"}


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device and dtype."""
    sizes = {name: table.number(name) for name in ("m", "n", "k")}
    for (device, dtype), rows in table.groups("device", "dtype").items():
        graph, label = product_graph(dtype), f"gemm {dtype}"
        if graph is None:
            yield Refusal(rows, f"dtype {dtype!r} is unknown", label)
            continue
        given = {name: size[rows] for name, size in sizes.items()}
        flop = 2 * given["m"] * given["n"] * given["k"]
        rate = Target(column="best_tflops", quantity="rate", amount=flop, unit=1e-12)
        name = DEVICES.get(device, device)
        asked = Question(
            rows=rows, device=name, op=label, parts=(Part(graph=graph, sizes=given),), protocol=SEARCH
        )
        yield replace(asked, device=device_called(name), targets=(LATENCY, rate))
