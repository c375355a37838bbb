"""Several workloads on one machine as one row: sums by share, geometric means, or the worst of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hwsim.engines.demand import Array
from hwsim.errors import HwsimError
from hwsim.sweeps.batch import Words

LARGEST = ("peak_memory_bytes", "weights_bytes", "activations_bytes", "kv_cache_bytes", "area_mm2", "tdp_w")
SMALLEST = ("capacity_bytes", "fits", "clock_scale")
RATES = ("average_power_w", "mfu", "hfu", "mbu", "tokens_per_s", "samples_per_s", "arithmetic_intensity")
EACH = ("latency_s", "energy_j", "peak_memory_bytes")  # also written of every workload

Numbers = Mapping[str, Any]


def per_workload(names: Iterable[str]) -> tuple[str, ...]:
    """The columns of each workload: `chat_latency_s` and so on."""
    return tuple(f"{name}_{column}" for name in names for column in EACH)


def together(columns: Sequence[Numbers], shares: Sequence[float], how: str) -> dict[str, Any]:
    """The columns of all workloads as one; memory is that of the largest, a machine fits if all fit.

    `sum` adds amounts by share and takes rates over the time so added; `geomean` weighs logarithms by share;
    `worst` is the largest share x amount and the smallest rate / share.
    """
    found: dict[str, Any] = {}
    for name in columns[0]:
        values = [one[name] for one in columns]
        if any(value is None for value in values):
            found[name] = None
        elif name in LARGEST or name in SMALLEST:
            pick = np.maximum if name in LARGEST else np.minimum
            found[name] = pick.reduce(np.broadcast_arrays(*values))
        else:
            weights = [np.asarray(share) for share in shares]
            if how == "sum" and name in RATES:
                weights = [share * one["latency_s"] for share, one in zip(shares, columns, strict=True)]
            found[name] = _HOW[how](values, weights, name in RATES)
    return found


def longest(bounds: Sequence[Words], columns: Sequence[Numbers], shares: Sequence[float]) -> Words:
    """The bound of the workload that takes most of the time."""
    if any(bound.names != bounds[0].names for bound in bounds):
        raise HwsimError("workloads name different parts of their time; leave the column 'bound' out")
    times = np.stack(
        np.broadcast_arrays(*(share * one["latency_s"] for share, one in zip(shares, columns, strict=True)))
    )
    most = np.argmax(np.atleast_2d(times), axis=0)
    codes = np.stack(np.broadcast_arrays(*(np.atleast_1d(np.asarray(bound.codes)) for bound in bounds)))
    return Words(names=bounds[0].names, codes=np.take_along_axis(codes, most[None], axis=0)[0])


def _sum(values: Sequence[Any], weights: Sequence[Array], rate: bool) -> Array:
    total: Any = sum(weight * value for weight, value in zip(weights, values, strict=True))
    return np.asarray(total / sum(weights) if rate else total)


def _geomean(values: Sequence[Any], weights: Sequence[Array], rate: bool) -> Array:
    with np.errstate(divide="ignore"):
        total: Any = sum(weight * np.log(value) for weight, value in zip(weights, values, strict=True))
    return np.asarray(np.exp(total / sum(weights)))


def _worst(values: Sequence[Any], weights: Sequence[Array], rate: bool) -> Array:
    if rate:
        return np.asarray(
            np.minimum.reduce(np.broadcast_arrays(*(v / w for v, w in zip(values, weights, strict=True))))
        )
    return np.asarray(
        np.maximum.reduce(np.broadcast_arrays(*(v * w for v, w in zip(values, weights, strict=True))))
    )


_HOW = {"sum": _sum, "geomean": _geomean, "worst": _worst}
