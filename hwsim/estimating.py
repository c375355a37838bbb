"""`hwsim.estimate`: one call from a model and a device to an `Estimate`, scalar or over arrays of points."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from devices import Device, Stack
from devices import stack as find_stack
from graphs.errors import GraphError
from graphs.ir import DEVICE, HOST, OFFLOADED, OperatorGraph
from graphs.parallel import Parallel
from graphs.workload import Precision, Training
from hwsim.binding import bind, broken_guard, values_text
from hwsim.deployment import Deployment, deploy, layout_of
from hwsim.engines.demand import Array
from hwsim.errors import HwsimError
from hwsim.evaluate import Evaluator, Totals
from hwsim.executions import op_rows, timeline
from hwsim.fitted import Coefficients, coefficients_for
from hwsim.hosting import border_of, border_path, dtypes_on, told, with_host
from hwsim.joining import Whole, join
from hwsim.lower import lower
from hwsim.machine import MATRIX, VECTOR, Machine, build_machine
from hwsim.optable import OpTable
from hwsim.remedies import Place, remedies
from hwsim.result import Estimate
from hwsim.spreading import spread
from hwsim.tracing import trace
from hwsim.uncertainty import Z80, log_sigma, own_share
from hwsim.version import VERSION

ROLES = ("weights", "activations", "kv_cache", "gradients", "optimizer")
NOTICED = 1e-3  # by so much power may exceed its limit before that is said
RESERVED = ("device.", "stack.", "coefficient.", "train.", "parallel.")


def estimate(
    model: Any,
    device: Any,
    *,
    phase: str = "forward",
    batch: Any = None,
    seq: Any = None,
    context: Any = None,
    dtype: str | None = None,
    weights: str | None = None,
    kv: str | None = None,
    stack: str | Stack = "compiled",
    optimizer: str | None = None,
    checkpointing: str | None = None,
    parallel: Parallel | Mapping[str, Any] | None = None,
    strict: bool = False,
    warm: bool = False,
    price: Any = None,
    overrides: Mapping[str, Any] | None = None,
    **symbols: Any,
) -> Any:
    """Latency, energy and memory of `model` in `phase` on `device`.

    Phase `train` is one optimizer step of a `batch` per micro-step; `optimizer`, `checkpointing` and paths
    under `train.` in `overrides` (accumulation, dtypes of gradients, moments, master) are those of
    `graphs.workload.Training`.

    `parallel` and paths under `parallel.` in `overrides` are those of `graphs.parallel.Parallel`: ranks of
    each axis on the devices of a cluster. `batch` is then that of a replica and micro-batch; time, energy and
    work are those of all devices together, memory that of the fullest one.

    Sizes, `device.` fields in `overrides` and coefficients may be numpy arrays: they broadcast against each
    other and every numeric field of the result has the broadcast shape. A list of devices gives a list of
    estimates. `price` is USD per hour; `strict` refuses a graph with ops no rule knows; `warm` is a run that
    repeats another on the same data, so that what fits on chip is still there.
    """
    if isinstance(device, (list, tuple)):
        return [
            estimate(
                model, one, phase=phase, batch=batch, seq=seq, context=context, dtype=dtype, weights=weights,
                kv=kv, stack=stack, optimizer=optimizer, checkpointing=checkpointing, parallel=parallel,
                strict=strict, warm=warm, price=price, overrides=overrides, **symbols,
            )
            for one in device
        ]  # fmt: skip
    changes = _by_room(overrides or {})
    training = training_of(phase, {"optimizer": optimizer, "checkpointing": checkpointing}, changes["train"])
    layout, training = in_step(layout_of(parallel, changes["parallel"]), training)
    deployment = deploy(device, layout, changes["device"])
    machine_device = deployment.device
    chosen = (stack if isinstance(stack, Stack) else find_stack(stack)).replace(**changes["stack"])
    given = {"batch": batch, "seq": seq, "context": context, **symbols, **changes["model"]}
    asked = {name: value for name, value in given.items() if value is not None}
    graph, bound = bound_graph(model, phase, asked)
    if strict and graph.unknown_ops():
        (name, module), count = next(iter(graph.unknown_ops().items()))
        raise HwsimError(
            f"no work rule for op {name} ({count} in {module or 'the model'}); "
            "drop --strict to cost it as traffic"
        )
    ranks = spread(graph, layout)
    if layout.ep > 1:  # sizes that count experts follow from the tokens of all expert ranks
        bound = bind(ranks[0].graph, asked)
    warnings: list[str] = list(deployment.warnings)
    precision = _precision(graph, machine_device, dtype, weights, kv, warnings)
    tables = [
        lower(
            stage.graph, precision, chosen, training=training, parallel=layout,
            in_flight=layout.in_flight(stage.place), warm=warm, border=border_of(machine_device),
        )
        for stage in ranks
    ]  # fmt: skip
    coefficients = coefficients_for(machine_device).replace(changes["coefficient"])
    warnings += coefficients.warnings
    here = dtypes_on(DEVICE, tables) or {MATRIX: {"fp32"}, VECTOR: set()}
    paths = {**deployment.paths, **border_path(machine_device)}
    machine = build_machine(machine_device, chosen, coefficients, here, paths)
    machine = with_host(machine, chosen, dtypes_on(HOST, tables))
    shape = _shape(bound, machine.link_byte_per_s, machine_device, chosen, coefficients.values,
                   np.asarray(price))  # fmt: skip
    flat, points = _flatten(bound, machine, shape)
    evaluators = [Evaluator(table, flat[1], flat[0], points) for table in tables]
    whole = join([one.totals() for one in evaluators], [stage.count for stage in ranks], layout)
    _warn(tables[0], machine, warnings)
    warnings += told(machine_device, tables)
    return _result(
        graph,
        deployment,
        machine,
        evaluators,
        whole,
        bound,
        shape,
        precision,
        price,
        tuple(warnings),
        training,
        _remedies(
            Place(layout=layout, training=training, precision=precision, most=deployment.most), model, device,
            phase=phase, batch=batch, seq=seq, context=context, dtype=dtype, weights=weights, kv=kv,
            stack=stack, optimizer=optimizer, checkpointing=checkpointing, strict=strict, warm=warm,
            price=price, overrides=overrides, **symbols,
        ),
    )  # fmt: skip


def _remedies(place: Place, model: Any, device: Any, **given: Any) -> Callable[[Estimate], tuple[Any, ...]]:
    """What would make the estimate of these arguments fit, computed when it is asked for."""
    settings = {k: v for k, v in (given["overrides"] or {}).items() if not k.startswith("parallel.")}
    plain = {**given, "parallel": place.layout, "overrides": settings}

    def ask(**changes: Any) -> Estimate:
        kept = {name: value for name, value in settings.items() if name.removeprefix("train.") not in changes}
        found: Estimate = estimate(model, device, **{**plain, "overrides": kept, **changes})
        return found

    return lambda base: remedies(base, place, ask)


def _by_room(overrides: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Overrides split by their reserved prefix; the rest are model symbols."""
    split: dict[str, dict[str, Any]] = {room.removesuffix("."): {} for room in (*RESERVED, "model")}
    for path, value in overrides.items():
        room, dot, rest = path.partition(".")
        if dot and room in split and room != "model":
            split[room][rest] = value
        elif dot:
            raise HwsimError(
                f"cannot set {path!r}; paths start with {', '.join(RESERVED)} or are model sizes"
            )
        else:
            split["model"][path] = value
    return split


