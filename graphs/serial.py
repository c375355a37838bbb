"""The graph file: one JSON document, tables of distinct texts, specs and operators, integers per op.

Reading it runs nothing and needs neither torch nor sympy; whatever is not as written here is refused in one
line.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graphs.errors import GraphError
from graphs.expressions import Expr, parse, parse_condition
from graphs.ir import Operator, OperatorGraph, OpNode, SizeSymbol, Storage, TensorSpec

SCHEMA = "hwsim.graph/1"


class _Table:
    """Distinct values in order of first use, by identity of their key."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self._index: dict[Any, int] = {}

    def add(self, key: Any, row: Callable[[], Any]) -> int:
        index = self._index.get(key)
        if index is None:
            made = row()
            index = self._index[key] = len(self.rows)
            self.rows.append(made)
        return index


def to_json(graph: OperatorGraph) -> str:
    """The document of `graph`."""
    texts, specs, operators = _Table(), _Table(), _Table()

    def text(expr: Expr) -> int:
        return texts.add(expr.text, lambda: expr.text)

    def spec(one: TensorSpec) -> int:
        return specs.add(one, lambda: [[text(s) for s in one.shape], one.dtype, one.role, text(one.elements)])

    def operator(one: Operator) -> int:
        return operators.add(
            id(one),
            lambda: [
                one.kind,
                one.name,
                [[name, text(value)] for name, value in one.dims],
                [spec(s) for s in one.inputs],
                [spec(s) for s in one.outputs],
                [list(pair) for pair in one.attributes],
                [operator(m) for m in one.members],
            ],
        )

    nodes = [
        [operator(n.operator), n.module, n.at, n.phase, list(n.reads), list(n.writes)] for n in graph.nodes
    ]
    storages = [
        [text(s.elements), s.dtype, s.role, s.allocated_at, s.last_used_at, s.freed_at, s.name]
        for s in graph.storages
    ]
    document = {
        "schema": SCHEMA,
        "model": graph.model,
        "phase": graph.phase,
        "dtype": graph.dtype,
        "provenance": dict(graph.provenance),
        "symbols": [
            {
                "name": s.name,
                "default": s.default.text,
                "minimum": s.minimum.text,
                "maximum": None if s.maximum is None else s.maximum.text,
                "meaning": s.meaning,
                "how": s.how,
            }
            for s in graph.symbols
        ],
        "guards": [g.text for g in graph.guards],
        "texts": texts.rows,
        "specs": specs.rows,
        "operators": operators.rows,
        "modules": list(graph.modules),
        "nodes": nodes,
        "storages": storages,
    }
    return json.dumps(document, separators=(",", ":"))


def from_json(text: str | bytes, *, source: str = "graph") -> OperatorGraph:
    """The graph of a document; `source` names it in errors."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GraphError(
            f"{source} is not a whole JSON document ({error}); trace it again with --out"
        ) from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise GraphError(f"{source} has schema {found!r}, this hwsim reads {SCHEMA!r}; trace it again")
    try:
        return _graph(document)
    except GraphError as error:
        raise GraphError(f"{source}: {error}") from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise GraphError(f"{source} is damaged ({type(error).__name__}: {error}); trace it again") from error


def load_graph(path: str | Path) -> OperatorGraph:
    """Read a graph file."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise GraphError(f"graph file {str(path)!r} cannot be read: {error.strerror}") from error
    return from_json(content, source=str(path))


def _graph(document: dict[str, Any]) -> OperatorGraph:
    exprs = [parse(_text(t)) for t in document["texts"]]

    def expr(index: Any) -> Expr:
        return exprs[_index(index, len(exprs))]

    specs = [
        TensorSpec(tuple(expr(i) for i in shape), _text(dtype), _text(role), expr(elements))
        for shape, dtype, role, elements in document["specs"]
    ]
    operators: list[Operator] = []
    for kind, name, dims, inputs, outputs, attributes, members in document["operators"]:
        operators.append(
            Operator(
                _text(kind),
                _text(name),
                tuple((_text(k), expr(v)) for k, v in dims),
                tuple(specs[_index(i, len(specs))] for i in inputs),
                tuple(specs[_index(i, len(specs))] for i in outputs),
                tuple((_text(k), _text(v)) for k, v in attributes),
                tuple(operators[_index(i, len(operators))] for i in members),
            )
        )
    modules = tuple(_text(m) for m in document["modules"])
    storages = tuple(
        Storage(expr(elements), _text(dtype), _text(role), int(born), int(used), int(freed), _text(name))
        for elements, dtype, role, born, used, freed, name in document["storages"]
    )
    count = len(storages)
    nodes = []
    last = -1
    for operator, module, at, phase, reads, writes in document["nodes"]:
        if not isinstance(at, int) or at <= last:
            raise GraphError(f"op times must rise, found {at!r} after {last}")
        last = at
        for storage in (*reads, *writes):
            _index(storage, count)
        made = operators[_index(operator, len(operators))]
        if len(made.inputs) != len(reads) or len(made.outputs) != len(writes):
            raise GraphError(
                f"op {at} ({made.name}) has {len(reads)} storages for {len(made.inputs)} operands"
            )
        nodes.append(
            OpNode(made, tuple(reads), tuple(writes), _index(module, len(modules)), at, _text(phase))
        )
    return OperatorGraph(
        model=_text(document["model"]),
        phase=_text(document["phase"]),
        dtype=_text(document["dtype"]),
        symbols=tuple(_symbol(s) for s in document["symbols"]),
        guards=tuple(parse_condition(_text(g)) for g in document["guards"]),
        nodes=tuple(nodes),
        storages=storages,
        modules=modules,
        provenance=dict(document["provenance"]),
    )


def _symbol(row: dict[str, Any]) -> SizeSymbol:
    return SizeSymbol(
        name=_text(row["name"]),
        default=parse(_text(row["default"])),
        minimum=parse(_text(row["minimum"])),
        maximum=None if row["maximum"] is None else parse(_text(row["maximum"])),
        meaning=_text(row["meaning"]),
        how=_text(row["how"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise GraphError(f"expected text, found {str(value)[:40]!r}")
    return value


def _index(value: Any, size: int) -> int:
    if type(value) is not int or not 0 <= value < size:
        raise GraphError(f"index {str(value)[:40]} is outside 0..{size - 1}")
    return value
