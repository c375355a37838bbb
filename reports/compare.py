"""Comparisons as tables: a column per curve over the values, or a line per model and device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from hwsim.comparison import Comparison, Curve, Metric
from reports.numbers import UNKNOWN, byte_count, quantity, seconds
from reports.table import fits_word, number, plain_rate, plain_table

WIDTH = 80


def comparison_table(comparison: Comparison) -> RenderableType:
    """The numbers, then in words where curves cross, what is left out and what does not fit."""
    tables = [_pairs(comparison)] if comparison.axis is None else list(_columns(comparison))
    lines = [*(_sentence(one.text) for one in comparison.crossovers), *map(_sentence, comparison.notes)]
    return Group(Text(comparison.title), *tables, *map(Text, lines))


def _pairs(comparison: Comparison) -> RenderableType:
    """All four metrics of each model on each device."""
    estimates = [curve.estimates[0] for curve in comparison.curves]
    in_tokens = all(e.tokens_per_s is not None for e in estimates)
    rate = ">tokens/s" if in_tokens else ">samples/s"
    columns = ("model", "device", ">latency", rate, ">energy", ">memory", "fits", "bound")
    table = plain_table(*columns, gap=1)
    for e in estimates:
        table.add_row(
            Text(e.model),
            Text(e.device),
            seconds(number(e.latency_s)),
            plain_rate(e.tokens_per_s if in_tokens else e.samples_per_s),
            quantity(number(e.energy_j), "J", small=True),
            byte_count(number(e.peak_memory_bytes)),
            fits_word(e),
            str(e.bound),
        )
    return table


def _columns(comparison: Comparison) -> Iterator[RenderableType]:
    """As many columns beside each other as a terminal has room for; brackets mean that it does not fit."""
    axis = comparison.axis
    assert axis is not None  # the caller has asked
    values = [axis.written(float(value)) for value in axis.values]
    first = max(len(axis.name), *map(len, values)) + 2
    for curves in _blocks(comparison.curves, first):
        table = plain_table(f">{axis.name}", *(f">{_head(curve)}" for curve in curves))
        cells = [_cells(comparison, curve) for curve in curves]
        for row in zip(values, *cells, strict=True):
            table.add_row(*row)
        yield table
        yield Text()


def _blocks(curves: Sequence[Curve], first: int) -> Iterator[Sequence[Curve]]:
    block: list[Curve] = []
    used = first
    for curve in curves:
        width = max(len(line) for line in [*_head(curve).split("\n"), "(999 ms)"]) + 2
        if block and used + width > WIDTH:
            yield block
            block, used = [], first
        block.append(curve)
        used += width
    yield block


def _head(curve: Curve) -> str:
    """Model above device where both tell curves apart."""
    return curve.label.replace(" on ", "\n")


def _cells(comparison: Comparison, curve: Curve) -> list[str]:
    written = [
        shown(value, comparison.metric) if fits else f"({shown(value, comparison.metric)})"
        for value, fits in zip(curve.values(comparison.metric).tolist(), curve.fits.tolist(), strict=True)
    ]
    return [UNKNOWN if cell is None else cell for cell in comparison.aligned(curve, written)]


def shown(value: float, metric: Metric) -> str:
    """A number of the metric for a table or an axis."""
    if metric.dimension == "second":
        return seconds(value)
    if metric.dimension == "joule":
        return quantity(value, "J", small=True)
    return byte_count(value) if metric.dimension == "byte" else plain_rate(value)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] if " " in text and text.split(" ")[0] in ("on", "for") else text
