"""Whole requests as tables: first token, further tokens, totals."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from hwsim.requests import Request
from reports.numbers import UNKNOWN, byte_count, quantity, seconds, significant
from reports.table import (
    MEMORY,
    fits_word,
    memory_line,
    number,
    parts_line,
    plain_rate,
    plain_table,
    tier_line,
)


def request_summary(request: Request) -> RenderableType:
    """One panel with everything; for a single request."""
    lines = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    lines.add_column(no_wrap=True)
    lines.add_column(overflow="fold")
    for label, text in _lines(request):
        if text:
            lines.add_row(Text(label), Text(text))
    return Panel(lines, title=Text(f" {request.model} on {request.device} "), title_align="left")


def requests_table(requests: Sequence[Request]) -> RenderableType:
    """One line per request, in the order given."""
    priced = any(r.cost_usd is not None for r in requests)
    columns = ("device", ">TTFT", ">TPOT", ">total", ">tokens/s", ">J/token", ">memory", "fits")
    table = plain_table(*columns, *((">$/M tok",) if priced else ()), gap=1)
    for r in requests:
        cost = number(r.usd_per_million_tokens)
        table.add_row(
            Text(r.device),
            seconds(number(r.ttft_s)),
            seconds(number(r.tpot_s)),
            seconds(number(r.latency_s)),
            plain_rate(r.tokens_per_s),
            significant(float(r.energy_per_token_j)),
            byte_count(number(r.peak_memory_bytes)),
            fits_word(r),
            *(((UNKNOWN if cost is None else significant(cost)),) if priced else ()),
        )
    titles = dict.fromkeys(f"{r.model}: {_asked(r)}" for r in requests)
    return Group(*map(Text, titles), table)


def _asked(r: Request) -> str:
    sizes = {name: value for name, value in r.prefill.sizes.items() if name != "seq"}
    # nothing cached beforehand is the rule
    cached = sizes.pop("context", 0.0)
    sizes = {"batch": sizes.pop("batch", 1.0), **sizes} | ({"cached": cached} if cached else {})
    listed = [f"{name} {float(value):g}" for name, value in sizes.items()]
    tokens = f"{float(r.generate):g} {'token' if r.generate == 1 else 'tokens'} after {float(r.prompt):g}"
    return ", ".join([tokens, *listed, r.dtype, r.stack])


def _lines(r: Request) -> list[tuple[str, str]]:
    return [
        ("request", _asked(r)),
        ("TTFT", _interval(r.ttft_s, r.ttft_low_s, r.ttft_high_s)),
        ("TPOT", _next(r)),
        ("total", _interval(r.latency_s, r.latency_low_s, r.latency_high_s)),
        (
            "bound",
            f"prefill by {r.prefill.bound}" + (f", decode by {r.decode_bound}" if r.decode_bound else ""),
        ),
        ("throughput", _throughput(r)),
        ("energy", _energy(r)),
        ("power", f"{quantity(number(r.average_power_w), 'W', small=True)} on average"),
        ("memory", memory_line(r)),
        ("", parts_line(r.memory_bytes, MEMORY, "B")),
        ("cost", _cost(r)),
        ("tier", tier_line(r)),
    ]


def _interval(value: object, low: object, high: object) -> str:
    return f"{seconds(number(value))} (interval {seconds(number(low))} to {seconds(number(high))})"


def _next(r: Request) -> str:
    if r.decode is None:
        return ""
    ends = [significant(1e3 * float(r.decode.latency_s[step])) for step in (0, -1)]
    growth = f", steps {ends[0]} to {ends[1]} ms" if ends[0] != ends[1] else ""
    return f"{_interval(r.tpot_s, r.tpot_low_s, r.tpot_high_s)}{growth}"


def _throughput(r: Request) -> str:
    text = f"{plain_rate(r.tokens_per_s)} tokens/s, {plain_rate(r.total_tokens_per_s)} with the prompt"
    return text if r.decode is None else f"{text}, {plain_rate(r.decode_tokens_per_s)} while decoding"


def _energy(r: Request) -> str:
    total, token = (quantity(number(value), "J", small=True) for value in (r.energy_j, r.energy_per_token_j))
    parts = parts_line({"prefill": r.energy_prefill_j, "decode": r.energy_decode_j}, _PHASES, "J")
    return f"{total}: {parts}; {token} per token"


_PHASES = {"prefill": "prefill", "decode": "decode"}


def _cost(r: Request) -> str:
    if r.cost_usd is None or r.usd_per_million_tokens is None:
        return ""
    request, tokens = significant(float(r.cost_usd)), significant(float(r.usd_per_million_tokens))
    return f"$ {request} per request, $ {tokens} per million generated tokens"
