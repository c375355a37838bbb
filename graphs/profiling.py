"""Where one real run of a module spends its time: torch's own profile, summed by operator kind.

An operator here is what reaches torch's dispatcher below the composite level, which is what a trace records,
so that profile and graph count the same things. What an operator calls inside belongs to it. Nothing is
dropped: views and wrappers, operators without a rule and the time between operators have lines of their own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

VIEWS = "views and wrappers"
BETWEEN = "between operators"
UNMAPPED = "no rule"
NOT_WORK = (VIEWS, BETWEEN, UNMAPPED)
# kept whole by the tracer, whatever they call inside
_COMPOSITES = {
    "aten::scaled_dot_product_attention": "attention",
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": "attention_backward",
    "aten::rms_norm": "rms_norm",
    "aten::_fused_adamw_": "optimizer",
}
_ROOT = "hwsim.run"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTime:
    """All executions of one torch operator with the same input shapes in one run, and our kind for it.

    `dims` are its canonical sizes as in an estimate's operator rows, empty where they are not known.
    """

    name: str
    kind: str
    shapes: str
    count: int
    seconds: float
    dims: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One run: its operators, longest first, which add up to `seconds`."""

    seconds: float
    operators: tuple[OperatorTime, ...]

    def by_kind(self) -> dict[str, tuple[float, int]]:
        """kind -> (seconds, executions), longest first."""
        found: dict[str, tuple[float, int]] = {}
        for one in self.operators:
            seconds, count = found.get(one.kind, (0.0, 0))
            found[one.kind] = (seconds + one.seconds, count + one.count)
        return dict(sorted(found.items(), key=lambda item: -item[1][0]))


def profile(
    run: Callable[[], object], kinds: Mapping[str, str], dims: Mapping[tuple[str, str], str] | None = None
) -> Profile:
    """One profiled run; `kinds` and `dims` are those of its operators, from `graphs.tracing.listening`."""
    # read when the profiler starts for the first time; below it, its library prints lines of its own
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from torch import profiler

    with (
        profiler.profile(activities=[profiler.ProfilerActivity.CPU], record_shapes=True) as recorded,
        profiler.record_function(_ROOT),
    ):
        run()
    events = recorded.events()
    assert events is not None  # the profiler has stopped
    root = next(event for event in events if event.name == _ROOT)
    times: dict[tuple[str, str, str], list[float]] = {}
    for name, kind, shapes, microseconds in _times(root, kinds):
        times.setdefault((name, kind, shapes), []).append(microseconds)
    operators = [
        OperatorTime(
            name=name,
            kind=kind,
            shapes=shapes,
            count=len(found),
            seconds=sum(found) * 1e-6,
            dims=_composite_dims(kind, shapes) or (dims or {}).get((name, shapes), ""),
        )
        for (name, kind, shapes), found in times.items()
    ]
    operators.sort(key=lambda one: -one.seconds)
    return Profile(seconds=sum(one.seconds for one in operators), operators=tuple(operators))


def _times(root: Any, kinds: Mapping[str, str]) -> Iterator[tuple[str, str, str, float]]:
    """(name, kind, input shapes, microseconds) of every event: an operator's with all that it calls."""
    yield root.name, BETWEEN, "", root.self_cpu_time_total
    pending = list(root.cpu_children)
    while pending:
        event = pending.pop()
        kind = _COMPOSITES.get(event.name) or kinds.get(event.name, VIEWS)
        if kind == VIEWS:
            yield event.name, kind, "", event.self_cpu_time_total
            pending += event.cpu_children
        else:
            yield event.name, kind, _shapes(event), event.cpu_time_total


def _composite_dims(kind: str, shapes: str) -> str:
    """Sizes of what is kept whole, from its input shapes; empty for everything else."""
    parts = [
        [int(size) for size in one.split("x")] for one in shapes.split() if one.replace("x", "").isdigit()
    ]
    if kind == "attention" and len(parts) >= 3 and all(len(part) == 4 for part in parts[:3]):
        (batch, heads, q_len, head_dim), (_, kv_heads, kv_len, _), value = parts[:3]
        sizes = {"batch": batch, "heads": heads, "kv_heads": kv_heads, "q_len": q_len, "kv_len": kv_len}
        sizes |= {"head_dim": head_dim, "value_dim": value[-1]}
    elif kind == "rms_norm" and parts:
        sizes = {"rows": math.prod(parts[0][:-1]), "cols": parts[0][-1]}
    else:
        return ""
    return " ".join(f"{name}={value}" for name, value in sizes.items())


def _shapes(event: Any) -> str:
    """`1x512x768 768`: the shapes of the tensor arguments."""
    return " ".join("x".join(map(str, shape)) for shape in event.input_shapes or () if shape)
