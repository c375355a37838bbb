"""Learns the surface of a device: how many times longer than the physics its measured kernels take, by size.

Only rows of single kernels count, and only where the kernel and not its launch fills the time. How far
neighbours speak for each other is chosen by leaving out one row at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from devices import stack as find_stack
from graphs.expressions import Environment
from graphs.ir import OperatorGraph
from graphs.workload import Precision
from hwsim.engines.demand import Array
from hwsim.fitting import Sample
from hwsim.lower import lower
from hwsim.measurements.predicting import answer
from hwsim.stacked import Stacked
from hwsim.surface import NEIGHBOURS, Patch, krige, places_of, signature

ROWS = 1500  # of a device and operator that are kept
FEWEST = 8  # rows of a kind of kernel that make a patch
VISIBLE = 0.25  # share of a row's time that is its kernel's, below which it says nothing of it
RANGE = (0.1, 10.0)
STEPS = 2  # of Newton's method, once a slope is known
LENGTHS, NOISES = (1.0, 2.0, 4.0, 8.0, 16.0), (0.01, 0.05, 0.2, 1.0)
PHYSICS = {"surface_weight": 0.0}  # what a surface learned before says is left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A kind of kernel learned from the rows of one operator: mean log error `off` of the physics, and log
    errors `after` of rows left out.
    """

    op: str
    key: str
    patch: Patch
    off: float
    after: Array


def learn(samples: Sequence[Sample], values: Mapping[str, float], learned_with: str) -> list[Learned]:
    """The patches of one device whose coefficients have these `values`.

    Rows of one operator count together, whatever software they were measured under. Of several operators that
    look alike in a graph the one closest to the physics counts: others are special kernels, which estimates
    know nothing of.
    """
    rows: dict[tuple[str, str], list[tuple[Array, Array]]] = {}
    for one in samples:
        shape = shape_of(one)
        if shape is not None:
            key, sizes = shape
            slowdown = slowdowns(one, values)
            good = np.isfinite(slowdown)
            rows.setdefault((key, one.op), []).append((sizes[good], slowdown[good]))
    best: dict[str, Learned] = {}
    for (key, op), parts in rows.items():
        sizes, slowdown = (np.concatenate(part) for part in zip(*parts, strict=True))
        found = _learned(key, op, sizes, slowdown, learned_with)
        other = best.get(key)
        if found is not None and (other is None or found.off < other.off):
            best[key] = found
    return list(best.values())


def _learned(key: str, op: str, sizes: Array, slowdown: Array, learned_with: str) -> Learned | None:
    if len(slowdown) < FEWEST:
        return None
    rough = Patch(
        sizes=sizes, slowdown=slowdown, length=1.0, noise=1.0, sigma=0.0, reach=1.0,
        learned_with=learned_with,
    )  # fmt: skip
    patch, errors = tuned(rough)
    return Learned(op=op, key=key, patch=patch, off=float(np.mean(np.abs(np.log(slowdown)))), after=errors)


def shape_of(sample: Sample) -> tuple[str, Array] | None:
    """Kind and sizes [rows, sizes] of the kernel that a sample measured; None where it is a whole model."""
    question = sample.question
    part = question.parts[0]
    if not isinstance(part.graph, OperatorGraph) or len({node.operator for node in part.graph.nodes}) != 1:
        return None
    precision = Precision(
        activations=question.dtype or part.graph.dtype, weights=question.weights, kv=question.kv
    )
    table = lower(part.graph, precision, find_stack(question.protocol.stack), warm=question.protocol.warm)
    key, sizes = signature(table.rows[0])
    count = question.rows.size
    given = {
        name: np.broadcast_to(np.asarray(v, np.float64), count)[sample.at] for name, v in part.sizes.items()
    }
    places = Stacked(sizes)(Environment(given)).T
    return key, np.array(np.broadcast_to(places, (sample.at.size, len(sizes))))


def slowdowns(sample: Sample, values: Mapping[str, float]) -> Array:
    """Times longer than computed that the first kernel of each row must take for the measured time.

    NaN where launches and what runs beside the kernel hide it.
    """

    def seconds(times: Array) -> Array:
        part = sample.question.parts[0]
        slower = {**part.settings, "coefficient.kernel_slowdown": times}
        parts = (replace(part, settings=slower), *sample.question.parts[1:])
        asked = replace(sample.question, parts=parts)
        amounts, _ = answer(asked, sample.device, sample.at, {**values, **PHYSICS})
        return np.asarray(amounts[0])

    times = np.ones(sample.at.size)
    physics = seconds(times)
    slope = seconds(2 * times) - physics
    now = physics
    for _ in range(STEPS + 1):
        times = np.clip(times + (sample.measured_s - now) / slope, *RANGE)
        now = seconds(times)
    times[(slope < VISIBLE * physics) | (times <= RANGE[0]) | (times >= RANGE[1])] = np.nan
    return times


def tuned(patch: Patch) -> tuple[Patch, Array]:
    """The patch with the length and noise that predict its rows best, each from the others; those errors."""
    values = np.log(patch.slowdown)
    away, near = patch.neighbours(places_of(patch.sizes), NEIGHBOURS + 1)
    own = np.arange(len(values))[:, None]
    order = np.argsort(near != own, axis=1, kind="stable")[:, 1:]  # a row itself comes first
    away, near = np.take_along_axis(away, order, axis=1), np.take_along_axis(near, order, axis=1)
    among = patch.among(near)
    best: tuple[float, Patch, Array] | None = None
    for length in LENGTHS:
        for noise in NOISES:
            mean, explained = krige(away, among, values[near], length, noise)
            errors = mean - values
            off = float(np.mean(np.abs(errors)))
            if best is None or off < best[0]:
                reach = max(0.01, float(np.median(explained)))
                sigma = float(np.quantile(np.abs(errors), 0.8) / 1.2816)
                best = (off, replace(patch, length=length, noise=noise, reach=reach, sigma=sigma), errors)
    assert best is not None
    return best[1], best[2]
