"""The one cost formula: demands over rates to seconds. Everything is elementwise on arrays.

Compute (matrix and vector work) and memory (DRAM and the shared on-chip level) are limits that overlap imperfectly:

    T = (C + M + sqrt((C - M)^2 + 4 a^2 C M)) / 2

with a = 0 the larger of the two, with a = 1 their sum. T rises with C and with M, is never below either, and is
homogeneous of degree one, so that C dT/dC + M dT/dM = T splits it exactly into a compute and a memory part.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.engines.demand import Array


def combine(compute: Array, memory: Array, overlap: Any) -> Array:
    """Seconds of work limited by `compute` and `memory` seconds; `overlap` 0 hides the smaller, 1 adds it."""
    difference = compute - memory
    root = np.sqrt(difference * difference + (4.0 * overlap * overlap) * (compute * memory))
    return np.asarray((compute + memory + root) * 0.5)


def compute_part(compute: Array, memory: Array, overlap: Any) -> Array:
    """The part C dT/dC of `combine`; the rest is the memory part."""
    difference = compute - memory
    root = np.sqrt(difference * difference + (4.0 * overlap * overlap) * (compute * memory))
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = 0.5 * (1.0 + (difference + 2.0 * overlap * overlap * memory) / root)
    return np.asarray(np.where(root > 0, compute * slope, np.where(compute > 0, compute, 0.0)))


def miss_fraction(distance: Array, capacity: Any, low: Any, high: Any) -> Array:
    """Share of a reused operand that comes from DRAM: none up to `low` capacities of traffic since, all from `high`.

    Falls with capacity, so a larger cache never moves more.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(distance > 0, distance / np.maximum(capacity, 1e-300), 0.0)
    return np.clip((relative - low) / np.maximum(high - low, 1e-9), 0.0, 1.0)
