"""Summaries of a simulator beside a serving engine: model, metric, statistic, measured_us, simulated_us.

The requests' lengths and arrivals are not in the file, so nothing is answered; the simulator's own errors are
shown nowhere else and stay in the file.
"""

from __future__ import annotations

from collections.abc import Iterator

from hwsim.measurements.question import Answerable, Refusal
from hwsim.measurements.table import Table

TITLE = "summaries of served traffic: model, metric, statistic, measured_us, simulated_us"
NEEDS = frozenset(("device", "model", "metric", "statistic"))
TARGETS = ("measured_us",)


def questions(table: Table) -> Iterator[Answerable]:
    """Refusals only."""
    for (metric,), rows in table.groups("metric").items():
        yield Refusal(rows, "lengths and arrivals of the requests are not in the file", metric)
