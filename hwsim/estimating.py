"""`hwsim.estimate`: one call from a model and a device to an `Estimate`, scalar or over arrays of points."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from devices import Device, Stack
from devices import device as find_device
from devices import stack as find_stack
from graphs.errors import GraphError
from graphs.expressions import Environment, Expr
from graphs.ir import OperatorGraph
from graphs.workload import Precision, Training
from hwsim.engines.demand import Array
from hwsim.errors import HwsimError
from hwsim.evaluate import Evaluator, Totals
from hwsim.executions import op_rows, timeline
from hwsim.fitted import Coefficients, coefficients_for
from hwsim.lower import lower
from hwsim.machine import MATRIX, VECTOR, Machine, build_machine
from hwsim.optable import OpTable
from hwsim.result import Estimate
from hwsim.tracing import trace
from hwsim.version import VERSION

Z80 = 1.2816  # standard normal quantile of a two-sided 80 % interval
ROLES = ("weights", "activations", "kv_cache", "gradients", "optimizer")
NOTICED = 1e-3  # by so much power may exceed its limit before that is said
RESERVED = ("device.", "stack.", "coefficient.", "train.")


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

    Sizes, `device.` fields in `overrides` and coefficients may be numpy arrays: they broadcast against each
    other and every numeric field of the result has the broadcast shape. A list of devices gives a list of
    estimates. `price` is USD per hour; `strict` refuses a graph with ops no rule knows; `warm` is a run that
    repeats another on the same data, so that what fits on chip is still there.
    """
    if isinstance(device, (list, tuple)):
        return [
            estimate(
                model, one, phase=phase, batch=batch, seq=seq, context=context, dtype=dtype, weights=weights,
                kv=kv, stack=stack, optimizer=optimizer, checkpointing=checkpointing, strict=strict,
                warm=warm, price=price, overrides=overrides, **symbols,
            )
            for one in device
        ]  # fmt: skip
    changes = _by_room(overrides or {})
    training = training_of(phase, {"optimizer": optimizer, "checkpointing": checkpointing}, changes["train"])
    machine_device = (device if isinstance(device, Device) else find_device(device)).replace(
        **changes["device"]
    )
    chosen = (stack if isinstance(stack, Stack) else find_stack(stack)).replace(**changes["stack"])
    given = {"batch": batch, "seq": seq, "context": context, **symbols, **changes["model"]}
    asked = {name: value for name, value in given.items() if value is not None}
    graph, bound = _bound_graph(model, phase, asked)
    if strict and graph.unknown_ops():
        (name, module), count = next(iter(graph.unknown_ops().items()))
        raise HwsimError(
            f"no work rule for op {name} ({count} in {module or 'the model'}); "
            "drop --strict to cost it as traffic"
        )
    warnings: list[str] = []
    precision = _precision(graph, machine_device, dtype, weights, kv, warnings)
    table = lower(graph, precision, chosen, training=training, warm=warm)
    coefficients = coefficients_for(machine_device).replace(changes["coefficient"])
    warnings += coefficients.warnings
    machine = build_machine(machine_device, chosen, coefficients, _dtypes(table))
    shape = _shape(bound, machine_device, chosen, coefficients.values, np.asarray(price))
    flat, points = _flatten(bound, machine, shape)
    evaluator = Evaluator(table, flat[1], flat[0], points)
    _warn(table, machine, warnings)
    return _result(
        graph, table, machine, evaluator, bound, shape, precision, price, tuple(warnings), training
    )


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


def _count(name: str, value: Any) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise HwsimError(f"{name}={value!r} is no number; give a whole number") from None
    if not number.is_integer():
        raise HwsimError(f"{name}={value} must be a whole number")
    return int(number)


