"""What a sweep's numbers depend on, as a document and a hash: two runs with the same hash give the same
table.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from graphs.ir import OperatorGraph
from graphs.serial import to_json
from hwsim.fitted import coefficients_for
from hwsim.sweeps.plan import Case, Plan
from hwsim.sweeps.result import Table
from hwsim.sweeps.store import SCHEMA
from hwsim.version import VERSION

# Sources that price points. What they read (graphs, devices, coefficients) is hashed as it is used.
SOURCES = (
    *("hwsim", "hwsim/engines", "hwsim/sweeps", "devices"),
    *("graphs", "graphs/expressions", "graphs/work", "graphs/passes"),
)
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


@cache
def tool_hash() -> str:
    """Hash of the sources that price points."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((root / folder).glob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _priced(case: Case) -> list[Any]:
    """Everything of a case that its labels do not say."""
    workloads = [
        (_graph_hash(one.model) if isinstance(one.model, OperatorGraph) else one.model, one.share)
        for one in case.workloads
    ]
    values = coefficients_for(case.device).values
    return [workloads, case.device.fingerprint(), repr(case.stack), repr(sorted(values.items()))]


def _graph_hash(graph: OperatorGraph) -> str:
    return _hash(to_json(graph))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
