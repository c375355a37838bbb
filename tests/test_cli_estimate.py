"""Estimates and traces from the command line, on a model that is really traced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import cli
import hwsim

pytestmark = pytest.mark.needs_torch


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, list(words))


def estimated(*words: str) -> dict:  # type: ignore[type-arg]
    result = run("estimate", "bert-base", "--json", *words)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_the_command_prints_what_the_library_says() -> None:
    expected = hwsim.estimate("bert-base", "h100-sxm", batch=4, seq=128, dtype="bf16", stack="eager")
    words = ("-d", "h100-sxm", "--batch", "4", "--seq", "128", "--dtype", "bf16", "--stack", "eager")
    assert estimated(*words) == json.loads(expected.to_json())


def test_one_device_is_an_object_and_several_are_a_list_in_order() -> None:
    documents = estimated("-d", "l4,t4", "-d", "h100-sxm")
    assert [document["device"] for document in documents] == ["l4", "t4", "h100-sxm"]


def test_settings_reach_device_stack_and_sizes() -> None:
    plain = estimated("-d", "h100-sxm", "--seq", "256")
    assert estimated("-d", "h100-sxm", "--set", "seq=256")["latency_s"] == plain["latency_s"]
    faster = estimated("-d", "h100-sxm", "--seq", "256", "--set", "device.memory.dram.bandwidth=8TB/s")
    assert faster["breakdown_s"]["memory"] < plain["breakdown_s"]["memory"]
    slower = estimated("-d", "h100-sxm", "--seq", "256", "--set", "stack.launch=50 us")
    assert slower["breakdown_s"]["overhead"] > plain["breakdown_s"]["overhead"]


@pytest.mark.parametrize("price", ["3.6/h", "$3.6/h", "3.6 $/h"])
def test_a_price_gives_a_cost(price: str) -> None:
    document = estimated("-d", "l4", "--price", price)
    assert document["cost_usd"] == pytest.approx(document["latency_s"]["value"] / 1000)


def test_tables_go_to_stdout_and_warnings_to_stderr() -> None:
    result = run("estimate", "bert-base", "-d", "eyeriss-v1", "--by", "kind", "--top", "2")
    assert result.exit_code == 0
    assert "bert-base on eyeriss-v1 by kind" in result.stdout
    assert " others " in result.stdout
    assert result.stderr.startswith("warning: eyeriss-v1 has no fp32 peak")
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_several_devices_are_one_table() -> None:
    lines = run("estimate", "bert-base", "-d", "h100-sxm,l4,raspberry-pi-4").stdout.splitlines()
    assert [line.split()[0] for line in lines[3:]] == ["h100-sxm", "l4", "raspberry-pi-4"]


def test_files_are_written_beside_the_table(tmp_path: Path) -> None:
    plot, timeline = tmp_path / "roof.svg", tmp_path / "timeline.json"
    result = run("estimate", "bert-base", "-d", "l4", "--plot", str(plot), "--trace-out", str(timeline))
    assert result.exit_code == 0, result.stderr
    events = json.loads(timeline.read_text())["traceEvents"]
    latency = hwsim.estimate("bert-base", "l4").latency_s
    assert sum(event.get("dur", 0) for event in events) == pytest.approx(latency * 1e6)
    assert plot.read_text().startswith("<?xml")


def test_an_unwritable_plot_is_one_line() -> None:
    result = run("estimate", "bert-base", "-d", "l4", "--json", "--plot", "/dev/full/roof.png")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: cannot write '/dev/full/roof.png'")


def test_a_size_out_of_range_is_refused() -> None:
    result = run("estimate", "bert-base", "-d", "l4", "--seq", "513")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert "512" in result.stderr


def test_a_trace_says_how_each_size_was_obtained_and_can_be_kept(tmp_path: Path) -> None:
    out = tmp_path / "graph.json"
    result = run("trace", "bert-base", "--json", "--strict", "--out", str(out))
    document = json.loads(result.stdout)
    assert document["params"] == 109_482_240
    assert {symbol["name"]: symbol["how"] for symbol in document["symbols"]} == {
        "batch": "symbolic",
        "seq": "symbolic",
    }
    assert document["guards"] == ["seq <= 512"]
    kept = json.loads(run("estimate", str(out), "-d", "l4", "--json").stdout)
    assert kept["latency_s"] == estimated("-d", "l4")["latency_s"]


def test_a_trace_reads_as_a_table() -> None:
    assert "109 M parameters" in run("trace", "bert-base").stdout
