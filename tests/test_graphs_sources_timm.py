"""timm models by name; the same encoder through timm, Hugging Face and built in is the same work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphs.errors import GraphError
from graphs.expressions import Environment
from graphs.ir import OperatorGraph
from graphs.trace import trace
from graphs.work import work_of
from tests.graph_checks import arithmetic, built_in

pytestmark = pytest.mark.needs_torch
pytest.importorskip("timm")


@pytest.fixture(scope="module")
def vit() -> OperatorGraph:
    return trace("timm:vit_base_patch16_224", cache=False, fixed={"image": 224})


def matrix_flop(graph: OperatorGraph, batch: int) -> dict[str, float]:
    """FLOP of each kind of matrix work; queries, keys and values may be one product or three."""
    at = Environment({"batch": batch, "image": 224})
    sums: dict[str, float] = {}
    for node in graph.nodes:
        found = float(at(work_of(node.operator).flop))
        if found:
            sums[node.operator.kind] = sums.get(node.operator.kind, 0.0) + found
    return sums


def test_vit_b_16_is_the_same_work_from_three_sources(vit: OperatorGraph, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    config = {"model_type": "vit", "architectures": ["ViTForImageClassification"], "num_labels": 1000}
    config["id2label"] = {str(i): str(i) for i in range(1000)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    stock = trace(f"hf:{tmp_path}", cache=False, fixed={"image": 224})
    ours = built_in("vit-b-16", "forward")
    for batch in (1, 5):
        assert matrix_flop(vit, batch) == matrix_flop(stock, batch) == matrix_flop(ours, batch)
    assert vit.parameters == stock.parameters == ours.parameters == 86567656
    vector = [arithmetic(graph, {"batch": 2, "image": 224})[1] for graph in (vit, stock, ours)]
    assert max(vector) < 1.05 * min(vector)


def test_a_name_that_timm_does_not_have_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        GraphError, match=r"no model 'vit_base_patch16_225'; did you mean vit_base_patch16_224"
    ):
        trace("timm:vit_base_patch16_225")
    with pytest.raises(GraphError, match=r"has no phase 'decode'"):
        trace("timm:vit_base_patch16_224", phase="decode")
