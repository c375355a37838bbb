"""The operator graph: what a traced model computes, as frozen records over symbolic sizes.

Values are storages, not tensors: views, in-place writes, tied weights and a growing KV cache share one
`Storage`. Times are positions in the traced op order; -1 means before the first op, `len(nodes)` after the
last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from graphs.errors import GraphError
from graphs.expressions import Expr, number

if TYPE_CHECKING:
    import networkx

WEIGHT, BUFFER, ACTIVATION, KV = "weight", "buffer", "activation", "kv"
INPUT, GRADIENT, OPTIMIZER = "input", "gradient", "optimizer"
ROLES = (WEIGHT, BUFFER, ACTIVATION, KV, INPUT, GRADIENT, OPTIMIZER)
OFFLOADED = "offloaded"  # what a pass has put into another memory; no trace has it
# what a node of a training step belongs to; anything else is all forward
FORWARD, BACKWARD, RECOMPUTE = "forward", "backward", "recompute"
ACCUMULATE, OPTIMIZER_STEP = "accumulate", "optimizer"
STEPS = (FORWARD, RECOMPUTE, BACKWARD, ACCUMULATE, OPTIMIZER_STEP)
DEVICE, HOST = "device", "host"  # where a node runs: `host` is the CPU behind an accelerator
ROADS = ("symbolic", "solved", "fixed")  # how a trace obtained a size

DTYPE_BITS: Mapping[str, float] = {
    "fp64": 64, "fp32": 32, "tf32": 32, "fp16": 16, "bf16": 16, "fp8": 8, "int64": 64, "int32": 32,
    "int16": 16, "int8": 8, "uint64": 64, "uint32": 32, "uint16": 16, "uint8": 8, "bool": 8, "int4": 4,
    "fp4": 4, "complex32": 32, "complex64": 64, "complex128": 128,
}  # fmt: skip
FLOAT_DTYPES = ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "fp4")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One operand: logical shape, dtype, role, and `elements`, the distinct elements it touches in memory."""

    shape: tuple[Expr, ...]
    dtype: str
    role: str
    elements: Expr


@dataclass(frozen=True, slots=True)
class Operator:
    """What an op is, without saying where it stands: equal operators cost the same.

    `kind` names a rule in `graphs.work`; `dims` are its canonical sizes (GEMM: b m n k); `attributes` its
    words (mask, target name). A fused operator keeps its `members` and only the operands that reach memory.
    """

    kind: str
    name: str
    dims: tuple[tuple[str, Expr], ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    attributes: tuple[tuple[str, str], ...] = ()
    members: tuple[Operator, ...] = ()

    def dim(self, name: str) -> Expr:
        """The canonical size `name`."""
        for key, value in self.dims:
            if key == name:
                return value
        raise GraphError(f"{self.kind} operator {self.name} has no dimension {name!r}")

    def attribute(self, name: str, default: str = "") -> str:
        return next((value for key, value in self.attributes if key == name), default)


@dataclass(frozen=True, slots=True)
class OpNode:
    """One executed op: its operator, the storages of its operands (aligned with them), its module."""

    operator: Operator
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    module: int
    at: int
    phase: str = FORWARD  # one of STEPS
    place: str = DEVICE


@dataclass(frozen=True, slots=True)
class Storage:
    """One allocation: `elements` of `dtype`, alive from `allocated_at` to `freed_at` (inclusive)."""

    elements: Expr
    dtype: str
    role: str
    allocated_at: int
    last_used_at: int
    freed_at: int
    name: str = ""


def module_template(path: str) -> str:
    """A module path with list positions replaced by `*`."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)|^\d+(?=\.|$)", "*", path)


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeSymbol:
    """A size left open: default (over other symbols), range, and how the trace obtained it."""

    name: str
    default: Expr
    minimum: Expr = field(default_factory=lambda: number(0))
    maximum: Expr | None = None
    meaning: str = ""
    how: str = "symbolic"  # one of ROADS


@dataclass(frozen=True)
class OperatorGraph:
    """A traced model in one phase: nodes in execution order, storages, sizes with ranges, validity guards."""

    model: str
    phase: str
    dtype: str
    symbols: tuple[SizeSymbol, ...]
    guards: tuple[Expr, ...]
    nodes: tuple[OpNode, ...]
    storages: tuple[Storage, ...]
    modules: tuple[str, ...]
    provenance: Mapping[str, Any]

    @property
    def length(self) -> int:
        """Number of time positions (the traced op count, unchanged by fusion)."""
        return self.nodes[-1].at + 1 if self.nodes else 0

    @cached_property
    def parameters(self) -> int:
        """Distinct weight elements; a tied weight counts once."""
        return int(sum(float(s.elements.value or 0) for s in self.storages if s.role == WEIGHT and s.name))

    @cached_property
    def operators(self) -> tuple[Operator, ...]:
        """Distinct operators in order of first use."""
        return tuple(dict.fromkeys(node.operator for node in self.nodes))

    @cached_property
    def templates(self) -> tuple[str, ...]:
        """Module path of each module with list positions replaced by `*`, aligned with `modules`."""
        return tuple(module_template(path) for path in self.modules)

    def symbol(self, name: str) -> SizeSymbol | None:
        return next((s for s in self.symbols if s.name == name), None)

    def unknown_ops(self) -> dict[tuple[str, str], int]:
        """(op name, module template) -> count of ops no rule knows; they are costed as memory traffic."""
        counts: dict[tuple[str, str], int] = {}
        for node in self.nodes:
            for operator in node.operator.members or (node.operator,):
                if operator.kind == "unknown":
                    key = (operator.name, self.templates[node.module])
                    counts[key] = counts.get(key, 0) + 1
        return counts

    def with_nodes(self, nodes: tuple[OpNode, ...]) -> OperatorGraph:
        return replace(self, nodes=nodes)

    def to_networkx(self) -> networkx.DiGraph:
        """The operator DAG: node i per op (kind, name, module), an edge per storage from its last writer."""
        import networkx

        graph = networkx.DiGraph()
        writer: dict[int, int] = {}
        for index, node in enumerate(self.nodes):
            graph.add_node(
                index, kind=node.operator.kind, name=node.operator.name, module=self.modules[node.module]
            )
            for storage in node.reads:
                if storage in writer:
                    graph.add_edge(writer[storage], index, storage=storage)
            for storage in node.writes:
                writer[storage] = index
        return graph
