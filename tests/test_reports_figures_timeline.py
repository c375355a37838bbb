"""The timeline file against the trace-event format: what each kind of event must carry."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hwsim
from hwsim.result import Estimate
from reports.perfetto import write_trace
from tests.estimates import bert_on

# "Trace Event Format" of the Chromium project: fields of complete, begin, end, counter and metadata events
REQUIRED: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "X": {"name": (str,), "cat": (str,), "ts": (int, float), "dur": (int, float), "tid": (int,)},
    "B": {"name": (str,), "ts": (int, float), "tid": (int,)},
    "E": {"ts": (int, float), "tid": (int,)},
    "C": {"name": (str,), "ts": (int, float), "args": (dict,)},
    "M": {"name": (str,), "args": (dict,)},
}
METADATA = {"process_name", "process_labels", "process_sort_index", "thread_name", "thread_sort_index"}


def document(estimates: list[Estimate], folder: Path) -> dict[str, Any]:
    path = folder / "trace.json"
    write_trace(estimates, path)
    return json.loads(path.read_text())


def check(found: Mapping[str, Any]) -> None:
    """Raise where the format is broken."""
    assert found["displayTimeUnit"] in ("ms", "ns")
    stacks: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    ends: dict[tuple[int, int], float] = defaultdict(float)
    for event in found["traceEvents"]:
        assert isinstance(event["pid"], int), event
        for field, kinds in REQUIRED[event["ph"]].items():
            assert isinstance(event[field], kinds), (field, event)
        track = (event["pid"], event.get("tid", 0))
        if event["ph"] == "M":
            assert event["name"] in METADATA
            assert all(isinstance(value, str | int) for value in event["args"].values())
            continue
        assert event["ts"] >= 0, event
        if event["ph"] == "B":
            stacks[track].append(event)
        elif event["ph"] == "E":
            assert stacks[track].pop()["ts"] <= event["ts"]
        elif event["ph"] == "C":
            assert all(isinstance(value, int | float) for value in event["args"].values())
        elif event["ph"] == "X":
            assert event["dur"] >= 0
            # complete events of one track may not overlap unless nested, and operators are not
            assert event["ts"] >= ends[track] - 1e-6, event
            ends[track] = event["ts"] + event["dur"]
    assert not any(stacks.values())


def test_a_trace_keeps_to_the_format(tmp_path: Path) -> None:
    check(document([bert_on("h100-sxm"), bert_on("l4")], tmp_path))


@pytest.mark.needs_torch
@pytest.mark.parametrize("model", ["bert-base", "swin-t"])
def test_a_traced_model_keeps_to_the_format_and_sums_to_its_latency(model: str, tmp_path: Path) -> None:
    estimate = hwsim.estimate(model, "h100-sxm", batch=4)
    found = document([estimate], tmp_path)
    check(found)
    durations = [event["dur"] for event in found["traceEvents"] if event["ph"] == "X"]
    assert sum(durations) == pytest.approx(estimate.latency_s * 1e6)
    held = [event["args"]["bytes"] for event in found["traceEvents"] if event["ph"] == "C"]
    assert max(held) == pytest.approx(estimate.memory_bytes["activations"])


def test_the_counter_moves_only_where_the_held_bytes_change(tmp_path: Path) -> None:
    held = [5.0, 5.0, 8.0, 8.0, 2.0]
    timeline = bert_on("l4").timeline
    events = tuple(replace(event, live_bytes=b) for event, b in zip(timeline, held, strict=True))
    found = document([bert_on("l4", events=lambda: events)], tmp_path)
    counted = [(e["ts"], e["args"]["bytes"]) for e in found["traceEvents"] if e["ph"] == "C"]
    assert counted == [
        (0, 5.0),
        (pytest.approx(90), 8.0),
        (pytest.approx(280), 2.0),
    ]
