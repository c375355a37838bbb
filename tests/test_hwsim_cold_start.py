"""A fresh process prices a saved graph without the heavy libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import hwsim
from graphs.serial import to_json
from tests.toys import gemm_graph

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "sympy", "networkx", "matplotlib", "scipy", "rich")
PROGRAM = """
import sys
import hwsim
found = hwsim.estimate({path!r}, "h100-sxm", phase={phase!r})
text = found.to_json()
print(repr(found.latency_s))
print(*(name for name in {heavy!r} if name in sys.modules))
"""


def priced_in_a_fresh_process(path: Path, phase: str) -> tuple[float, list[str]]:
    """Latency of a saved graph at its default sizes, and the heavy modules that were loaded for it."""
    program = PROGRAM.format(path=str(path), phase=phase, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    latency, loaded = done.stdout.split("\n")[:2]
    return float(latency), loaded.split()


def test_a_saved_graph_needs_no_heavy_library(tmp_path: Path) -> None:
    path = tmp_path / "gemm.json"
    path.write_text(to_json(gemm_graph()), encoding="utf-8")
    latency, loaded = priced_in_a_fresh_process(path, "forward")
    assert loaded == []
    assert latency == hwsim.estimate(str(path), "h100-sxm").latency_s


@pytest.mark.needs_torch
def test_a_saved_model_is_priced_the_same_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "llama.json"
    path.write_text(to_json(hwsim.trace("llama-3-8b", phase="decode")), encoding="utf-8")
    latency, loaded = priced_in_a_fresh_process(path, "decode")
    assert loaded == []
    assert latency == pytest.approx(
        hwsim.estimate("llama-3-8b", "h100-sxm", phase="decode").latency_s, rel=1e-12
    )
