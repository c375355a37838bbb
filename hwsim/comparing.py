"""`hwsim.compare`: models and devices side by side, over a size or a path of the device."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from devices import Device
from devices import device as find_device
from hwsim.axis import Axis, as_axis
from hwsim.comparison import METRICS, Comparison, Curve, Metric
from hwsim.crossings import crossings
from hwsim.engines.demand import Array
from hwsim.errors import HwsimError
from hwsim.estimating import estimate
from hwsim.requesting import request
from hwsim.requests import Request
from hwsim.result import Estimate

Price = Callable[[Any], Estimate | Request]  # of one value or an array of values


def compare(
    models: Any,
    devices: Any,
    *,
    over: Any = None,
    metric: str = "latency",
    against: str | None = None,
    phase: str = "forward",
    generate: Any = None,
    overrides: Mapping[str, Any] | None = None,
    **asked: Any,
) -> Comparison:
    """Every model on every device; `asked` are sizes, dtype, stack and so on, as `estimate` takes them.

    `over` is text such as `"seq=128:131072"`, or a name with values. Points that a model's limit excludes are
    left out of its curve. Crossovers are those of `metric`: latency, energy, memory or tokens; with `against`
    only those of the other models with that one. With
    `generate` (or `over="generate=..."`) whole requests are compared, also by ttft and tpot.
    """
    chosen = _metric(metric)
    pivot = None if against is None else _pivot(against, _listed(models), over)
    machines = [one if isinstance(one, Device) else find_device(one) for one in _listed(devices)]
    axis = None if over is None else as_axis(over, machines[0])
    settings = dict(overrides or {})
    given = {**asked, "generate": generate}
    if axis is not None and (given.get(axis.name) is not None or axis.name in settings):
        raise HwsimError(f"{axis.name} is given and compared over; leave one out")
    whole = generate is not None or (axis is not None and axis.name == "generate")

    def price(model: Any, machine: Device, values: Any) -> Estimate | Request:
        point = {} if axis is None else {axis.name: values}
        found: Estimate | Request
        if whole:
            tokens = point.pop("generate", generate)
            sizes = {"context": 0, **{name: value for name, value in asked.items() if value is not None}}
            prompt = sizes.pop("seq", None)
            found = request(
                model, machine, generate=tokens, prompt=prompt, overrides={**settings, **point}, **sizes
            )
        else:
            found = estimate(model, machine, phase=phase, overrides={**settings, **point}, **asked)
        return found

    found = [_curve(partial(price, m, d), axis) for m in _listed(models) for d in machines]
    curves = _labelled(found)
    for curve in curves:
        curve.values(chosen)  # refuses a metric that a model has not
    set_against = None if pivot is None else curves[pivot * len(machines)].model
    crossovers, notes = crossings(curves, axis, chosen, set_against) if axis is not None else ([], [])
    every = [warning for curve in curves for one in curve.estimates for warning in one.warnings]
    return Comparison(
        phase="request" if whole else phase,
        metric=chosen,
        axis=axis,
        models=tuple(dict.fromkeys(curve.model for curve in curves)),
        devices=tuple(machine.id for machine in machines),
        curves=tuple(curves),
        crossovers=tuple(crossovers),
        notes=tuple(dict.fromkeys([*notes, *_limits(curves, axis)])),
        warnings=tuple(dict.fromkeys(every)),
        against=set_against,
    )


def _metric(name: str) -> Metric:
    if name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, n=1)
        remedy = f"; did you mean '{near[0]}'?" if near else ""
        raise HwsimError(f"no metric '{name}'; metrics are {', '.join(METRICS)}{remedy}")
    return METRICS[name]


def _pivot(against: str, models: Sequence[Any], over: Any) -> int:
    """The place among the models of the one that the others are set against."""
    if over is None:
        raise HwsimError("against needs a size to compare over, as in --over seq=128:4096")
    if against not in models or len(models) < 2:
        near = difflib.get_close_matches(against, [one for one in models if isinstance(one, str)], n=1)
        remedy = f"; did you mean '{near[0]}'?" if near else ""
        raise HwsimError(
            f"'{against}' is none of the two or more models to compare; name it there too{remedy}"
        )
    return list(models).index(against)


def _listed(given: Any) -> list[Any]:
    found = list(given) if isinstance(given, (list, tuple)) else [given]
    if not found:
        raise HwsimError("nothing to compare; give at least one model and one device")
    return found


def _curve(price: Price, axis: Axis | None) -> Curve:
    """The curve on the grid; not labelled yet."""
    refused: dict[int, HwsimError] = {}
    if axis is None:
        pieces = [(np.zeros(1, dtype=np.intp), price(None))]
    else:
        pieces = list(_where_possible(price, axis.values, 0, refused))
    if not pieces:
        raise refused[0]
    first = pieces[0][1]
    return Curve(
        model=first.model,
        device=first.device,
        name="",
        label="",
        places=np.concatenate([places for places, _ in pieces]),
        estimates=tuple(one for _, one in pieces),
        excluded="" if axis is None else _reason(refused, axis),
        at=price,
    )


def _where_possible(
    price: Price, values: Array, start: int, refused: dict[int, HwsimError]
) -> Iterator[tuple[Any, Estimate | Request]]:
    """Estimates of the values a model admits, with their places; a part that holds another is halved."""
    try:
        # one value alone as a plain number: a trace may then be made for it
        found = price(values if values.size > 1 else float(values[0]))
    except HwsimError as error:
        if values.size == 1:
            refused[start] = error
            return
        middle = values.size // 2
        yield from _where_possible(price, values[:middle], start, refused)
        yield from _where_possible(price, values[middle:], start + middle, refused)
        return
    yield np.arange(start, start + values.size), found


def _reason(refused: Mapping[int, HwsimError], axis: Axis) -> str:
    """Which values are left out, and what was said of the first."""
    if not refused:
        return ""
    ends = dict.fromkeys(axis.written(float(axis.values[place])) for place in (min(refused), max(refused)))
    return f"left out at {axis.name} {' to '.join(ends)}: {refused[min(refused)]}"


def _labelled(curves: Sequence[Curve]) -> list[Curve]:
    """Curves named by what tells them apart."""
    models = {curve.model for curve in curves}
    devices = {curve.device for curve in curves}
    pairs = {(curve.model, curve.device) for curve in curves}
    if len(pairs) < len(curves):
        raise HwsimError("a model or a device is given twice; give each once, or another name")

    short = {model: model.rpartition(":")[2] if ".py:" in model else model for model in models}
    names = short if len(set(short.values())) == len(short) else {model: model for model in models}

    def label(curve: Curve) -> str:
        if len(devices) == 1:
            return names[curve.model]
        return curve.device if len(models) == 1 else f"{names[curve.model]} on {curve.device}"

    return [replace(curve, name=names[curve.model], label=label(curve)) for curve in curves]


def _limits(curves: Sequence[Curve], axis: Axis | None) -> Iterator[str]:
    """What is left out, and what does not fit."""
    for curve in curves:
        if curve.excluded:
            yield f"{curve.name} is {curve.excluded}"
        too_large = [] if axis is None else curve.places[~curve.fits].tolist()
        if too_large and axis is not None:
            places = dict.fromkeys(
                axis.written(float(axis.values[place])) for place in (too_large[0], too_large[-1])
            )
            yield f"{curve.name} does not fit {curve.device} at {axis.name} {' to '.join(places)}"
