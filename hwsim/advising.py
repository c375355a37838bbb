"""`hwsim.advise`: what each neighbour of a set-up would buy, and which limit it relieves.

Steps that are numbers (batch, rates of the machine) are points of one estimate over arrays; those that change
the graph, the stack or the device are an estimate each.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from devices import Device, Stack
from devices import stack as find_stack
from devices.cluster import Cluster
from devices.cluster import machine as find_machine
from devices.errors import DeviceError
from graphs.errors import GraphError
from graphs.parallel import Parallel
from hwsim.advice import GOALS, NOTICED, PARTS, Advice, Outcome, Step
from hwsim.deployment import layout_of
from hwsim.errors import HwsimError
from hwsim.neighbours import Change, Setup, changes, numeric_changes
from hwsim.result import Estimate


def advise(
    model: Any,
    device: str | Device | Cluster,
    *,
    goal: str = "latency",
    phase: str = "forward",
    batch: Any = None,
    seq: Any = None,
    context: Any = None,
    dtype: str | None = None,
    weights: str | None = None,
    kv: str | None = None,
    stack: str | Stack = "compiled",
    parallel: Parallel | Mapping[str, Any] | None = None,
    strict: bool = False,
    price: Any = None,
    overrides: Mapping[str, Any] | None = None,
    **symbols: Any,
) -> Advice:
    """The neighbours of one set-up, ranked by what they buy for `goal`.

    `goal` is latency, throughput, energy, memory or cost; energy and cost are per new token, or per sample
    where the model has no tokens. The other arguments are those of `estimate`, for a single point. Other
    layouts are tried on a cluster, or where there are several devices already. A `price` is that of `device`;
    other devices are rented at the price of their own profile.
    """
    if goal not in GOALS:
        near = difflib.get_close_matches(goal, GOALS, n=1)
        remedy = f"; did you mean '{near[0]}'?" if near else ""
        raise HwsimError(f"no goal '{goal}'; goals are {', '.join(GOALS)}{remedy}")
    sizes = {"batch": batch, "seq": seq, "context": context, **symbols}
    setup = _setup(
        Setup(
            model=model,
            device=device if isinstance(device, Device | Cluster) else find_machine(device),
            stack=stack if isinstance(stack, Stack) else find_stack(stack),
            phase=phase, dtype=dtype, weights=weights, kv=kv, price=price, strict=strict,
            sizes={name: value for name, value in sizes.items() if value is not None},
            parallel=layout_of(parallel, _of_room(overrides or {}, "parallel.")),
        ),
        overrides or {},
    )  # fmt: skip
    base = setup.estimate()
    if base.shape:
        raise HwsimError(f"advice is for one set-up, not an array of shape {base.shape}; give single numbers")
    now = _outcomes(base)[0]
    taken, refused = _take(setup, base, now)
    numbers = _numbers(setup, base, now, refused)
    every = [*(step for _, step in taken), *numbers]
    return Advice(
        goal=goal,
        base=base,
        now=now,
        steps=_ranked([s for s in every if s.matters and s.kind != "machine"], goal),
        machine=_ranked([s for s in every if s.matters and s.kind == "machine"], goal),
        together=_together(setup, base, now, taken, goal),
        without_effect=tuple(s.name for s in every if not s.matters),
        refused=refused,
    )


def _setup(setup: Setup, overrides: Mapping[str, Any]) -> Setup:
    """Overrides of device and stack put into these, so that they stay behind when these are exchanged."""
    rooms = ("device", "stack", "parallel")
    mine = {room: _of_room(overrides, f"{room}.") for room in rooms}
    rest = {path: value for path, value in overrides.items() if path.partition(".")[0] not in rooms}
    if isinstance(setup.device, Cluster):  # whose links follow its device where it is deployed
        rest |= {f"device.{path}": value for path, value in mine["device"].items()}
        mine["device"] = {}
    return replace(
        setup,
        device=setup.device.replace(**mine["device"]) if isinstance(setup.device, Device) else setup.device,
        stack=setup.stack.replace(**mine["stack"]),
        overrides=rest,
    )


def _of_room(overrides: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {path.removeprefix(prefix): v for path, v in overrides.items() if path.startswith(prefix)}


def _take(setup: Setup, base: Estimate, now: Outcome) -> tuple[list[tuple[Change, Step]], dict[str, str]]:
    """Every step that changes graph, stack or device; why one cannot be taken."""
    taken, refused = [], {}
    for change in changes(setup, base):
        try:
            after = change.setup.estimate()
        except (GraphError, DeviceError, HwsimError) as error:
            refused[change.name] = str(error)
            continue
        taken.append((change, _compared(change, base, now, after)))
    return taken, refused


def _compared(change: Change, base: Estimate, now: Outcome, after: Estimate) -> Step:
    new = tuple(warning for warning in after.warnings if warning not in base.warnings)
    return _judged(change.kind, change.name, now, _outcomes(after)[0], change.note, new)


def _numbers(setup: Setup, base: Estimate, now: Outcome, refused: dict[str, str]) -> list[Step]:
    """Steps that are numbers, all in one estimate; without sizes when the model's limits refuse one."""
    numeric = numeric_changes(base, setup.links)
    if not numeric.names:
        return []
    sizes = [path for path in numeric.overrides if "." not in path]
    try:
        found = setup.estimate(**numeric.overrides)
    except (GraphError, HwsimError) as error:
        if not sizes:
            raise
        pairs = zip(numeric.names, numeric.kinds, strict=True)
        refused[", ".join(name for name, kind in pairs if kind in sizes)] = str(error)
        found = setup.estimate(**{p: v for p, v in numeric.overrides.items() if p not in sizes})
        kept = [at for at, kind in enumerate(numeric.kinds) if kind not in sizes]
    else:
        kept = list(range(len(numeric.names)))
    outcomes = _outcomes(found)[1:]
    return [_judged(numeric.kinds[at], numeric.names[at], now, outcomes[at]) for at in kept]


