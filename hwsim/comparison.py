"""What a comparison is: curves of models on devices over one axis, by one metric, and where they cross."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from devices import format_quantity
from hwsim.axis import Axis
from hwsim.engines.demand import Array
from hwsim.errors import HwsimError
from hwsim.requests import Request
from hwsim.result import Estimate

SCHEMA = "hwsim.comparison/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A quantity to compare by; `field` is its name in an `Estimate`."""

    name: str
    field: str
    dimension: str
    ahead: str  # "A <ahead> than B"
    more_is_better: bool = False
    of_request: bool = False  # a whole request has it, an estimate has not

    def of(self, estimate: Estimate | Request) -> Array:
        """Its values at the points of an estimate or of whole requests."""
        value = getattr(estimate, self.field, None)
        if value is None:
            more = "; a time to the first or per further token is one of --generate N"
            remedy = f"compare by latency, energy or memory{more if self.of_request else ''}"
            raise HwsimError(f"{estimate.model} has no {self.name}; {remedy}")
        return np.atleast_1d(np.asarray(value, dtype=np.float64))

    def written(self, value: float, digits: int = 3) -> str:
        """The value with its unit."""
        if self.dimension == "number":
            factor, prefix = (1.0, "") if value < 1e4 else (1e3, "k")
            # whole thousands would otherwise be written with an exponent
            return f"{value / factor:.{max(digits, 4)}g} {prefix}{self.name}/s"
        return format_quantity(value, self.dimension, digits=digits)


LATENCY = Metric(name="latency", field="latency_s", dimension="second", ahead="is faster")
ENERGY = Metric(name="energy", field="energy_j", dimension="joule", ahead="takes less energy")
MEMORY = Metric(name="memory", field="peak_memory_bytes", dimension="byte", ahead="needs less memory")
TOKENS = Metric(
    name="tokens",
    field="tokens_per_s",
    dimension="number",
    ahead="gives more tokens per second",
    more_is_better=True,
)
TTFT = Metric(name="ttft", field="ttft_s", dimension="second", ahead="begins earlier", of_request=True)
TPOT = Metric(name="tpot", field="tpot_s", dimension="second", ahead="goes on faster", of_request=True)
METRICS = {metric.name: metric for metric in (LATENCY, ENERGY, MEMORY, TOKENS, TTFT, TPOT)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Curve:
    """One model on one device, at the grid points it admits; `excluded` says which are left out and why."""

    model: str
    device: str
    name: str  # of the model, short where that is enough
    label: str  # what tells the curve from the others
    places: Array  # indices into the values compared over
    estimates: tuple[Estimate | Request, ...] = field(repr=False)  # together one value per place
    excluded: str
    at: Callable[[float], Estimate | Request] = field(repr=False)  # the estimate at any other value

    def values(self, metric: Metric) -> Array:
        """One per place."""
        return np.concatenate([metric.of(one) for one in self.estimates])

    @property
    def latency_s(self) -> Array:
        return self.values(LATENCY)

    @property
    def energy_j(self) -> Array:
        return self.values(ENERGY)

    @property
    def peak_memory_bytes(self) -> Array:
        return self.values(MEMORY)

    @property
    def tokens_per_s(self) -> Array | None:
        """None for a model without tokens."""
        return None if self.estimates[0].tokens_per_s is None else self.values(TOKENS)

    @property
    def fits(self) -> Any:
        return np.concatenate([np.atleast_1d(one.fits) for one in self.estimates])


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossover:
    """From `at` on `winner` is ahead of `loser`, which was ahead or even at `before`."""

    at: float
    before: float
    winner: str  # labels of curves
    loser: str
    on: str  # the device or the model they share
    winner_value: float
    loser_value: float
    fits: bool  # both, at `at`
    text: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison:
    """Curves of every model on every device over one axis, or single points where there is none."""

    phase: str
    metric: Metric
    axis: Axis | None
    models: tuple[str, ...]
    devices: tuple[str, ...]
    curves: tuple[Curve, ...]  # every device of the first model, then of the next
    crossovers: tuple[Crossover, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    against: str | None = None  # the model that the others are set against

    @property
    def over(self) -> str | None:
        return None if self.axis is None else self.axis.name

    @property
    def points(self) -> int:
        return 1 if self.axis is None else self.axis.values.size

    @property
    def title(self) -> str:
        """What is compared by what, in words: `latency on l4 over seq: prefill, batch 1, bf16, compiled`."""
        e = self.curves[0].estimates[0]
        over = f" of {self.curves[0].name}" if len(self.models) == 1 else ""
        over += f" on {self.devices[0]}" if len(self.devices) == 1 else ""
        over += "" if self.axis is None else f" over {self.axis.name}"
        # a size that differs between models (its default) belongs to none of them here
        shared = [
            f"{name} {float(value):g}"
            for name, value in e.sizes.items()
            if name != self.over and all(_same(c.estimates[0].sizes.get(name), value) for c in self.curves)
        ]
        dtypes = dict.fromkeys(curve.estimates[0].dtype for curve in self.curves)
        return f"{self.metric.name}{over}: {', '.join([self.phase, *shared, *dtypes, e.stack])}"

    def curve(self, model: str, device: str) -> Curve:
        return next(c for c in self.curves if (c.model, c.device) == (model, device))

    def gain(self, curve: Curve) -> tuple[Array, Array]:
        """How many times better a curve is than the model set against on its device, and at which places."""
        assert self.against is not None  # the caller has asked
        other = self.curve(self.against, curve.device)
        places, mine, theirs = np.intersect1d(curve.places, other.places, return_indices=True)
        ours, base = curve.values(self.metric)[mine], other.values(self.metric)[theirs]
        return (ours / base if self.metric.more_is_better else base / ours), places

    def aligned(self, curve: Curve, values: Any) -> list[Any]:
        """Values of a curve's places at all points, None where it is excluded."""
        found: list[Any] = [None] * self.points
        for place, value in zip(curve.places.tolist(), np.asarray(values).tolist(), strict=True):
            found[int(place)] = value
        return found

    def array(self, metric: str | None = None) -> Any:
        """Masked array [models, devices, points]; masked where a model's limit excludes a point."""
        chosen = self.metric if metric is None else METRICS[metric]
        data = np.zeros((len(self.curves), self.points))
        mask = np.ones(data.shape, dtype=np.bool_)
        for row, curve in enumerate(self.curves):
            data[row, curve.places], mask[row, curve.places] = curve.values(chosen), False
        shape = len(self.models), len(self.devices), self.points
        return np.ma.MaskedArray(data.reshape(shape), mask.reshape(shape))

    def to_dict(self) -> dict[str, Any]:
        """The document `hwsim.comparison/1`; an excluded point is None in every list."""
        from hwsim.document import comparison_document

        return comparison_document(self, SCHEMA)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)

    def _repr_html_(self) -> str:
        from hwsim.notebook import comparison_html

        return comparison_html(self)


def _same(one: Any, other: Any) -> bool:
    return np.ndim(one) == np.ndim(other) == 0 and one == other
