"""The types a work rule speaks: a recorded call going in, canonical dims and amounts of work coming out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphs.expressions import Expr, number
from graphs.ir import TensorSpec

ZERO = number(0)


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor argument of a recorded call; `shape` are expressions."""

    spec: TensorSpec
    storage: int

    @property
    def shape(self) -> tuple[Expr, ...]:
        return self.spec.shape


@dataclass(frozen=True, slots=True)
class Call:
    """One recorded torch op: name without overload (`aten.mm`), tensors in and out, other arguments.

    `expected` are counts that data decide and no shape says, such as `active_experts`.
    """

    name: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)
    expected: Mapping[str, Expr] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Canonical:
    """Kind and canonical dims; `inputs`, `outputs` choose the operands that touch memory (None: all)."""

    kind: str
    dims: tuple[tuple[str, Expr], ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    inputs: tuple[int, ...] | None = None
    outputs: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Amounts of work of one operator, as expressions.

    `shape` says how engines see it: `gemm` (dims b m n k), `attention`, `conv` (gemm dims by im2col) or
    `stream`. `flop` is matrix work (2 per multiply-add), `vector_flop` elementwise arithmetic, `special_op`
    exp/tanh/rsqrt results; `coded_flop` is the part of `flop` whose products are no multiplications, and
    `additions` what is left of it on adders alone; `reads`/`writes` are elements touched per operand, aligned
    with the operator's inputs/outputs; `gather_run` is the contiguous run of a gather (0 = streaming),
    `again` what it reads of its first operand beyond `reads`, while that is on chip.
    `executed` is what a kernel has to do where that is more than the algorithm's `flop` (None: the same).
    """

    shape: str = "stream"
    dims: Mapping[str, Expr] = field(default_factory=dict)
    flop: Expr = ZERO
    vector_flop: Expr = ZERO
    special_op: Expr = ZERO
    coded_flop: Expr = ZERO
    additions: Expr = ZERO
    reads: tuple[Expr, ...] = ()
    writes: tuple[Expr, ...] = ()
    gather_run: Expr = ZERO
    again: Expr = ZERO
    executed: Expr | None = None

    @property
    def flop_executed(self) -> Expr:
        return self.flop if self.executed is None else self.executed