def _together(
    setup: Setup, base: Estimate, now: Outcome, taken: Sequence[tuple[Change, Step]], goal: str
) -> Step | None:
    """The best step of each kind that keeps the devices and the batch, all at once."""
    best: dict[str, tuple[Change, Step]] = {}
    for change, step in taken:
        more = change.setup.parallel.devices != setup.parallel.devices
        if change.kind in ("device", "offload") or more or step.gain(goal) <= 1 + NOTICED:
            continue
        if change.kind not in best or step.gain(goal) > best[change.kind][1].gain(goal):
            best[change.kind] = (change, step)
    if len(best) < 2:
        return None
    joined = setup
    for kind, (change, _) in sorted(best.items(), key=lambda item: item[0] == "attention"):
        if kind == "attention":  # after the stack, whose kernel it replaces
            kernel = change.setup.stack.attention_kernel
            joined = replace(joined, stack=joined.stack.replace(attention_kernel=kernel))
        else:
            name = "parallel" if kind == "layout" else kind
            joined = replace(joined, **{name: getattr(change.setup, name)})
    name = " + ".join(change.name for change, _ in best.values())
    return _compared(Change(kind="together", name=name, setup=joined), base, now, joined.estimate())


def _outcomes(found: Estimate) -> list[Outcome]:
    """One outcome per point."""
    units = found.samples if found.tokens is None else found.tokens
    cost = found.cost_usd
    columns = {
        "latency_s": found.latency_s,
        "low_s": found.latency_low_s,
        "high_s": found.latency_high_s,
        "units": units,
        "energy_per_unit_j": found.energy_j / units,
        "memory_bytes": found.memory_bytes["total"],
        "capacity_bytes": found.memory_bytes["capacity"],
    }
    parts = {name: _points(found.breakdown_s.get(name, 0.0), found) for name in PARTS}
    flat = {name: _points(value, found) for name, value in columns.items()}
    money = None if cost is None else _points(cost / units, found)
    return [
        Outcome(
            **{name: values[at] for name, values in flat.items()},
            cost_per_unit_usd=None if money is None else money[at],
            breakdown_s={name: values[at] for name, values in parts.items()},
        )
        for at in range(len(flat["latency_s"]))
    ]


def _points(value: Any, found: Estimate) -> list[float]:
    listed: list[float] = np.ravel(np.broadcast_to(value, found.shape)).tolist()
    return listed


def _judged(
    kind: str, name: str, now: Outcome, then: Outcome, note: str = "", warnings: tuple[str, ...] = ()
) -> Step:
    gains = {goal: _gain(now.amount(goal), then.amount(goal)) for goal in GOALS}
    # for a larger batch, what the same number of units would have taken before
    scale = then.units / now.units
    saved = {part: scale * now.breakdown_s[part] - then.breakdown_s[part] for part in PARTS}
    total = scale * now.latency_s - then.latency_s
    relieved = max(saved, key=lambda part: saved[part]) if total > NOTICED * now.latency_s else None
    part = relieved or min(saved, key=lambda part: saved[part])
    return Step(
        kind=kind,
        name=name,
        outcome=then,
        gains=gains,
        relieves=relieved,
        before_s=scale * now.breakdown_s[part],
        after_s=then.breakdown_s[part],
        reason=note or _reason(name if kind == "attention" else kind, relieved, part, total, gains),
        warnings=warnings,
    )


def _gain(before: float | None, after: float | None) -> float | None:
    return None if not before or not after else before / after


_WHY = {
    ("dtype", "compute"): "faster arithmetic",
    ("dtype", "memory"): "fewer bits to read",
    ("weights", "memory"): "fewer bits to read",
    ("kv", "memory"): "fewer bits to read",
    ("attention flash", "memory"): "scores stay on chip",
    ("attention flash_split_kv", "memory"): "more units at work",
    ("attention stream_k", "memory"): "more units at work",
    ("stack", "overhead"): "cheaper launches",
    ("stack", "memory"): "fused operators",
    ("batch", "memory"): "a weight read serves more",
    ("batch", "overhead"): "a launch serves more",
    ("batch", "compute"): "fuller units",
}
_NAMES = {
    "compute": "arithmetic",
    "memory": "memory traffic",
    "overhead": "launches",
    "communication": "communication",
    "bubble": "waiting for other stages",
    "power": "throttling",
}


def _reason(
    step: str, relieved: str | None, part: str, saved_s: float, gains: Mapping[str, float | None]
) -> str:
    if relieved is not None:
        return _WHY.get((step, relieved), f"less {_NAMES[relieved]}")
    if saved_s < 0 and (gains["throughput"] or 1.0) < 1 - NOTICED:
        return f"more {_NAMES[part]}"
    return "the time goes elsewhere"


def _ranked(steps: Sequence[Step], goal: str) -> tuple[Step, ...]:
    """Those that fit first, then by gain; ties by latency."""
    return tuple(
        sorted(
            steps,
            key=lambda step: (not step.outcome.fits, -step.gain(goal), -step.gain("latency")),
        )
    )
