"""What a sweep's numbers depend on, as a document and a hash: two runs with the same hash give the same
table.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from graphs.ir import OperatorGraph
from graphs.serial import to_json
from hwsim.sweeps.plan import Case, Plan
from hwsim.sweeps.result import Table
from hwsim.sweeps.sources import tool_hash
from hwsim.sweeps.store import SCHEMA
from hwsim.version import VERSION

LIBRARIES = ("numpy", "scipy")


def document(plan: Plan, table: Table) -> dict[str, Any]:
    """The `spec.json` of a plan."""
    found = {
        "schema": SCHEMA,
        "spec": plan.document,
        "tool": tool_hash(),
        "versions": {
            "hwsim": VERSION,
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
        },
        "points": plan.points,
        "chunk_points": plan.chunk_points,
        "chunks": len(plan.chunks),
        "cases": [dict(case.labels) for case in plan.cases],
        "table": asdict(table),
        "warnings": plan.warnings,
    }
    content = {
        **found,
        "graphs": [[*name, _graph_hash(graph)] for name, graph in sorted(plan.graphs.items())],
        "priced": [_priced(case) for case in plan.cases],
    }
    return {**found, "fingerprint": _hash(json.dumps(content, sort_keys=True))}


def _priced(case: Case) -> list[Any]:
    """Everything of a case that its labels do not say."""
    workloads = [
        (_graph_hash(one.model) if isinstance(one.model, OperatorGraph) else one.model, one.share)
        for one in case.workloads
    ]
    settings = sorted((name, repr(value)) for name, value in case.settings.items())
    joined = [] if case.cluster is None else [repr(case.cluster.tiers)]
    return [workloads, case.device.fingerprint(), *joined, repr(case.stack), settings]


def _graph_hash(graph: OperatorGraph) -> str:
    return _hash(to_json(graph))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
