"""What is known of models and traces: lists with one line each, and a card for one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from graphs.catalog import VariantEntry
from graphs.ir import OperatorGraph, SizeSymbol
from reports.numbers import quantity
from reports.table import plain_table


def models_table(entries: Iterable[VariantEntry]) -> RenderableType:
    """Name, family, dtype and phases of each model; what runs forward also trains."""
    table = plain_table("model", "family", "dtype", "phases")
    for entry in entries:
        phases = ", ".join(phase for phase in entry.phases if phase != "train")
        table.add_row(Text(entry.name), entry.family, str(entry.config["dtype"]), phases)
    return table


def model_card(entry: VariantEntry) -> RenderableType:
    """What the model is, where it was published, its configuration and the sizes that are open."""
    config = plain_table("configuration", "")
    for key, value in entry.config.items():
        config.add_row(Text(key), Text(str(value)))
    head = f"{entry.name}: {entry.family}; phases {', '.join(entry.phases)}"
    sizes = [Text(f"{name}: {_size(symbol)}") for name, symbol in entry.symbols.items()]
    return Group(Text(head), Padding(Text(_flowing(entry.docstring)), (1, 0)), config, Text(), *sizes)


def _size(symbol: Mapping[str, Any]) -> str:
    most = "" if symbol["max"] is None else f" to {symbol['max']}"
    return f"{symbol['meaning']}; {symbol['min']}{most or ' or more'}, default {_default(symbol['default'])}"


def _flowing(docstring: str) -> str:
    """Paragraphs without the line breaks of their source."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in docstring.split("\n\n"))


def trace_table(graph: OperatorGraph) -> RenderableType:
    """Sizes and how they were obtained, guards, operators by kind, and what no rule knows."""
    kinds = Counter(node.operator.kind for node in graph.nodes)
    head = (
        f"{graph.model}: {graph.phase}, {graph.dtype}, {len(graph.nodes)} operators "
        f"({len(graph.operators)} distinct), {quantity(graph.parameters, '')} parameters"
    )
    sizes = plain_table("size", "how", ">default", ">range")
    sizes.add_column("meaning", overflow="fold")
    for symbol in graph.symbols:
        sizes.add_row(symbol.name, symbol.how, symbol.default.text, _range(symbol), Text(symbol.meaning))
    counts = plain_table("kind", ">operators")
    for kind, count in kinds.most_common():
        counts.add_row(kind, str(count))
    guards = f"holds where {' and '.join(guard.text for guard in graph.guards)}" if graph.guards else ""
    unknown = [f"no rule for {name} in {module}: {n}" for (name, module), n in graph.unknown_ops().items()]
    notes = [Text(line) for line in (guards, *unknown) if line]
    return Group(Text(head), Text(), sizes, Text(), *notes, Text(), counts)


def _default(default: Any) -> str:
    if isinstance(default, dict):
        return ", ".join(f"{phase}: {value}" for phase, value in default.items() if value is not None)
    return str(default)


def _range(symbol: SizeSymbol) -> str:
    return f"{symbol.minimum.text} to {'any' if symbol.maximum is None else symbol.maximum.text}"