def _bound_graph(model: Any, phase: str, asked: Mapping[str, Any]) -> tuple[OperatorGraph, dict[str, Array]]:
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
                f"{graph.model} in phase {phase} needs {guard.text}, which {_values(bound, guard)} breaks"
            )
        fixed[culprit] = int(bound[culprit].flat[0])
        graph = trace(model, phase=phase, fixed=fixed)
    raise HwsimError(f"{graph.model} cannot be traced at {', '.join(f'{k}={v}' for k, v in fixed.items())}")


def bind(graph: OperatorGraph, asked: Mapping[str, Any]) -> dict[str, Array]:
    """Checked float64 values of every symbol of `graph`: asked ones and defaults that follow from them."""
    known = {s.name: s for s in graph.symbols}
    values: dict[str, Array] = {}
    for name, value in asked.items():
        if name not in known:
            if name == "batch" and np.all(np.asarray(value) == 1):
                continue
            raise HwsimError(
                f"{graph.model} in phase {graph.phase} has no size {name!r}; "
                f"it has {', '.join(known) or 'none'}"
            )
        values[name] = _checked(name, value)
        if known[name].how == "fixed" and np.any(values[name] != float(known[name].default.value or 0)):
            raise HwsimError(
                f"size {name!r} of this graph is fixed at {known[name].default.text}; "
                "trace it again to change it"
            )
    waiting = [name for name in known if name not in values]
    while waiting:
        ready = [name for name in waiting if known[name].default.symbols <= values.keys()]
        if not ready:
            raise HwsimError(
                f"size {waiting[0]!r} of {graph.model} has no value; pass it with --set {waiting[0]}=..."
            )
        environment = Environment(values)
        for name in ready:
            values[name] = np.asarray(environment(known[name].default), dtype=np.float64)
        waiting = [name for name in waiting if name not in ready]
    environment = Environment(values)
    for name, size in known.items():
        low = float(environment(size.minimum))
        high = math.inf if size.maximum is None else environment(size.maximum)
        if np.any(values[name] < low):
            raise HwsimError(
                f"{name}={_worst(values[name], smallest=True)} is below "
                f"{graph.model}'s least {name} of {low:g}"
            )
        if np.any(values[name] > high):
            raise HwsimError(
                f"{name}={_worst(values[name], smallest=False)} is above "
                f"{graph.model}'s limit of {float(np.min(high)):g}"
            )
    return values


def broken_guard(graph: OperatorGraph, values: Mapping[str, Array]) -> tuple[Expr, str | None] | None:
    """The first guard a point breaks, and the size to trace again as a number when that may help."""
    environment = Environment(values)
    for guard in graph.guards:
        holds = np.asarray(environment(guard), dtype=bool)
        if np.all(holds):
            continue
        small = [n for n in sorted(guard.symbols) if _only_value(values[n]) in (0.0, 1.0)]
        return guard, small[0] if small else None
    return None


def _only_value(values: Array) -> float | None:
    """The one value that all points share, None where they differ."""
    low, high = float(np.min(values)), float(np.max(values))
    return low if low == high else None


def _checked(name: str, value: Any) -> Array:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise HwsimError(f"{name}={value!r} is not a number") from error
    if not np.all(np.isfinite(array)):
        raise HwsimError(f"{name}={value} is not finite; sizes are whole numbers")
    if np.any(array < 0):
        raise HwsimError(f"{name}={_worst(array, smallest=True)} is negative; sizes are not")
    return array


def _worst(values: Array, *, smallest: bool) -> str:
    return f"{float(np.min(values) if smallest else np.max(values)):g}"


def _values(bound: Mapping[str, Array], guard: Expr) -> str:
    return ", ".join(f"{n}={_worst(bound[n], smallest=False)}" for n in sorted(guard.symbols))


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


