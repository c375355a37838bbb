"""Results as small HTML tables, which notebooks show in place of a repr; no style sheet, no script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from devices import format_quantity

if TYPE_CHECKING:
    from hwsim.comparison import Comparison
    from hwsim.requests import Request
    from hwsim.result import Estimate

_ABSENT = "-"
_LEFT, _RIGHT = ' style="text-align:left"', ' style="text-align:right"'


def estimate_html(estimate: Estimate) -> str:
    """What takes how long and what it needs; of many points, the range."""
    e = estimate
    rows = [
        ("latency", _with_interval(e.latency_s, e.latency_low_s, e.latency_high_s)),
        ("bound", _words(e.bound)),
        ("energy", _range(e.energy_j, "joule")),
        ("average power", _range(e.average_power_w, "watt")),
        ("tokens/s", _range(e.tokens_per_s, "number")),
        ("samples/s", _range(e.samples_per_s, "number")),
        ("memory", _memory(e.peak_memory_bytes, e.memory_bytes["capacity"], e.fits)),
        ("work", _range(e.flops, "flop")),
        ("DRAM traffic", _range(e.dram_bytes, "byte")),
        ("MFU", _range(e.mfu, "number")),
        ("cost", _dollars(e.cost_usd)),
        ("tier", str(e.provenance.get("tier", _ABSENT))),
        *(("warning", text) for text in e.warnings),
    ]
    asked = [e.phase, *(f"{name} {_range(value, 'number')}" for name, value in e.sizes.items())]
    title = f"{e.model} on {e.device}: {', '.join([*asked, e.dtype, e.stack])}{_points(e.shape)}"
    return _pairs(title, rows)


def request_html(request: Request) -> str:
    """Times to the first and to each further token, totals and cost."""
    r = request
    rows = [
        ("time to first token", _with_interval(r.ttft_s, r.ttft_low_s, r.ttft_high_s)),
        ("time per token after it", _with_interval(r.tpot_s, r.tpot_low_s, r.tpot_high_s)),
        ("total", _with_interval(r.latency_s, r.latency_low_s, r.latency_high_s)),
        ("generated tokens/s", _range(r.tokens_per_s, "number")),
        ("energy", _range(r.energy_j, "joule")),
        ("energy per token", _range(r.energy_per_token_j, "joule")),
        ("memory", _memory(r.peak_memory_bytes, r.memory_bytes["capacity"], r.fits)),
        ("cost", _dollars(r.cost_usd)),
        ("per million tokens", _dollars(r.usd_per_million_tokens)),
        ("tier", str(r.provenance.get("tier", _ABSENT))),
        *(("warning", text) for text in r.warnings),
    ]
    generate, prompt, batch = (_range(value, "number") for value in (r.generate, r.prompt, r.batch))
    asked = f"{generate} tokens after {prompt}, batch {batch}, {r.dtype}, {r.stack}"
    return _pairs(f"{r.model} on {r.device}: {asked}{_points(r.shape)}", rows)


def comparison_html(comparison: Comparison) -> str:
    """One line per value compared over, one column per curve, and where curves cross."""
    c = comparison
    head = [c.over or "", *(curve.label for curve in c.curves)]
    values = [""] if c.axis is None else [c.axis.written(float(value)) for value in c.axis.values]
    columns = [c.aligned(curve, curve.values(c.metric)) for curve in c.curves]
    cells = [[_range(one, c.metric.dimension) for one in column] for column in columns]
    rows = [[value, *column] for value, column in zip(values, zip(*cells, strict=True), strict=True)]
    notes = [*(crossing.text for crossing in c.crossovers), *c.notes]
    return _table(c.title, head, rows) + "".join(f"<p>{escape(note)}</p>" for note in notes)


def _pairs(title: str, rows: Iterable[tuple[str, str]]) -> str:
    return _table(title, (), [row for row in rows if row[1] != _ABSENT])


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    titles = "".join(f"<th{_RIGHT}>{escape(name)}</th>" for name in head)
    lines = "".join(_line(row) for row in rows)
    above = f"<thead><tr>{titles}</tr></thead>" if head else ""
    return f"<table><caption>{escape(title)}</caption>{above}<tbody>{lines}</tbody></table>"


def _line(row: Sequence[str]) -> str:
    first, *others = row
    cells = "".join(f"<td{_RIGHT}>{escape(text)}</td>" for text in others)
    return f"<tr><th{_LEFT}>{escape(first)}</th>{cells}</tr>"


def _range(value: Any, dimension: str) -> str:
    """The value, or the least and the greatest of many; a dash where there is none."""
    if value is None:
        return _ABSENT
    finite = np.asarray(value, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return _ABSENT
    ends = dict.fromkeys(_written(float(end), dimension) for end in (finite.min(), finite.max()))
    return " to ".join(ends)


def _written(value: float, dimension: str) -> str:
    if dimension == "number":
        return f"{value:g}" if value == int(value) else f"{value:.4g}"
    return format_quantity(value, dimension)


def _with_interval(value: Any, low: Any, high: Any) -> str:
    text = _range(value, "second")
    if text == _ABSENT or np.ndim(value):
        return text
    return f"{text} ({_range(low, 'second')} to {_range(high, 'second')})"


def _memory(total: Any, capacity: Any, fits: Any) -> str:
    verdict = _words(np.where(fits, "fits", "does not fit"))
    return f"{_range(total, 'byte')} of {_range(capacity, 'byte')}: {verdict}"


def _words(value: Any) -> str:
    return " / ".join(str(word) for word in np.unique(value))


def _dollars(value: Any) -> str:
    text = _range(value, "number")
    return text if text == _ABSENT else f"$ {text}"


def _points(shape: tuple[int, ...]) -> str:
    return f" ({' x '.join(map(str, shape))} points)" if shape else ""
