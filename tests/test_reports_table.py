"""Tables as a terminal of 80 columns shows them."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console, RenderableType

import devices
from graphs.catalog import find, variant_names
from graphs.expressions import number, parse_condition
from graphs.ir import Operator, OperatorGraph, OpNode, SizeSymbol
from hwsim.grouping import group_rows
from reports.cards import model_card, models_table, trace_table
from reports.devices import device_card, devices_table
from reports.table import estimate_summary, estimates_table, group_table
from tests.estimates import ROWS, bert_on, too_large_for_its_device


def text_of(*parts: RenderableType) -> str:
    file = io.StringIO()
    console = Console(file=file, width=80, markup=False, emoji=False, highlight=False)
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def test_the_tables_of_an_estimate_read_as_agreed(golden: Callable[[str, str], None]) -> None:
    estimate = bert_on("h100-sxm")
    several = [
        bert_on("h100-sxm"),
        bert_on("eyeriss-v1", memory_bytes=too_large_for_its_device(), tokens=None),
        bert_on("l4"),
    ]
    parts = [
        estimate_summary(estimate),
        estimates_table(several),
        *(group_table(group_rows(ROWS, what), f"by {what}") for what in ("op", "kind", "module")),
    ]
    golden("tables.txt", text_of(*parts))


def test_a_summary_says_when_the_model_does_not_fit_and_when_the_clock_drops() -> None:
    text = text_of(
        estimate_summary(bert_on("h100-sxm", memory_bytes=too_large_for_its_device(), clock_scale=0.8))
    )
    assert "DOES NOT FIT" in text
    assert "clock held at 80 %" in text


def test_cost_is_shown_only_where_there_is_a_price() -> None:
    assert "cost" not in text_of(estimate_summary(bert_on("h100-sxm")))
    assert "$ 0.00120 per run" in text_of(estimate_summary(bert_on("h100-sxm", usd_per_hour=10800.0)))


def test_brackets_in_a_name_are_shown_as_they_are() -> None:
    assert "a[bold]b" in text_of(estimate_summary(bert_on("h100-sxm", model="a[bold]b")))


def test_no_line_is_wider_than_the_terminal() -> None:
    everything = [
        models_table([find(name) for name in variant_names()]),
        devices_table(devices.devices()),
        *(device_card(device) for device in devices.devices()),
        model_card(find("llama-3-8b")),
        estimate_summary(bert_on("h100-sxm")),
    ]
    text = text_of(*everything)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


def test_a_device_card_has_ridge_points_and_sources() -> None:
    text = text_of(device_card(devices.device("h100-sxm")))
    assert "295 FLOP/B" in text  # 989.4e12 / 3.35e12
    assert "source of memory.dram" in text
    assert "50 MiB" in text


def test_a_model_card_has_the_citation_and_the_sizes() -> None:
    text = text_of(model_card(find("bert-base")))
    assert "arXiv:1810.04805" in text
    assert "seq: tokens per sequence; 1 to max_position, default 512" in text


def graph_with_an_unknown_op() -> OperatorGraph:
    known = Operator("gemm", "aten.mm", (), (), ())
    strange = Operator("unknown", "aten.frobnicate", (), (), ())
    return OperatorGraph(
        model="odd",
        phase="forward",
        dtype="fp32",
        symbols=(
            SizeSymbol(name="seq", default=number(8), minimum=number(1), meaning="tokens"),
            SizeSymbol(name="image", default=number(224), how="fixed"),
        ),
        guards=(parse_condition("seq <= 512"),),
        nodes=(OpNode(known, (), (), 0, 0), OpNode(known, (), (), 0, 1), OpNode(strange, (), (), 1, 2)),
        storages=(),
        modules=("head", "layers.0.odd"),
        provenance={},
    )


def test_a_trace_says_how_each_size_was_obtained_and_what_no_rule_knows() -> None:
    lines = text_of(trace_table(graph_with_an_unknown_op())).splitlines()
    assert [line.split()[:2] for line in lines if line.startswith(("seq", "image"))] == [
        ["seq", "symbolic"],
        ["image", "fixed"],
    ]
    assert "no rule for aten.frobnicate in layers.*.odd: 1" in lines
    assert "holds where seq <= 512" in lines
    assert any(line.split() == ["gemm", "2"] for line in lines)


@pytest.mark.parametrize("kind", ["gpu", "tpu", "edge", "accelerator"])
def test_devices_of_every_kind_have_a_line(kind: str) -> None:
    found = [device for device in devices.devices() if device.kind == kind]
    text = text_of(devices_table(found))
    assert all(device.id in text for device in found)


def test_a_table_says_which_devices_computed_in_another_dtype() -> None:
    lines = text_of(estimates_table([bert_on("h100-sxm"), bert_on("t4", dtype="fp32")])).splitlines()
    assert lines[:2] == [
        "bert-base: forward, batch 1, seq 512, bf16, compiled",
        "bert-base: forward, batch 1, seq 512, fp32, compiled (on t4)",
    ]