def training_of(phase: str, asked: Mapping[str, Any], settings: Mapping[str, Any]) -> Training | None:
    """The training step that keywords and `train.` settings ask for; None in any other phase."""
    given = {name: value for name, value in asked.items() if value is not None}
    twice = given.keys() & settings.keys()
    if twice:
        raise HwsimError(f"{min(twice)} is given twice; leave train.{min(twice)} out")
    given |= settings
    if phase != "train":
        if given:
            raise HwsimError(f"{min(given)} belongs to a training step; add --phase train or leave it out")
        return None
    known = [field.name for field in dataclasses.fields(Training)]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"; did you mean 'train.{near[0]}'?" if near else ""
            raise HwsimError(f"no setting 'train.{name}'; there are {', '.join(known)}{remedy}")
    if "accumulation" in given:
        given["accumulation"] = _count("train.accumulation", given["accumulation"])
    return Training(**given)


def in_step(layout: Parallel, training: Training | None) -> tuple[Parallel, Training | None]:
    """Layout and training step with as many micro-batches as either of them says."""
    if training is None:
        if layout.zero:
            raise HwsimError(
                f"zero={layout.zero} belongs to a training step; add --phase train or leave it out"
            )
        return layout, None
    micro = max(layout.micro_batches, training.accumulation)
    if min(layout.micro_batches, training.accumulation) not in (1, micro):
        raise HwsimError(
            f"train.accumulation={training.accumulation} and micro_batches={layout.micro_batches} "
            "are the same thing; give one of them"
        )
    if layout.zero and layout.dp == 1:
        raise HwsimError(f"zero={layout.zero} shares among data ranks, and dp is 1; give --dp")
    return dataclasses.replace(layout, micro_batches=micro), dataclasses.replace(training, accumulation=micro)


