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
from graphs.expressions import Expr, parse, parse_condition, symbol
from graphs.ir import ROADS, ROLES, Operator, OperatorGraph, OpNode, SizeSymbol, Storage, TensorSpec
from graphs.work import work_of
from graphs.workload import dtype_bits

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
        what = str(error).splitlines()[0][:120]
        raise GraphError(
            f"{source} is not a whole JSON document ({what}); trace it again with --out"
        ) from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise GraphError(
            f"{source} has schema {str(found)[:40]!r}, this hwsim reads {SCHEMA!r}; trace it again"
        )
    try:
        return _graph(document)
    except GraphError as error:
        raise GraphError(f"{source}: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        raise GraphError(f"{source} is damaged ({what}); trace it again") from error


def load_graph(path: str | Path) -> OperatorGraph:
    """Read a graph file."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise GraphError(f"graph file {str(path)!r} cannot be read: {error.strerror}") from error
    return from_json(content, source=str(path))


def _graph(document: dict[str, Any]) -> OperatorGraph:
    symbols = tuple(_symbol(row) for row in _rows(document, "symbols"))
    names = {symbol.name for symbol in symbols}
    guards = tuple(_known(parse_condition(_text(guard)), names) for guard in _rows(document, "guards"))
    exprs = [_known(parse(_text(text)), names) for text in _rows(document, "texts")]
    operators = _operators(document, exprs)
    modules = tuple(map(_text, _rows(document, "modules")))
    nodes = _rows(document, "nodes")
    end = nodes[-1][2] + 1 if nodes else 0
    storages = tuple(
        Storage(
            exprs[_index(elements, len(exprs))],
            _dtype(dtype),
            _role(role),
            _time(born, end),
            _time(used, end),
            _time(freed, end),
            _text(name),
        )
        for elements, dtype, role, born, used, freed, name in _rows(document, "storages")
    )
    return OperatorGraph(
        model=_text(document["model"]),
        phase=_text(document["phase"]),
        dtype=_dtype(document["dtype"]),
        symbols=symbols,
        guards=guards,
        nodes=_nodes(nodes, operators, len(modules), len(storages)),
        storages=storages,
        modules=modules,
        provenance=dict(document["provenance"]),
    )


def _operators(document: dict[str, Any], exprs: list[Expr]) -> list[Operator]:
    """Operators in file order; each must be one whose work is known."""

    def expr(index: Any) -> Expr:
        return exprs[_index(index, len(exprs))]

    specs = [
        TensorSpec(tuple(map(expr, shape)), _dtype(dtype), _role(role), expr(elements))
        for shape, dtype, role, elements in _rows(document, "specs")
    ]

    def operands(indices: Any) -> tuple[TensorSpec, ...]:
        return tuple(specs[_index(i, len(specs))] for i in indices)

    operators: list[Operator] = []
    for kind, name, dims, inputs, outputs, attributes, members in _rows(document, "operators"):
        made = Operator(
            _text(kind),
            _text(name),
            tuple((_text(k), expr(v)) for k, v in dims),
            operands(inputs),
            operands(outputs),
            tuple((_text(k), _text(v)) for k, v in attributes),
            tuple(operators[_index(i, len(operators))] for i in members),
        )
        work_of(made)
        operators.append(made)
    return operators


def _nodes(rows: Any, operators: list[Operator], modules: int, storages: int) -> tuple[OpNode, ...]:
    nodes = []
    last = -1
    for operator, module, at, phase, reads, writes in rows:
        if type(at) is not int or at < max(last, 0):
            raise GraphError(f"op times must not fall, found {str(at)[:40]} after {last}")
        last = at
        for storage in (*reads, *writes):
            _index(storage, storages)
        made = operators[_index(operator, len(operators))]
        if len(made.inputs) != len(reads) or len(made.outputs) != len(writes):
            raise GraphError(
                f"op {at} ({made.name}) has {len(reads)} + {len(writes)} storages "
                f"for {len(made.inputs)} + {len(made.outputs)} operands"
            )
        nodes.append(OpNode(made, tuple(reads), tuple(writes), _index(module, modules), at, _text(phase)))
    return tuple(nodes)


def _rows(document: dict[str, Any], name: str) -> list[Any]:
    rows = document[name]
    if not isinstance(rows, list):
        raise GraphError(f"{name} is {str(rows)[:40]!r}, not a list")
    return rows


def _symbol(row: dict[str, Any]) -> SizeSymbol:
    how = _text(row["how"])
    if how not in ROADS:
        raise GraphError(f"size {_text(row['name'])!r} came by road {how!r}; roads are {', '.join(ROADS)}")
    return SizeSymbol(
        name=symbol(_text(row["name"])).text,
        default=parse(_text(row["default"])),
        minimum=parse(_text(row["minimum"])),
        maximum=None if row["maximum"] is None else parse(_text(row["maximum"])),
        meaning=_text(row["meaning"]),
        how=how,
    )


def _known(expr: Expr, names: set[str]) -> Expr:
    """The expression, all of whose symbols are sizes of the graph."""
    unknown = expr.symbols - names
    if unknown:
        raise GraphError(
            f"expression {expr.text[:60]!r} uses {min(unknown)!r}, which is no size of the graph"
        )
    return expr


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise GraphError(f"expected text, found {str(value)[:40]!r}")
    return value


def _dtype(value: Any) -> str:
    dtype_bits(_text(value))
    return str(value)


def _role(value: Any) -> str:
    if value not in ROLES:
        raise GraphError(f"role {str(value)[:40]!r} is unknown; roles are {', '.join(ROLES)}")
    return str(value)


def _time(value: Any, end: int) -> int:
    if type(value) is not int or not -1 <= value <= end:
        raise GraphError(f"time {str(value)[:40]} is outside -1..{end}")
    return value


def _index(value: Any, size: int) -> int:
    if type(value) is not int or not 0 <= value < size:
        raise GraphError(f"index {str(value)[:40]} is outside 0..{size - 1}")
    return value
