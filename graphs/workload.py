"""What is asked of a model: phase, sizes, and the precision of each role of tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphs.errors import GraphError
from graphs.ir import DTYPE_BITS


def dtype_bits(dtype: str) -> float:
    """Bits per element, group scales included: `int4:g128` holds one 16-bit scale per 128 elements."""
    name, _, group = dtype.partition(":g")
    if name not in DTYPE_BITS:
        raise GraphError(
            f"dtype {dtype!r} is unknown; use one of {', '.join(DTYPE_BITS)} (int4:g128 with group scales)"
        )
    if not group:
        return float(DTYPE_BITS[name])
    if not (group.isascii() and group.isdigit() and 0 < int(group[:9]) == int(group[:10])):
        raise GraphError(f"group size {group!r} of dtype {dtype!r} must be a whole number of at least 1")
    return float(DTYPE_BITS[name]) + 16.0 / int(group)


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Dtype of activations (and arithmetic), of weights and of the KV cache; None keeps the model's own."""

    activations: str | None = None
    weights: str | None = None
    kv: str | None = None

    def __post_init__(self) -> None:
        for dtype in (self.activations, self.weights, self.kv):
            if dtype is not None:
                dtype_bits(dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One question about a graph: its phase, symbol bindings (numbers or arrays) and precision."""

    phase: str
    sizes: Mapping[str, Any]
    precision: Precision = field(default_factory=Precision)
