"""The timeline file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hwsim.errors import HwsimError
from reports.perfetto import write_trace
from tests.estimates import bert_on


def events_of(tmp_path: Path, *devices: str) -> list[dict[str, Any]]:
    path = tmp_path / "trace.json"
    write_trace([bert_on(device) for device in devices], path)
    return json.loads(path.read_text())["traceEvents"]


def test_durations_on_the_engine_tracks_add_up_to_the_latency(tmp_path: Path) -> None:
    runs = [event for event in events_of(tmp_path, "h100-sxm") if event["ph"] == "X"]
    assert sum(event["dur"] for event in runs) == pytest.approx(400)
    assert [event["ts"] for event in runs] == pytest.approx([0, 20, 90, 210, 280])


def test_there_is_one_track_per_engine(tmp_path: Path) -> None:
    events = events_of(tmp_path, "h100-sxm")
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    by_kind = {event["cat"]: names[event["tid"]] for event in events if event["ph"] == "X"}
    assert by_kind == {"gather": "memory", "attention": "matrix", "gemm": "matrix"}


def test_modules_are_nested_and_every_one_that_begins_ends(tmp_path: Path) -> None:
    stack: list[str] = []
    seen: list[str] = []
    for event in events_of(tmp_path, "h100-sxm"):
        if event["ph"] == "B":
            stack.append(event["name"])
            seen.append(".".join(stack))
        elif event["ph"] == "E":
            assert stack.pop() == event["name"]
    assert stack == []
    assert seen == [
        *("embedding", "layers", "layers.0", "layers.0.attention", "layers.0.mlp", "layers.0.mlp.up"),
        *("layers.1", "layers.1.attention", "layers.1.mlp", "layers.1.mlp.up"),
    ]


def test_every_device_is_a_process(tmp_path: Path) -> None:
    events = events_of(tmp_path, "h100-sxm", "l4")
    names = [event["args"]["name"] for event in events if event["name"] == "process_name"]
    assert [name.partition(":")[0] for name in names] == ["bert-base on h100-sxm", "bert-base on l4"]
    assert {event["pid"] for event in events} == {1, 2}


def test_an_estimate_without_a_timeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HwsimError, match="ask for a single point"):
        write_trace([bert_on("l4", events=tuple)], tmp_path / "trace.json")


def test_a_bad_path_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HwsimError, match="name another path"):
        write_trace([bert_on("l4")], tmp_path)
