"""Stock Hugging Face models from a config alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graphs.errors import GraphError
from graphs.ir import OperatorGraph
from graphs.trace import trace

pytestmark = pytest.mark.needs_torch
pytest.importorskip("transformers")
BERT = {
    "model_type": "bert", "architectures": ["BertModel"], "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 40,
}  # fmt: skip


def written(folder: Path, config: Any) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return f"hf:{folder}"


def traced(folder: Path, config: Any, phase: str = "forward", **fixed: int) -> OperatorGraph:
    return trace(written(folder, config), phase=phase, fixed=fixed or None, cache=False)


def test_an_encoder_is_traced_with_batch_and_length_open(tmp_path: Path) -> None:
    graph = traced(tmp_path, BERT)
    assert [(s.name, s.how) for s in graph.symbols] == [("batch", "symbolic"), ("seq", "symbolic")]
    assert [node.operator.kind for node in graph.nodes].count("attention") == 2
    layer = 4 * (64 * 64 + 64) + (64 * 128 + 128) + (128 * 64 + 64) + 4 * 64
    embedding = (100 + 40 + 2) * 64 + 2 * 64
    assert graph.parameters == 2 * layer + embedding + 64 * 64 + 64
    assert graph.unknown_ops() == {}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", "is no JSON"),
        (
            {"model_type": "bertt"},
            "model_type 'bertt' of hf:.* is unknown to transformers .*did you mean bert",
        ),
        ({"model_type": "x", "auto_map": {}}, "code of the model's own is not run"),
        (
            {**BERT, "hidden_size": 65},
            "hf:.* cannot be traced: while it is built: ValueError: The hidden size",
        ),
        ({**BERT, "hidden_size": "wide"}, "is refused by transformers"),
    ],
)
def test_a_config_that_builds_nothing_is_refused_in_one_line(tmp_path: Path, config: Any, said: str) -> None:
    with pytest.raises(GraphError, match=said) as refused:
        traced(tmp_path, config)
    assert "\n" not in str(refused.value)


def test_a_missing_config_is_refused_with_what_to_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(GraphError, match=r"no config\.json at '/nowhere'"):
        trace("hf:/nowhere")
    with pytest.raises(GraphError, match=r"'some/model' is not in the local cache .* copy its config.json"):
        trace("hf:some/model")


def test_a_name_is_found_in_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--some--bert" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    written(snapshot, BERT)
    assert trace("hf:some/bert", cache=False).provenance["class"] == "BertModel"
