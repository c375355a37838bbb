"""Fits the CPU engine's coefficients to operators timed on this machine.

Hardware first: the clock that the fastest product implies and the bandwidths that streams reach become fields
of the device. What is then left between the graph of an operator and its time are the coefficients, fitted
as everywhere else (`hwsim.fitting`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from devices import Device
from graphs.measuring import Timed
from graphs.timing import spread as spread_of_rounds
from hwsim.engines.demand import Array
from hwsim.errors import HwsimError
from hwsim.estimating import estimate
from hwsim.fitted import coefficients_for
from hwsim.fitting import Fitted, Key, Sample, fit, spread_of
from hwsim.measurements.question import Part, Protocol, Question

# where a fit begins and what it is pulled to
START = {
    "lane_matrix_efficiency": 0.9, "matrix_efficiency": 0.7, "panel_half_rows": 8.0, "k_prologue": 8.0,
    "row_start_byte": 2500.0, "attention_efficiency": 0.8, "query_half_rows": 3.0,
    "score_flop": 20.0, "block_flop": 5e5, "weight_wait": 1.0, "attention_stream_share": 0.6,
    "dram_efficiency": 0.9, "onchip_efficiency": 0.9, "unit_byte_per_clock": 20.0,
    "overlap": 0.4, "kernel_ramp_s": 2e-6, "cache_reuse_low": 0.2,
}  # fmt: skip
# coefficient -> the benchmarks that alone tell of it
ALONE = {
    "tanh_slowdown": ("tanh",), "exp_slowdown": ("exp",), "gelu_slowdown": ("gelu",),
    "gelu_tanh_slowdown": ("gelu_tanh",), "silu_slowdown": ("silu",), "sigmoid_slowdown": ("sigmoid",),
    "cos_slowdown": ("cos",), "pow_slowdown": ("pow",), "norm_slowdown": ("norm", "small block"),
    "rms_norm_slowdown": ("rms_norm",), "softmax_slowdown": ("softmax",), "reduce_slowdown": ("reduce",),
    "copy_slowdown": ("copy", "copy of swapped dimensions", "small block"), "conv_slowdown": ("convolution",),
    "bmm_slowdown": ("matrix product",), "host_slowdown": ("small block",),
    "fresh_page_s_per_byte": ("large result",), "norm_call_s": ("norm",), "rms_norm_call_s": ("rms_norm",),
    "reduce_call_s": ("reduce",), "bmm_call_s": ("matrix product",),
}  # fmt: skip
STREAMS = ("relu", "add", "mul", "copy", "add, cold")
BEYOND, WITHIN = 2.0, 0.6  # working sets that say of DRAM and of the last cache, in its capacities
ITERATIONS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFit:
    """Device fields and coefficients, the log errors they leave by benchmark, and those of the priors."""

    changes: Mapping[str, float]
    values: Mapping[str, float]
    residuals: Mapping[str, Array]
    before: Mapping[str, Array]
    log_sigma: float


def fit_machine(timed: Sequence[Timed], device: Device, *, iterations: int = ITERATIONS) -> MachineFit:
    """The fit; points never timed on a quiet machine are left out."""
    plain = list(samples_of_machine(timed, device))
    if not plain:
        raise HwsimError("nothing was timed on a quiet machine; stop other programs or allow more --minutes")
    changes = hardware(plain, device)
    known = [replace(one, device=device.replace(**changes)) for one in plain]
    ops = {one.op for one in known}
    prior = coefficients_for(device).values
    start = {
        (name, ""): START.get(name, float(prior[name]))
        for name in (*START, *ALONE)
        if name in prior and (name not in ALONE or ops.intersection(ALONE[name]))
    }
    start |= _met_in_the_middle(known, start)
    made = fit(known, start, iterations=iterations)
    after = made.errors()
    return MachineFit(
        changes=changes,
        values={name: value for (name, _), value in made.values.items()},
        residuals={op: error for (_, op), error in after.items()},
        before={op: error for (_, op), error in Fitted({}, plain).errors().items()},
        log_sigma=spread_of(after),
    )


def _met_in_the_middle(samples: Sequence[Sample], start: Mapping[Key, float]) -> dict[Key, float]:
    """Start of what one benchmark alone tells of, scaled as its middle point asks."""
    begun = Fitted(start, samples).errors()
    found = {}
    for name, ops in ALONE.items():
        errors = [error for (_, op), error in begun.items() if op == ops[0]]
        if (name, "") in start and errors and not name.endswith("_call_s"):
            found[name, ""] = start[name, ""] * float(np.exp(-np.median(errors[0])))
    return found


def samples_of_machine(timed: Sequence[Timed], device: Device) -> Iterator[Sample]:
    """Points by benchmark and dtype, as the arrays that one estimate takes."""
    groups: dict[tuple[int, str], list[tuple[Timed, float]]] = {}
    for one in timed:
        if one.seconds is not None:
            groups.setdefault((id(one.point.benchmark), one.point.dtype), []).append((one, one.seconds))
    for (_, dtype), members in groups.items():
        benchmark = members[0][0].point.benchmark
        graph, rows = benchmark.graph(dtype), np.arange(len(members))
        sizes = {
            size.name: np.array([float(one.point.sizes[size.name]) for one, _ in members])
            for size in graph.symbols
        }
        protocol = Protocol(
            timing="host", statistic="lower quartile", warm=not benchmark.cold, stack=benchmark.stack
        )
        question = Question(
            rows=rows, device=device.id, op=benchmark.name, parts=(Part(graph=graph, sizes=sizes),),
            protocol=protocol, dtype=dtype,
        )  # fmt: skip
        yield Sample(
            device=device, op=benchmark.name, question=question, at=rows,
            measured_s=np.array([seconds for _, seconds in members]),
            apart=frozenset(name for name, ops in ALONE.items() if benchmark.name not in ops),
        )  # fmt: skip


def hardware(samples: Sequence[Sample], device: Device) -> dict[str, float]:
    """Device paths as the timed points show them.

    The clock is that which the fastest fp32 product needs, and never below what the system tells; bandwidths
    are those of the fastest streams beyond the last cache and well within it.
    """
    found, peak, level = {}, float(device.peak("fp32")[1]), device.memory.last_level_cache
    plain = [one for one in samples if one.question.dtype == "fp32"]
    flop = max(float(np.max(_rates(one, device)[0])) for one in plain)
    if flop > peak:
        found["compute.clock"] = float(device.compute.clock_hz) * flop / peak
    streams = [_rates(one, device) for one in plain if one.op in STREAMS]
    if not streams:
        return found
    byte, held = (np.concatenate([one[i] for one in streams]) for i in (1, 2))
    assert level is not None  # every CPU has a cache
    capacity = float(level.capacity_byte)
    ranges = {"dram": held > BEYOND * capacity, "l3": (held < WITHIN * capacity) & (held > capacity / 32)}
    for name, inside in ranges.items():
        if inside.any() and getattr(device.memory, name) is not None:
            found[f"memory.{name}.bandwidth"] = float(np.max(byte[inside]))
    return found


def _rates(sample: Sample, device: Device) -> tuple[Array, Array, Array]:
    """FLOP/s, bytes/s and the bytes of the working set of every point; that of a cold one has no end."""
    part = sample.question.parts[0]
    found = estimate(part.graph, device, stack="kernel", **part.sizes)
    shape = sample.measured_s.shape
    moved = np.broadcast_to(found.bytes_by_level["onchip"], shape)
    held = moved if sample.question.protocol.warm else np.full(shape, np.inf)
    return np.broadcast_to(found.flops, shape) / sample.measured_s, moved / sample.measured_s, held


def spreads(timed: Sequence[Timed]) -> list[float]:
    """Spread between rounds of every point that has valid windows in several."""
    return [found for one in timed if (found := spread_of_rounds(one.windows)) is not None]
