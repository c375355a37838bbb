"""The timeline file."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import hwsim
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


CASES = [
    ("bert-base", "h100-sxm", {"phase": "forward"}),
    ("gpt2", "l4", {"phase": "decode", "context": 500, "stack": "eager"}),
    ("gpt2", "l4", {"phase": "prefill", "seq": 512, "batch": 8}),  # the power limit holds the clock down
    ("gpt2", "eyeriss-v1", {"phase": "decode", "stack": "engine"}),
    ("vit-b-16", "tpu-v4", {"phase": "forward"}),
]


@pytest.mark.needs_torch
@pytest.mark.parametrize(("model", "device", "asked"), CASES)
def test_the_file_of_a_real_estimate_covers_its_latency_without_gaps(
    tmp_path: Path, model: str, device: str, asked: dict[str, Any]
) -> None:
    path = tmp_path / "trace.json"
    estimate = hwsim.estimate(model, device, **asked)
    write_trace([estimate], path)
    events = json.loads(path.read_text())["traceEvents"]
    runs = [event for event in events if event["ph"] == "X"]
    assert math.fsum(run["dur"] for run in runs) == pytest.approx(1e6 * estimate.latency_s, rel=1e-9)
    assert len(runs) == estimate.provenance["coverage"]["kernels"]
    assert all(run["dur"] > 0 for run in runs)
    for one, following in pairwise(runs):
        assert following["ts"] == pytest.approx(one["ts"] + one["dur"], rel=1e-9)
    # as much time per kind as the tables say
    for group in estimate.by("kind"):
        spent = math.fsum(run["dur"] for run in runs if run["cat"] == group.label)
        assert spent == pytest.approx(1e6 * group.latency_s, rel=1e-9)
    opened = 0
    for event in events:
        opened += {"B": 1, "E": -1}.get(event["ph"], 0)
        assert opened >= 0
    assert opened == 0
