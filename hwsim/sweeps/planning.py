"""Makes the plan of a spec: names resolved, models traced once, the corners of every case tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import product
from typing import Any

import numpy as np

from devices import Device, DeviceError, Stack, parse_quantity
from devices import stack as find_stack
from devices.cluster import Cluster
from devices.cluster import machine as find_machine
from graphs.errors import GraphError
from graphs.ir import OperatorGraph
from graphs.parallel import Parallel
from graphs.workload import Training
from hwsim.errors import HwsimError
from hwsim.fitted import coefficients_for
from hwsim.result import Estimate
from hwsim.sweeps.axes import Axis, device_value, dimension, numeric_axis
from hwsim.sweeps.chunk import estimates
from hwsim.sweeps.columns import ALL, chosen
from hwsim.sweeps.conditions import condition, objective
from hwsim.sweeps.plan import Case, Plan, Workload
from hwsim.sweeps.points import Sample, space
from hwsim.sweeps.possible import possible
from hwsim.sweeps.spec import OWN, SweepSpec, WorkloadSpec
from hwsim.sweeps.together import per_workload
from hwsim.tracing import trace

CHUNK = 65_536  # points priced, sent and written together; a resumed sweep repeats at most these per process
SOBOL_CHUNK = 262_144  # in a Sobol sequence only many points together have sizes in common
STRUCTURAL = (
    *("stack.attention_kernel", "stack.graph_capture", "stack.passes"),
    *(f"train.{field.name}" for field in fields(Training)),
    *(f"parallel.{field.name}" for field in fields(Parallel)),
)
Tracer = Callable[[Sequence[tuple[str, str]]], list[OperatorGraph | ValueError]]
Refused = (HwsimError, GraphError, DeviceError)


def make_plan(spec: SweepSpec, trace_all: Tracer | None = None) -> Plan:
    """Resolve names, trace models (with `trace_all` where given) and try the corners of every case."""
    graphs = _graphs(spec, trace_all)
    structural = {name: axis.values for name, axis in spec.axes.items() if name in STRUCTURAL}
    warnings: list[str] = []
    cases: list[Case] = []
    for labels, made in _combinations(spec, structural):
        try:
            cases.append(_probed(made(), spec, warnings))
        except Refused as error:
            if spec.impossible == "refuse":
                raise
            what = ", ".join(f"{value}" for value in labels.values())
            warnings.append(f"left out {what}: {error}")
    cases = _named(cases)
    if not cases:
        raise HwsimError(f"no combination of this sweep is possible: {warnings[0].partition(': ')[2]}")
    axes = tuple(name for axis in cases[0].space.axes for name in axis.names)
    names = per_workload(one.name for one in cases[0].workloads) if spec.combine else ()
    known = (*axes, *names, *ALL)
    where = tuple(condition(text, known) for text in spec.where)
    objectives = tuple(
        objective(text, known, largest=largest)
        for texts, largest in ((spec.minimize, False), (spec.maximize, True))
        for text in texts
    )
    formulas = (*where, *(one.formula for one in objectives))
    needed = {column for formula in formulas for column in formula.columns} - {*axes, *names}
    return Plan(
        document=spec.document(),
        cases=tuple(cases),
        graphs=graphs,
        chunk_points=_chunk_points(spec, len(objectives)),
        axes=axes,
        columns=chosen(spec.columns, needed),
        where=where,
        objectives=objectives,
        search=spec.search,
        combine=spec.combine,
        keep=spec.keep,
        impossible=spec.impossible,
        price=spec.hourly_price,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _chunk_points(spec: SweepSpec, objectives: int) -> int:
    if spec.search is not None:
        return spec.search.round(objectives)
    if spec.chunk is not None:
        return spec.chunk
    return SOBOL_CHUNK if spec.sample is not None and spec.sample.method == "sobol" else CHUNK


def _graphs(spec: SweepSpec, trace_all: Tracer | None) -> dict[tuple[str, str], OperatorGraph]:
    """Graphs of all models that are named; saved graphs are read here, so that no other machine needs the
    file.
    """
    pairs = [(one.model, one.phase) for one in spec.workload] or list(product(spec.model, spec.phase))
    wanted = list(dict.fromkeys((model, phase) for model, phase in pairs if isinstance(model, str)))
    found: dict[tuple[str, str], OperatorGraph] = {}
    elsewhere: dict[tuple[str, str], OperatorGraph | ValueError] = {}
    if trace_all is not None:
        # a path is one of this machine
        remote = [pair for pair in wanted if not pair[0].endswith(".json") and not {"/", ":"} & set(pair[0])]
        elsewhere.update(zip(remote, trace_all(remote), strict=True))
    for model, phase in wanted:
        try:
            graph = elsewhere[model, phase] if (model, phase) in elsewhere else trace(model, phase=phase)
            if isinstance(graph, ValueError):
                raise graph
            found[model, phase] = graph
        except Refused:
            if spec.impossible == "refuse":
                raise
    return found


def _combinations(
    spec: SweepSpec, structural: Mapping[str, Any]
) -> Iterator[tuple[dict[str, str], Callable[[], Case]]]:
    """Labels of each structural combination, and how to make its case."""
    asked: list[tuple[WorkloadSpec, ...]] = [(one,) for one in spec.workload] or [
        (WorkloadSpec.model_validate({"model": model, "phase": phase}),)
        for model, phase in product(spec.model, spec.phase)
    ]
    if spec.combine:
        asked = [tuple(spec.workload)]
    rest = product(spec.dtype, spec.weights, spec.kv, spec.stack, spec.device, product(*structural.values()))
    for workloads, (dtype, weights, kv, stack, device, values) in product(asked, list(rest)):
        settings = dict(zip(structural, values, strict=True))
        labels = {
            **({"workload": "+".join(_name(one) for one in workloads)} if spec.workload else {}),
            "model": "+".join(dict.fromkeys(_text(one.model) for one in workloads)),
            "phase": "+".join(dict.fromkeys(one.phase for one in workloads)),
            "dtype": dtype,
            **({"weights": weights} if spec.weights != (OWN,) else {}),
            **({"kv": kv} if spec.kv != (OWN,) else {}),
            "stack": _text(stack),
            "device": _text(device),
            **{name: str(value) for name, value in settings.items()},
        }

        def made(
            workloads: Any = workloads, dtype: str = dtype, weights: str = weights, kv: str = kv,
            stack: Any = stack, device: Any = device, settings: Any = settings, labels: Any = labels,
        ) -> Case:  # fmt: skip
            return _case(spec, workloads, (dtype, weights, kv), stack, device, settings, labels)

        yield labels, made


def _case(
    spec: SweepSpec,
    asked: Sequence[WorkloadSpec],
    precision: tuple[str, str, str],
    stack: Any,
    device: Any,
    settings: Mapping[str, Any],
    labels: Mapping[str, str],
) -> Case:
    found = device if isinstance(device, Device | Cluster) else find_machine(device)
    cluster = found if isinstance(found, Cluster) else None
    machine = found.device if isinstance(found, Cluster) else found
    axes = {key: axis for key, axis in spec.axes.items() if key not in STRUCTURAL}
    numeric = [numeric_axis(key, axis, machine) for key, axis in axes.items()]
    fixed = {name: value for name, value in spec.settings.items() if "." in name}
    sizes = {name: value for name, value in spec.settings.items() if "." not in name}
    workloads = tuple(_workload(one, precision, sizes) for one in asked)
    _no_name_twice(numeric, spec.settings)
    for axis in numeric:
        for name in axis.names:
            if "." not in name and not any(name in one.open - one.sizes.keys() for one in workloads):
                known = sorted({size for one in workloads for size in one.open - one.sizes.keys()})
                raise HwsimError(
                    f"{labels['model']} has no open size '{name}'; it has {', '.join(known) or 'none'}"
                )
    return Case(
        labels=labels,
        asked=labels,
        found=labels,
        workloads=workloads,
        device=machine,
        cluster=cluster,
        stack=stack if isinstance(stack, Stack) else find_stack(stack),
        settings={
            # those of this machine, whatever coefficients another one that prices chunks may have
            **{f"coefficient.{name}": value for name, value in coefficients_for(machine).values.items()},
            **{name: _plain_number(name, value, machine) for name, value in fixed.items()},
            **settings,
        },
        own=_own(numeric, machine),
        space=space(numeric, _sample(spec)),
    )


def _sample(spec: SweepSpec) -> Sample | None:
    drawn = spec.sample
    return None if drawn is None else Sample(points=drawn.points, method=drawn.method, seed=drawn.seed)


def _workload(one: WorkloadSpec, precision: tuple[str, str, str], sizes: Mapping[str, Any]) -> Workload:
    graph = trace(one.model, phase=one.phase)
    saved = not isinstance(one.model, str) or one.model.endswith(".json")
    open_sizes = frozenset(symbol.name for symbol in graph.symbols)
    shared = {name: value for name, value in sizes.items() if name in open_sizes}
    dtype, weights, kv = (
        mine or (None if common == OWN else common)
        for mine, common in zip((one.dtype, one.weights, one.kv), precision, strict=True)
    )
    return Workload(
        name=_name(one),
        model=graph if saved else one.model,
        phase=one.phase,
        sizes={**shared, **one.settings},
        open=open_sizes,
        dtype=dtype,
        weights=weights,
        kv=kv,
        share=one.share,
    )


def _name(one: WorkloadSpec) -> str:
    written = one.name or f"{_text(one.model)}_{one.phase}"
    return "".join(letter if letter.isalnum() else "_" for letter in written)


def _text(thing: Any) -> str:
    """What a model, device or stack is called in a table."""
    if isinstance(thing, OperatorGraph):
        return thing.model
    return thing.id if isinstance(thing, Device | Stack) else str(thing)


def _own(axes: Sequence[Axis], device: Device) -> dict[str, float]:
    found = {}
    for axis in axes:
        for name in axis.names if axis.times else ():
            room, _, path = name.partition(".")
            if room != "device":
                raise HwsimError(
                    f"axis '{name}' says times, which multiplies a device's own value; list values"
                )
            found[name] = device_value(device, path)
    return found


def _no_name_twice(axes: Sequence[Axis], settings: Mapping[str, Any]) -> None:
    seen = set(settings)
    for axis in axes:
        for name in axis.names:
            if name in seen:
                raise HwsimError(f"'{name}' is given twice; keep one of its axes or settings")
            seen.add(name)


def _plain_number(name: str, value: Any, device: Device) -> Any:
    """Settings of coefficients become numbers; devices and stacks read their own units."""
    if name.startswith("coefficient."):
        return parse_quantity(value, dimension(name, device))
    return value


def _named(cases: Sequence[Case]) -> list[Case]:
    """Cases labelled by what models and devices call themselves instead of by paths, where these
    still differ.
    """
    found = list(cases)
    for name in ("model", "device"):
        names = {case.asked[name]: case.found[name] for case in cases}
        if len(set(names.values())) == len(names):
            found = [replace(case, labels={**case.labels, name: names[case.asked[name]]}) for case in found]
    return found


def _probed(case: Case, spec: SweepSpec, warnings: list[str]) -> Case:
    """The case, after its extreme points were priced: what is wrong shows before anything is written."""
    found: list[Estimate] = []
    for high in (False, True):
        values = case.named(case.space.corner(high=high))
        if spec.impossible == "skip" and not np.all(possible(case, values, 1)):
            continue
        found = estimates(case, values, spec.hourly_price)
        warnings += [text for one in found for text in one.warnings]
    if not found:
        return case
    said = {
        name: "+".join(dict.fromkeys(getattr(one, name) for one in found))
        for name in ("model", "device", "dtype")
    }
    return replace(case, labels={**case.labels, "dtype": said["dtype"]}, found={**case.asked, **said})