def _count(name: str, value: Any) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise HwsimError(f"{name}={value!r} is no number; give a whole number") from None
    if not number.is_integer():
        raise HwsimError(f"{name}={value} must be a whole number")
    return int(number)


def bound_graph(model: Any, phase: str, asked: Mapping[str, Any]) -> tuple[OperatorGraph, dict[str, Array]]:
    """The graph and a value for each of its sizes; a size its trace excludes is traced again as a number."""
    graph = trace(model, phase=phase)
    fixed: dict[str, int] = {}
    for _ in range(len(graph.symbols) + 1):
        bound = bind(graph, asked)
        broken = broken_guard(graph, bound)
        if broken is None:
            return graph, bound
        guard, culprit = broken
        if culprit is None or culprit in fixed or not isinstance(model, str) or model.endswith(".json"):
            raise HwsimError(
                f"{graph.model} in phase {phase} needs {guard.text}, which {values_text(bound, guard)} breaks"
            )
        fixed[culprit] = int(bound[culprit].flat[0])
        graph = trace(model, phase=phase, fixed=fixed)
    raise HwsimError(f"{graph.model} cannot be traced at {', '.join(f'{k}={v}' for k, v in fixed.items())}")


def _precision(
    graph: OperatorGraph,
    device: Device,
    dtype: str | None,
    weights: str | None,
    kv: str | None,
    warnings: list[str],
) -> Precision:
    wanted = dtype or graph.dtype
    Precision(activations=wanted, weights=weights, kv=kv)  # names are checked here
    used, _ = device.peak(wanted)
    if used != wanted and dtype is None and used in ("bf16", "fp16", "fp32"):
        warnings.append(f"{device.id} has no {wanted} peak; computed in {used}")
        return Precision(activations=used, weights=weights, kv=kv)
    if used != wanted:
        warnings.append(f"{device.id} has no {wanted} peak; priced at its {used} rate")
    return Precision(activations=wanted, weights=weights, kv=kv)


def _shape(*parts: Any) -> tuple[int, ...]:
    """The broadcast shape of everything given, fields of devices and stacks included."""
    shapes = [shape for part in parts for shape in _array_shapes(part)]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError as error:
        listed = ", ".join(map(str, shapes))
        raise HwsimError(f"arrays of shapes {listed} do not broadcast together") from error


def _array_shapes(value: Any) -> Iterator[tuple[int, ...]]:
    """Shapes of all arrays in a value, a mapping or a record."""
    if isinstance(value, np.ndarray):
        yield value.shape
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _array_shapes(one)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _array_shapes(getattr(value, field.name))


