"""From the totals of a rank of each pipeline stage to those of all devices together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from graphs.ir import OFFLOADED
from graphs.parallel import Parallel
from hwsim.engines.demand import Array
from hwsim.evaluate import Totals

OF_THE_SLOWEST = ("compute_s", "memory_s", "overhead_s", "communication_s", "power_s", "clock", "energy_kept")
OF_ALL = ("flops", "flops_executed", "dram_bytes", "onchip_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """All devices: totals, seconds the slowest stage waits for others, which stage that is at each point."""

    totals: Totals
    bubble_s: Array
    slowest: NDArray[np.intp]


def join(parts: Sequence[Totals], counts: Sequence[int], parallel: Parallel) -> Whole:
    """Time is that of the slowest stage and of the pipeline filling and draining; the rest adds up over
    ranks.

    With equal stages the wait is (p - 1) / m of the work of m micro-batches, over `interleave`. Memory is
    that of the fullest rank; energy of standing still is spent by all devices until the last is done.
    """
    busy = _stacked(parts, lambda t: t.latency_s)
    slowest = np.argmax(busy, axis=0)
    longest = np.max(busy, axis=0)
    slots = (busy - _stacked(parts, lambda t: t.once_s)) / parallel.micro_batches
    every = np.einsum("s,sp->p", np.array(counts, dtype=np.float64), slots)
    bubble = np.maximum(0.0, every - _pick(slots, slowest)) / parallel.interleave
    latency = longest + bubble
    ranks = parallel.devices / parallel.pp * np.array(counts, dtype=np.float64)

    def added(of: Callable[[Totals], Array]) -> Array:
        return np.asarray(np.einsum("s,sp->p", ranks, _stacked(parts, of)))

    def energy(name: str) -> Array:
        if name != "static":
            return added(lambda t: t.energy[name])
        watt = parts[0].energy[name] / parts[0].latency_s
        return np.asarray(watt * latency * parallel.devices)

    def by_kind(of: Callable[[Totals], Mapping[str, Array]]) -> dict[str, Array]:
        names = {name for part in parts for name in of(part)}
        none = np.zeros(1)
        return {
            name: _pick(_stacked(parts, lambda t, n=name: of(t).get(n, none)), slowest)  # type: ignore[misc]
            for name in sorted(names)
        }

    full = np.argmax(_stacked(parts, _held), axis=0)
    values: dict[str, Array | Mapping[str, Array]] = {
        **{name: _pick(_stacked(parts, _field(name)), slowest) for name in (*OF_THE_SLOWEST, "once_s")},
        **{name: added(_field(name)) for name in OF_ALL},
        "latency_s": latency,
        "energy": {name: energy(name) for name in parts[0].energy},
        "memory": {
            name: _pick(_stacked(parts, lambda t, n=name: t.memory[n]), full)  # type: ignore[misc]
            for name in parts[0].memory
        },
        "kind_s": by_kind(lambda t: t.kind_s),
        "own_s": by_kind(lambda t: t.own_s),
        "own_sigma_s": by_kind(lambda t: t.own_sigma_s),
    }
    assert values.keys() == {field.name for field in fields(Totals)}
    return Whole(totals=Totals(**values), bubble_s=bubble, slowest=slowest)  # type: ignore[arg-type]


def _field(name: str) -> Callable[[Totals], Array]:
    def value(totals: Totals) -> Array:
        return np.asarray(getattr(totals, name))

    return value


def _held(totals: Totals) -> Array:
    return np.asarray(sum(byte for role, byte in totals.memory.items() if role != OFFLOADED))


def _stacked(parts: Sequence[Totals], of: Callable[[Totals], Array]) -> Array:
    return np.stack(np.broadcast_arrays(*(np.atleast_1d(of(part)) for part in parts)))


def _pick(values: Array, at: NDArray[np.intp]) -> Array:
    return np.asarray(np.take_along_axis(values, at[None], axis=0)[0])
