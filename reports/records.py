"""Models, devices and traces as plain records, for `--json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from devices import Device
from graphs.catalog import VariantEntry
from graphs.ir import OperatorGraph
from hwsim.document import plain


def models_record(entries: Iterable[VariantEntry]) -> dict[str, Any]:
    """The models with their configurations and the sizes left open."""
    models = [
        {
            "name": entry.name,
            "family": entry.family,
            "phases": list(entry.phases),
            "config": plain(entry.config),
            "symbols": plain(entry.symbols),
        }
        for entry in entries
    ]
    return {"schema": "hwsim.models/1", "models": models}


def devices_record(devices: Iterable[Device]) -> dict[str, Any]:
    """The devices with every value in SI units; None is what is not published."""
    return {"schema": "hwsim.devices/1", "devices": [plain(asdict(device)) for device in devices]}


def trace_record(graph: OperatorGraph) -> dict[str, Any]:
    """What was traced and how each size was obtained; the graph itself is another file."""
    kinds = Counter(node.operator.kind for node in graph.nodes)
    unknown = [
        {"operator": name, "module": module, "count": count}
        for (name, module), count in graph.unknown_ops().items()
    ]
    return {
        "schema": "hwsim.trace/1",
        "model": graph.model,
        "phase": graph.phase,
        "dtype": graph.dtype,
        "params": graph.parameters,
        "operators": len(graph.nodes),
        "distinct_operators": len(graph.operators),
        "symbols": [
            {
                "name": symbol.name,
                "how": symbol.how,
                "default": symbol.default.text,
                "minimum": symbol.minimum.text,
                "maximum": None if symbol.maximum is None else symbol.maximum.text,
                "meaning": symbol.meaning,
            }
            for symbol in graph.symbols
        ],
        "guards": [guard.text for guard in graph.guards],
        "kinds": dict(kinds.most_common()),
        "unknown_operators": unknown,
        "provenance": plain(graph.provenance),
    }