def _flatten(
    bound: Mapping[str, Array], machine: Machine, shape: tuple[int, ...]
) -> tuple[tuple[dict[str, Array], Machine], int]:
    """Sizes and machine over a flat axis of points; what does not vary stays scalar."""
    points = math.prod(shape)
    if points == 0:
        raise HwsimError("an array of no points has nothing to estimate")

    def flat(value: Array) -> Array:
        return (
            np.ascontiguousarray(np.broadcast_to(value, shape)).reshape(points) if np.ndim(value) else value
        )

    return ({name: flat(value) for name, value in bound.items()}, machine.mapped(flat)), points


def _warn(table: OpTable, machine: Machine, warnings: list[str]) -> None:
    for (name, module), count in sorted(table.unknown.items()):
        warnings.append(
            f"op {name} ({count} in {module or 'the model'}) has no work rule; costed as memory traffic"
        )
    for wanted, used in machine.substitutes.items():
        text = f"{machine.device.id} has no {wanted} peak; priced at its {used} rate"
        if text not in warnings and not any(used in w and "peak" in w for w in warnings):
            warnings.append(text)


def _result(
    graph: OperatorGraph,
    deployment: Deployment,
    machine: Machine,
    evaluators: Sequence[Evaluator],
    whole: Whole,
    bound: Mapping[str, Array],
    shape: tuple[int, ...],
    precision: Precision,
    price: Any,
    warnings: tuple[str, ...],
    training: Training | None,
    remedies_of: Callable[[Estimate], tuple[Any, ...]],
) -> Estimate:
    totals, layout = whole.totals, deployment.parallel

    def shaped(values: Any) -> Any:
        """A flat column in the request's shape."""
        return values.reshape(shape) if shape else float(values[0])

    def spread_out(value: Any) -> Any:
        """A value that broadcasts, in the request's shape."""
        return np.broadcast_to(value, shape) if shape else float(value)

    device = machine.device
    evaluator = evaluators[int(whole.slowest.flat[0])]
    table, flat = evaluator.table, evaluator.machine
    dtype = precision.activations or graph.dtype
    point = not shape
    warnings += tuple(_above_the_limit(totals, flat, layout.devices))
    memory = {name: spread_out(value) for name, value in _memory(totals, flat, shaped).items()}
    warnings += tuple(_too_large(memory, device))
    batches = layout.replicas * layout.micro_batches
    hourly = device.price.usd_per_hour if price is None else price
    return Estimate(
        model=graph.model,
        device=deployment.name,
        devices=layout.devices,
        phase=graph.phase,
        training=training,
        sizes={name: (float(v) if np.ndim(v) == 0 else v) for name, v in bound.items()},
        dtype=dtype,
        stack=machine.stack.id,
        parallel=layout.record(),
        latency_s=shaped(totals.latency_s),
        log_spread=shaped(Z80 * log_sigma(totals, flat)),
        breakdown_s={
            "compute": shaped(totals.compute_s),
            "memory": shaped(totals.memory_s),
            "overhead": shaped(totals.overhead_s),
            "communication": shaped(totals.communication_s),
            "power": shaped(totals.power_s),
        }
        | ({"bubble": shaped(whole.bubble_s)} if layout.pp > 1 else {}),
        energy_by_j={name: shaped(value) for name, value in _by_level(totals.energy, device).items()},
        bytes_by_level={
            "dram": shaped(totals.dram_bytes * (not device.memory.resident)),
            "onchip": shaped(totals.onchip_bytes),
        },
        main_bytes=shaped(totals.dram_bytes),
        memory_bytes=memory,
        flops=shaped(totals.flops),
        flops_executed=shaped(totals.flops_executed),
        params=graph.parameters,
        clock_scale=shaped(totals.clock),
        samples=spread_out(bound.get("batch", 1.0) * batches),
        tokens=_new_tokens(bound, graph.phase, batches, spread_out),
        peak_flop_per_s=spread_out(device.peak(dtype)[1]),
        bandwidth_byte_per_s=spread_out(_datasheet_bandwidth(device)),
        usd_per_hour=None if hourly is None else spread_out(hourly * layout.devices),
        gram_per_kwh=None if device.carbon.gram_per_kwh is None else spread_out(device.carbon.gram_per_kwh),
        warnings=warnings,
        provenance=_provenance(graph, table, machine.coefficients, device, totals),
        machine=device,
        rows=(lambda: op_rows(table, evaluator, evaluator.totals())) if point else _refuse_rows,
        events=(lambda: timeline(table, evaluator, evaluator.totals())) if point else _refuse_rows,
        remedies=remedies_of,
    )