def _dtypes(table: OpTable) -> dict[str, set[str]]:
    every = {row.dtype for row in table.rows}
    return {
        MATRIX: {row.dtype for row in table.rows if row.work.shape != "stream"} or {"fp32"},
        VECTOR: every,
    }


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
    table: OpTable,
    machine: Machine,
    evaluator: Evaluator,
    bound: Mapping[str, Array],
    shape: tuple[int, ...],
    precision: Precision,
    price: Any,
    warnings: tuple[str, ...],
    training: Training | None,
) -> Estimate:
    totals = evaluator.totals()

    def shaped(values: Any) -> Any:
        """A flat column in the request's shape."""
        return values.reshape(shape) if shape else float(values[0])

    def spread(value: Any) -> Any:
        """A value that broadcasts, in the request's shape."""
        return np.broadcast_to(value, shape) if shape else float(value)

    device = machine.device
    flat = evaluator.machine
    dtype = precision.activations or graph.dtype
    point = not shape
    warnings += tuple(_above_the_limit(totals, flat))
    micro = 1 if training is None else training.accumulation
    hourly = device.price.usd_per_hour if price is None else price
    return Estimate(
        model=graph.model,
        device=device.id,
        phase=graph.phase,
        training=training,
        sizes={name: (float(v) if np.ndim(v) == 0 else v) for name, v in bound.items()},
        dtype=dtype,
        stack=machine.stack.id,
        parallel={},
        latency_s=shaped(totals.latency_s),
        log_spread=spread(Z80 * machine.structure.coefficients["log_sigma"]),
        breakdown_s={
            "compute": shaped(totals.compute_s),
            "memory": shaped(totals.memory_s),
            "overhead": shaped(totals.overhead_s),
            "communication": spread(0.0),
            "power": shaped(totals.power_s),
        },
        energy_by_j={name: shaped(value) for name, value in totals.energy.items()},
        bytes_by_level={"dram": shaped(totals.dram_bytes), "onchip": shaped(totals.onchip_bytes)},
        memory_bytes={name: spread(value) for name, value in _memory(totals, flat, shaped).items()},
        flops=shaped(totals.flops),
        flops_executed=shaped(totals.flops_executed),
        params=graph.parameters,
        clock_scale=shaped(totals.clock),
        samples=spread(bound.get("batch", 1.0) * micro),
        tokens=_new_tokens(bound, graph.phase, micro, spread),
        peak_flop_per_s=spread(device.peak(dtype)[1]),
        bandwidth_byte_per_s=spread(_datasheet_bandwidth(device)),
        usd_per_hour=None if hourly is None else spread(hourly),
        gram_per_kwh=None if device.carbon.gram_per_kwh is None else spread(device.carbon.gram_per_kwh),
        warnings=warnings,
        provenance=_provenance(graph, table, machine.coefficients, device),
        machine=device,
        rows=(lambda: op_rows(table, evaluator, totals)) if point else _refuse_rows,
        events=(lambda: timeline(table, evaluator, totals)) if point else _refuse_rows,
    )


def _above_the_limit(totals: Totals, machine: Machine) -> Iterator[str]:
    """A warning where not even the lowest clock keeps to the power limit."""
    power = sum(totals.energy.values()) / totals.latency_s
    excess = power / machine.limit_w
    if np.any(excess > 1 + NOTICED):
        worst = float(np.max(excess * machine.limit_w))
        yield (
            f"{machine.device.id} draws {worst:.3g} W even at its lowest clock, "
            "more than its power limit: expect it to take longer"
        )


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
    return parts


def _new_tokens(bound: Mapping[str, Array], phase: str, micro: int, spread: Callable[[Any], Any]) -> Any:
    """New tokens of the phase, of all micro-steps; None for a model without any."""
    batch = bound.get("batch", np.float64(1.0)) * micro
    if phase == "decode":
        return spread(batch)
    return spread(batch * bound["seq"]) if "seq" in bound else None


def _provenance(
    graph: OperatorGraph, table: OpTable, coefficients: Coefficients, device: Device
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
        },
    }


def _refuse_rows() -> Sequence[Any]:
    raise HwsimError("operator rows exist for a single point; estimate one point of the array")


__all__ = ["GraphError", "bind", "broken_guard", "estimate"]
