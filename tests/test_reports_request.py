"""Whole requests as a terminal of 80 columns shows them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console, RenderableType

from hwsim.requests import Request
from reports.request import request_summary, requests_table
from tests.estimates import bert_on

STEPS = np.array([7.1e-3, 7.2e-3, 7.3e-3])


def text_of(*parts: RenderableType) -> str:
    file = io.StringIO()
    console = Console(file=file, width=80, markup=False, emoji=False, highlight=False)
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def four_tokens_on(device: str, **changes: Any) -> Request:
    """45 ms for the first of four tokens, then 7.1, 7.2 and 7.3 ms."""
    sizes = {"batch": 2.0, "seq": 2048.0, "context": 0.0}
    prefill = bert_on(device, model="llama", phase="prefill", latency_s=45e-3, sizes=sizes, **changes)
    decode = replace(
        prefill,
        phase="decode",
        latency_s=STEPS,
        breakdown_s={"compute": 0.1 * STEPS, "memory": 0.9 * STEPS},
        energy_by_j={"dram": 30 * STEPS, "static": 10 * STEPS},
        bytes_by_level={"dram": 1e9 * STEPS},
    )
    prefill = replace(prefill, breakdown_s={"compute": 40e-3, "memory": 5e-3})
    return Request(
        model="llama",
        device=device,
        prompt=2048.0,
        generate=4.0,
        prefill=prefill,
        decode=decode,
        steps=np.ones(3),
    )


def test_the_tables_of_a_request_read_as_agreed(golden: Callable[[str, str], None]) -> None:
    priced = four_tokens_on("h100-sxm", usd_per_hour=3.6)
    alone = replace(four_tokens_on("l4"), generate=1.0, decode=None, steps=np.zeros(0))
    several = [four_tokens_on("h100-sxm"), four_tokens_on("l4")]
    parts = [request_summary(priced), request_summary(alone), requests_table([priced, alone])]
    golden("requests.txt", text_of(*parts, requests_table(several)))


def test_lines_fit_a_terminal() -> None:
    wide = four_tokens_on("jetson-orin-agx", usd_per_hour=1e-9)
    assert max(map(len, text_of(request_summary(wide), requests_table([wide])).splitlines())) <= 80


def test_what_is_cached_beforehand_is_said() -> None:
    request = four_tokens_on("l4")
    cached = replace(request.prefill, sizes={**request.prefill.sizes, "context": 512.0})
    assert "4 tokens after 2048, batch 2, cached 512" in text_of(
        request_summary(replace(request, prefill=cached))
    )
