"""The one cost formula: demands over rates to seconds. Everything is elementwise on arrays.

Compute (matrix and vector work) and memory (DRAM and the shared on-chip level) are limits that overlap
imperfectly:

    T = (C + M + sqrt((C - M)^2 + 4 a^2 C M)) / 2

with a = 0 the larger of the two, with a = 1 their sum. T rises with C and with M, is never below either, and
is homogeneous of degree one, so that C dT/dC + M dT/dM = T splits it exactly into a compute and a memory
part.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.engines.demand import Array


def combine(compute: Array, memory: Array, overlap: Any) -> Array:
    """Seconds of work limited by `compute` and `memory` seconds; `overlap` 0 hides the smaller, 1 adds it."""
    seconds = np.multiply(compute, memory)
    if np.ndim(overlap):
        seconds = seconds * (4.0 * overlap * overlap)
    else:
        seconds *= 4.0 * overlap * overlap
    apart = np.subtract(compute, memory)
    apart *= apart
    seconds += apart
    np.sqrt(seconds, out=seconds)
    seconds += compute
    seconds += memory
    seconds *= 0.5
    return seconds


def compute_part(compute: Array, memory: Array, seconds: Array, overlap: Any) -> Array:
    """The part C dT/dC of `seconds` = combine(compute, memory); the rest is the memory part."""
    root = 2.0 * seconds
    root -= compute
    root -= memory
    slope = np.subtract(compute, memory) + (2.0 * overlap * overlap) * memory
    part = np.zeros(root.shape)
    np.divide(slope, root, out=part, where=root > 0)
    part += 1.0
    part *= 0.5
    np.clip(part, 0.0, 1.0, out=part)
    part *= compute
    return part


def miss_fraction(distance: Array, capacity: Any, low: Any, high: Any) -> Array:
    """Share of a reused operand that comes from DRAM: none up to `low` capacities of traffic since, all from
    `high`.

    Falls with capacity, so a larger cache never moves more.
    """
    relative = distance / np.maximum(capacity, 1e-300) - low
    relative = relative / np.maximum(high - low, 1e-9)
    return np.asarray(np.clip(relative, 0.0, 1.0))
