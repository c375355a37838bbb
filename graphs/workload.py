"""What is asked of a model: phase, sizes, and the precision of each role of tensor."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphs.errors import GraphError
from graphs.ir import DTYPE_BITS, FLOAT_DTYPES


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


OPTIMIZERS = ("adamw", "sgd", "sgd-momentum", "none")
CHECKPOINTING = ("none", "selective", "full")


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a training step is beside the model: optimizer, checkpointing, micro-steps, dtypes of its states.

    `accumulation` micro-steps of forward and backward precede one optimizer step. `gradients` None are those
    that a backward pass leaves, in the dtype of the weights; a dtype asks for buffers that last from step to
    step, into which every pass adds. `moments` None is fp32, `master` None keeps an fp32 copy of weights that
    are narrower; `master` equal to the dtype of the weights keeps none.
    """

    optimizer: str = "adamw"
    checkpointing: str = "none"
    accumulation: int = 1
    gradients: str | None = None
    moments: str | None = None
    master: str | None = None

    def __post_init__(self) -> None:
        for what, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("checkpointing", self.checkpointing, CHECKPOINTING),
        ):
            if value not in known:
                near = difflib.get_close_matches(str(value), known, n=1)
                remedy = f"; did you mean {near[0]!r}?" if near else ""
                raise GraphError(f"no {what} {value!r}; use {', '.join(known)}{remedy}")
        if self.accumulation < 1:
            raise GraphError(f"accumulation={self.accumulation} must be a whole number of at least 1")
        for dtype in (self.gradients, self.moments, self.master):
            if dtype is not None and dtype not in FLOAT_DTYPES:
                raise GraphError(f"dtype {dtype!r} of a training state; use one of {', '.join(FLOAT_DTYPES)}")

    @property
    def words(self) -> tuple[str, ...]:
        """What differs from a plain step, in words."""
        found = [f"optimizer {self.optimizer}" if self.optimizer == "none" else self.optimizer]
        if self.checkpointing != "none":
            found.append(f"{self.checkpointing} checkpointing")
        if self.accumulation > 1:
            found.append(f"{self.accumulation} micro-steps")
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One question about a graph: its phase, symbol bindings (numbers or arrays) and precision."""

    phase: str
    sizes: Mapping[str, Any]
    precision: Precision = field(default_factory=Precision)
    training: Training | None = None
