"""The timeline of an estimate as Chrome trace events, which ui.perfetto.dev and chrome://tracing open.

A process per device; in it a track per engine, one for the modules, one for the phases of a training step,
and a counter of the memory held. The durations on the engine tracks add up to the latency; modules and phases
are begin and end marks, so that they are not counted twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any

from graphs.ir import ACCUMULATE, BACKWARD
from hwsim.errors import HwsimError
from hwsim.result import Estimate, TimelineEvent
from reports.files import write_text
from reports.palette import ATTENTION, LINKS, MATRIX, MOVEMENT, POINTWISE, ROWS, family_of
from reports.table import workload

_US = 1e6  # the format's unit of time
_MODULES = 1
_PHASES = 7
_ENGINES = {
    "matrix": (2, (MATRIX, ATTENTION)),
    "vector": (3, (POINTWISE, ROWS)),
    "memory": (4, (MOVEMENT,)),
    "links": (5, (LINKS,)),
}
_TRACK = {family: track for track, families in _ENGINES.values() for family in families}
_OTHER = 6


def write_trace(estimates: Sequence[Estimate], path: str | Path) -> None:
    """Write the timelines of single-point estimates to one JSON file."""
    events = [event for number, one in enumerate(estimates, 1) for event in _process(one, number)]
    document = {"displayTimeUnit": "ns", "traceEvents": events}
    write_text(Path(path), json.dumps(document, separators=(",", ":"), allow_nan=False))


def _process(estimate: Estimate, process: int) -> Iterator[dict[str, Any]]:
    timeline = estimate.timeline
    if not timeline:
        raise HwsimError(f"no timeline of '{estimate.model}' on '{estimate.device}'; ask for a single point")
    yield _name("process_name", f"{estimate.model} on {estimate.device}: {workload(estimate)}", process, 0)
    yield _name("thread_name", "modules", process, _MODULES)
    names = {track: name for name, (track, _) in _ENGINES.items()} | {_OTHER: "other"}
    for track in sorted({_track(event) for event in timeline}):
        yield _name("thread_name", names[track], process, track)
    yield from _modules(timeline, process)
    if estimate.training is not None:
        yield _name("thread_name", "training step", process, _PHASES)
        yield from _phases(timeline, process)
    yield from _held(timeline, process)
    for event in timeline:
        yield {
            "ph": "X",
            "name": event.name,
            "cat": event.kind,
            "pid": process,
            "tid": _track(event),
            "ts": event.start_s * _US,
            "dur": event.duration_s * _US,
            "args": {"module": event.module, "bound": event.bound},
        }


def _name(what: str, name: str, process: int, track: int) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": track, "args": {"name": name}}


def _track(event: TimelineEvent) -> int:
    return _TRACK.get(family_of(event.kind), _OTHER)


def _modules(timeline: Iterable[TimelineEvent], process: int) -> Iterator[dict[str, Any]]:
    """Begin and end of every module in the order of execution, nested as the modules are."""
    open_path: tuple[str, ...] = ()
    now = 0.0
    for event in timeline:
        path = tuple(event.module.split(".")) if event.module else ()
        kept = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(open_path, path, strict=False))))
        yield from (_mark("E", name, process, event.start_s) for name in reversed(open_path[kept:]))
        yield from (_mark("B", name, process, event.start_s) for name in path[kept:])
        open_path, now = path, event.start_s + event.duration_s
    yield from (_mark("E", name, process, now) for name in reversed(open_path))


def _phases(timeline: Iterable[TimelineEvent], process: int) -> Iterator[dict[str, Any]]:
    """Begin and end of every stretch of one phase; gradients are added to amid the backward pass."""

    def stretch_of(event: TimelineEvent) -> str:
        return BACKWARD if event.phase == ACCUMULATE else event.phase

    for phase, events in groupby(timeline, stretch_of):
        stretch = list(events)
        end = stretch[-1].start_s + stretch[-1].duration_s
        yield _mark("B", phase, process, stretch[0].start_s, track=_PHASES)
        yield _mark("E", phase, process, end, track=_PHASES)


def _mark(phase: str, name: str, process: int, at_s: float, track: int = _MODULES) -> dict[str, Any]:
    return {"ph": phase, "name": name, "pid": process, "tid": track, "ts": at_s * _US}


def _held(timeline: Iterable[TimelineEvent], process: int) -> Iterator[dict[str, Any]]:
    """Bytes of activations, and of gradients if there are any, where they change."""
    trains = any(event.gradient_bytes for event in timeline)
    before: dict[str, float] = {}
    for event in timeline:
        values = {"bytes": event.live_bytes - event.gradient_bytes}
        if trains:
            values["gradients"] = event.gradient_bytes
        if values != before:
            yield {
                "ph": "C",
                "name": "activations",
                "pid": process,
                "ts": event.start_s * _US,
                "args": values,
            }
        before = values
