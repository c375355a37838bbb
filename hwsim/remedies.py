"""What would make a set-up fit: the smallest step of each kind, or else the first pair of steps that does.

A step is tried only when what it can save at most would do, so that few estimates are made. Kinds come in the
order in which they change least: what is computed again, states dealt to ranks there are, fewer samples at a
time, more devices, fewer bits, another memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from devices.errors import DeviceError
from graphs.errors import GraphError
from graphs.parallel import Parallel
from graphs.workload import CHECKPOINTING, Precision, Training, dtype_bits
from hwsim.errors import HwsimError
from hwsim.result import Estimate

Ask = Callable[..., Estimate]
BATCHES = 256  # values of the batch tried at most
NARROW = (("kv", "fp8"), ("weights", "int8"), ("weights", "int4:g128"))
AXES = ("tp", "pp", "ep")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """A change and what it comes to; `change` is written as options of the command line are."""

    kind: str  # checkpointing zero batch ranks precision offload together
    change: str
    memory_bytes: float
    latency_s: float
    devices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A change as arguments of an estimate, and the most bytes it can save."""

    kind: str
    change: str
    saves: float
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a set-up is, as far as steps from it need to know; `most` devices can be had."""

    layout: Parallel
    training: Training | None
    precision: Precision
    most: int


def remedies(base: Estimate, place: Place, ask: Ask) -> tuple[Remedy, ...]:
    """Changes of one kind each that fit, in the order of kinds; a pair of them where no single one does."""
    if base.shape or base.fits:
        return ()
    steps = list(_steps(base, place))
    found: list[Remedy] = []
    for step in steps:
        if step.saves < _short(base) or any(_family(one.change) == _family(step.change) for one in found):
            continue
        remedy = _tried(step, base, ask)
        if remedy is not None:
            found.append(remedy)
    return tuple(found) or tuple(_pair(base, place, steps, ask))


def _short(base: Estimate) -> float:
    return float(base.shortfall_bytes)


def _family(change: str) -> str:
    """Steps of one option follow each other from small to large: the first that fits is enough."""
    return change.split()[0]


def _tried(step: _Step, base: Estimate, ask: Ask) -> Remedy | None:
    """The step with its estimate, where it is possible and fits."""
    try:
        after = ask(**step.arguments)
    except (GraphError, DeviceError, HwsimError):
        return None
    change, at = step.change, 0
    if after.shape:  # batches from large to small
        fitting = np.flatnonzero(after.fits)
        if not fitting.size:
            return None
        at = int(fitting[0])
        change = f"{change} {after.sizes['batch'][at]:g}"
    elif not after.fits:
        return None

    def single(value: Any) -> float:
        return float(np.ravel(value)[at])

    return Remedy(
        kind=step.kind,
        change=change,
        memory_bytes=single(after.memory_bytes["total"]),
        latency_s=single(after.latency_s),
        devices=after.devices,
    )


def _steps(base: Estimate, place: Place) -> Iterator[_Step]:
    memory = {name: float(value) for name, value in base.memory_bytes.items()}
    yield from _states(memory, place)
    batch = float(base.sizes.get("batch", 1.0))
    if batch > 1:
        tried = np.unique(np.round(np.linspace(1, batch - 1, min(int(batch) - 1, BATCHES))))[::-1]
        saves = memory["activations"] + memory["kv_cache"]
        yield _Step(kind="batch", change="--batch", saves=saves, arguments={"batch": tried})
    yield from _ranks(memory, place)
    if place.training is None:
        yield from _narrower(base, memory, place)
    yield from _elsewhere(memory, place)


def _states(memory: Mapping[str, float], place: Place) -> Iterator[_Step]:
    """Of a training step: what is computed again, and what data ranks share."""
    if place.training is None:
        return
    later = CHECKPOINTING[CHECKPOINTING.index(place.training.checkpointing) + 1 :]
    for kind in later:
        yield _Step(
            kind="checkpointing", change=f"--checkpointing {kind}", saves=memory["activations"],
            arguments={"checkpointing": kind},
        )  # fmt: skip
    shared = {1: ("optimizer",), 2: ("optimizer", "gradients"), 3: ("optimizer", "gradients", "weights")}
    for stage in range(place.layout.zero + 1, 4) if place.layout.dp > 1 else ():
        saves = sum(memory[name] for name in shared[stage]) * (1 - 1 / place.layout.dp)
        arguments = {"parallel": replace(place.layout, zero=stage)}
        change = f"--set parallel.zero={stage}"
        yield _Step(kind="zero", change=change, saves=saves, arguments=arguments)


def _ranks(memory: Mapping[str, float], place: Place) -> Iterator[_Step]:
    """Twice the ranks of an axis, again and again; data ranks of a training step share all states."""
    spread = memory["total"] - memory["reserve"]
    layout = place.layout
    for axis in AXES:
        ranks = 2 * getattr(layout, axis)
        while layout.devices * ranks // getattr(layout, axis) <= place.most:
            more = layout.with_ranks(**{axis: ranks})
            change = f"--{axis} {ranks}" + (f" --sp {more.sp}" if more.sp != layout.sp else "")
            saves = spread * (1 - getattr(layout, axis) / ranks)
            yield _Step(kind="ranks", change=change, saves=saves, arguments={"parallel": more})
            ranks *= 2
    ranks = 2 * layout.dp
    while place.training is not None and layout.devices * ranks // layout.dp <= place.most:
        saves = sum(memory[name] for name in ("optimizer", "gradients", "weights"))
        arguments = {"parallel": replace(layout, dp=ranks, zero=3)}
        change = f"--dp {ranks} --set parallel.zero=3"
        yield _Step(kind="ranks", change=change, saves=saves, arguments=arguments)
        ranks *= 2


def _narrower(base: Estimate, memory: Mapping[str, float], place: Place) -> Iterator[_Step]:
    for role, dtype in NARROW:
        bits = dtype_bits(getattr(place.precision, role) or base.dtype)
        saves = memory["kv_cache" if role == "kv" else role] * (1 - dtype_bits(dtype) / bits)
        if saves > 0:
            change = f"--{role} {dtype}"
            yield _Step(kind="precision", change=change, saves=saves, arguments={role: dtype})


def _elsewhere(memory: Mapping[str, float], place: Place) -> Iterator[_Step]:
    """Cache, weights or states in the memory of the host."""
    for what, role in (("kv", "kv_cache"), ("optimizer", "optimizer"), ("weights", "weights")):
        if memory[role] and what not in place.layout.offloaded:
            already = place.layout.offload if place.layout.offloaded else ""
            both = "+".join(filter(None, (already, what)))
            arguments = {"parallel": replace(place.layout, offload=both)}
            change = f"--offload {both}"
            yield _Step(kind="offload", change=change, saves=memory[role], arguments=arguments)


def _pair(base: Estimate, place: Place, steps: list[_Step], ask: Ask) -> Iterator[Remedy]:
    """The first two steps of different options that fit together, each taken as far as it goes."""
    furthest = {_family(step.change): step for step in steps}
    if "--batch" in furthest:
        furthest["--batch"] = replace(furthest["--batch"], change="--batch 1", arguments={"batch": 1})
    for first, second in combinations(furthest.values(), 2):
        # what ranks leave of a part cannot be saved again, so the sum is more than both can do
        if first.saves + second.saves < _short(base):
            continue
        arguments = {**first.arguments, **second.arguments}
        layouts = [step.arguments["parallel"] for step in (first, second) if "parallel" in step.arguments]
        if len(layouts) == 2:
            both = _joined(place.layout, *layouts)
            if both is None or both.devices > place.most:
                continue
            arguments["parallel"] = both
        step = _Step(kind="together", change=f"{first.change} {second.change}", saves=0, arguments=arguments)
        remedy = _tried(step, base, ask)
        if remedy is not None:
            yield remedy
            return


def _joined(layout: Parallel, first: Parallel, second: Parallel) -> Parallel | None:
    """Both changes of a layout; None where they are at odds."""
    changes: dict[str, Any] = {}
    for name in Parallel.__dataclass_fields__:
        old, values = getattr(layout, name), {getattr(first, name), getattr(second, name)}
        new = values - {old}
        if len(new) > 1:
            return None
        changes[name] = next(iter(new), old)
    return replace(layout, **changes)