def _above_the_limit(totals: Totals, machine: Machine, devices: int) -> Iterator[str]:
    """A warning where not even the lowest clock keeps to the power limit."""
    spent = sum(value for name, value in totals.energy.items() if name != HOST)
    power = spent / totals.latency_s / devices
    excess = power / machine.limit_w
    if np.any(excess > 1 + NOTICED):
        worst = float(np.max(excess * machine.limit_w))
        yield (
            f"{machine.device.id} draws {worst:.3g} W even at its lowest clock, "
            "more than its power limit: expect it to take longer"
        )


def _too_large(memory: Mapping[str, Any], device: Device) -> Iterator[str]:
    """A warning where data do not fit a machine that has no memory beyond its SRAM."""
    if device.memory.resident:
        parts = float(np.max(memory["total"] / memory["capacity"]))
        if parts > 1:
            yield (
                f"{device.id} holds everything in SRAM and this needs {parts:.3g} times what it has: "
                f"priced as if it fitted, spread it over {math.ceil(parts)} or more"
            )


def _by_level(energy: Mapping[str, Array], device: Device) -> Mapping[str, Array]:
    """Joules by part; those of a main memory that is SRAM are spent on the chip."""
    if not device.memory.resident:
        return energy
    return {**energy, "onchip": energy["onchip"] + energy["dram"], "dram": 0.0 * energy["dram"]}


def _datasheet_bandwidth(device: Device) -> Any:
    level = device.memory.dram or device.memory.last_level_cache
    assert level is not None  # checked when the machine was built
    assert level.bandwidth_byte_per_s is not None
    return level.bandwidth_byte_per_s


def _memory(totals: Totals, machine: Machine, shaped: Callable[[Any], Any]) -> dict[str, Any]:
    parts: dict[str, Any] = {name: shaped(totals.memory[name]) for name in ROLES}
    reserve, capacity = (
        shaped(value) if np.ndim(value) else value
        for value in (machine.stack.reserve_byte, machine.capacity_byte)
    )
    parts["reserve"] = reserve if machine.device.kind != "accelerator" else 0.0
    parts["total"] = sum(parts.values())
    parts["capacity"] = capacity
    if np.any(totals.memory[OFFLOADED]):
        parts[OFFLOADED] = shaped(totals.memory[OFFLOADED])
    return parts


def _new_tokens(bound: Mapping[str, Array], phase: str, batches: int, spread: Callable[[Any], Any]) -> Any:
    """New tokens of the phase in all batches, or None for a model without any."""
    batch = bound.get("batch", np.float64(1.0)) * batches
    if phase == "decode":
        return spread(batch)
    return spread(batch * bound["seq"]) if "seq" in bound else None


def _provenance(
    graph: OperatorGraph, table: OpTable, coefficients: Coefficients, device: Device, totals: Totals
) -> dict[str, Any]:
    kinds = sum(int(n) for n in table.unknown.values())
    return {
        "graph": {"model": graph.model, "phase": graph.phase, "ops": graph.length, **dict(graph.provenance)},
        "device": {"id": device.id, "fingerprint": device.fingerprint()},
        "calibration": {name: scope for name, scope in coefficients.scopes.items() if scope != "engine"}
        or "none",
        "version": VERSION,
        "tier": coefficients.tier,
        "coverage": {
            "ops": graph.length,
            "ops_without_rule": kinds,
            "kernels": table.kernels,
            "rows": len(table.rows),
            **({"measured_neighbours": own_share(totals)} if coefficients.surface else {}),
        },
    }


def _refuse_rows() -> Sequence[Any]:
    raise HwsimError("operator rows exist for a single point; estimate one point of the array")


__all__ = ["GraphError", "bind", "broken_guard", "estimate"]
