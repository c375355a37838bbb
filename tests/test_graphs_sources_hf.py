"""Stock Hugging Face models from a config alone."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hwsim
from graphs.errors import GraphError
from graphs.expressions import Environment, evaluate
from graphs.ir import OperatorGraph
from graphs.trace import trace
from graphs.work import work_of

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


# decode: bytes per token are weights once, and the cache, by formulas from each model's publication

LLAMA = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 100, "max_position_embeddings": 512,
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100, "n_positions": 512}
T5 = {
    "model_type": "t5", "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_decoder_layers": 2,
    "num_heads": 4, "vocab_size": 100, "is_encoder_decoder": True,
}  # fmt: skip
MIXTRAL = {
    "model_type": "mixtral", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 100, "num_local_experts": 8,
    "num_experts_per_tok": 2, "max_position_embeddings": 512, "sliding_window": None,
}  # fmt: skip
MAMBA = {
    "model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 2, "state_size": 16, "vocab_size": 100,
    "conv_kernel": 4, "expand": 2, "time_step_rank": 4,
}  # fmt: skip


Step = Callable[[str], OperatorGraph]
MODELS = {"llama": LLAMA, "gpt2": GPT2, "t5": T5, "mixtral": MIXTRAL, "mamba": MAMBA}


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Step:
    """The decode graph of one of MODELS, traced once."""
    folder = tmp_path_factory.mktemp("hf")
    return functools.cache(lambda name: traced(folder / name, MODELS[name], "decode"))


def moved(graph: OperatorGraph, role: str, **sizes: float) -> tuple[float, float]:
    """Elements of `role` read and written, each operand as often as an operator touches it."""
    at = Environment(sizes)
    sums = [0.0, 0.0]
    for node in graph.nodes:
        work = work_of(node.operator)
        for place, (indices, amounts) in enumerate(((node.reads, work.reads), (node.writes, work.writes))):
            pairs = zip(indices, amounts, strict=True)
            sums[place] += sum(float(at(n)) for index, n in pairs if graph.storages[index].role == role)
    return sums[0], sums[1]


HEAD = 100 * 64  # the table as the last product reads it; a step also reads one row of it per token
POINTS = [(1, 1), (1, 100), (3, 40)]  # batch, context


@pytest.mark.parametrize(("batch", "context"), POINTS)
def test_a_llama_step_reads_its_weights_and_its_cache_once(step: Step, batch: int, context: int) -> None:
    """Touvron et al. 2023, Ainslie et al. 2023: 4 query heads of 16 share 2 key heads, gated MLP of 96."""
    sizes = {"batch": batch, "context": context}
    layer = (64 * 64 + 2 * 64 * 32 + 64 * 64) + 3 * 64 * 96 + 2 * 64
    assert moved(step("llama"), "weight", **sizes)[0] == 2 * layer + 64 + HEAD + batch * 64
    assert moved(step("llama"), "kv", **sizes) == (2 * 2 * batch * (context + 1) * 32, 2 * 2 * batch * 32)


@pytest.mark.parametrize(("batch", "context"), POINTS)
def test_a_gpt2_step_reads_its_weights_and_its_cache_once(step: Step, batch: int, context: int) -> None:
    """Radford et al. 2019: biases everywhere, learned positions, of which one row is read."""
    sizes = {"batch": batch, "context": context}
    layer = (64 * 192 + 192) + (64 * 64 + 64) + (64 * 256 + 256) + (256 * 64 + 64) + 2 * 2 * 64
    assert moved(step("gpt2"), "weight", **sizes)[0] == 2 * layer + 2 * 64 + HEAD + batch * 64 + 64
    assert moved(step("gpt2"), "kv", **sizes) == (2 * 2 * batch * (context + 1) * 64, 2 * 2 * batch * 64)


@pytest.mark.parametrize(("batch", "context"), POINTS)
def test_a_t5_step_reads_both_caches_and_no_encoder(step: Step, batch: int, context: int) -> None:
    """Raffel et al. 2020: cross keys and values of the source stay; a bias per head and cached position."""
    sizes = {"batch": batch, "context": context, "source": 30}
    layer = 4 * 64 * 64 + 2 * 64 * 64 + 2 * 64 * 96 + 3 * 64
    bias = 4 * (context + 1)
    assert moved(step("t5"), "weight", **sizes)[0] == 2 * layer + 64 + HEAD + batch * 64 + bias
    read, written = moved(step("t5"), "kv", **sizes)
    assert read == 2 * 2 * batch * (context + 1) * 64 + 2 * 2 * batch * 30 * 64
    assert written == 2 * 2 * batch * 64


@pytest.mark.parametrize("active", [2, 5, 8])
def test_a_mixtral_step_reads_only_the_experts_that_get_a_token(step: Step, active: int) -> None:
    """Jiang et al. 2024: 2 of 8 experts of 3 x 64 x 96 per token, and the router."""
    sizes = {"batch": 4, "context": 20, "active_experts": active}
    layer = (64 * 64 + 2 * 64 * 32 + 64 * 64) + 64 * 8 + active * 3 * 64 * 96 + 2 * 64
    assert moved(step("mixtral"), "weight", **sizes)[0] == 2 * layer + 64 + HEAD + 4 * 64
    assert moved(step("mixtral"), "kv", **sizes)[0] == 2 * 2 * 4 * 21 * 32


def test_by_default_as_many_experts_are_active_as_even_routing_reaches(step: Step) -> None:
    symbol = step("mixtral").symbol("active_experts")
    assert symbol is not None
    assert evaluate(symbol.default, {"batch": 1}) == 2
    assert evaluate(symbol.default, {"batch": 3}) == pytest.approx(8 * (1 - 0.75**3))


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("context", [1, 1000])
def test_a_mamba_step_costs_the_same_at_every_context(step: Step, batch: int, context: int) -> None:
    """Gu and Dao 2023: inner width 128, 4 inputs and a state of 16 a channel, read and written once."""
    sizes = {"batch": batch, "context": context}
    inner = (64 * 256) + (128 * 4 + 128) + 128 * (4 + 2 * 16) + (4 * 128 + 128) + 128 * 16 + 128 + 128 * 64
    assert moved(step("mamba"), "weight", **sizes)[0] == 2 * (inner + 64) + 64 + HEAD + batch * 64
    state = 2 * batch * (128 * 4 + 128 * 16)
    assert moved(step("mamba"), "kv", **sizes) == (state, state)


@pytest.mark.parametrize("name", MODELS)
def test_a_step_is_traced_with_batch_and_context_open(step: Step, name: str) -> None:
    graph = step(name)
    assert {s.how for s in graph.symbols} == {"symbolic"}
    assert {"batch", "context"} <= {s.name for s in graph.symbols}
    assert graph.unknown_ops() == {}


def test_a_prompt_may_follow_cached_tokens_or_none(tmp_path: Path) -> None:
    graph = traced(tmp_path, LLAMA, "prefill")
    layer = (64 * 64 + 2 * 64 * 32 + 64 * 64) + 3 * 64 * 96
    for batch, seq, context in ((1, 16, 0), (2, 9, 33)):
        products = 2 * batch * (2 * seq * layer + HEAD)  # the head runs on the last position
        scores = 2 * 4 * batch * seq * (context + seq) * 64
        found = hwsim.estimate(graph, "h100-sxm", phase="prefill", batch=batch, seq=seq, context=context)
        assert found.flops == products + scores


def test_a_model_without_a_cache_has_one_phase(tmp_path: Path) -> None:
    vit = {"model_type": "vit", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    with pytest.raises(GraphError, match=r"has no phase 'decode'; it has forward and train"):
        traced(tmp_path, vit, "decode")


def test_a_vision_tower_takes_as_many_images_as_wanted(tmp_path: Path) -> None:
    """14 x 14 patches of 16 in an image of 224, whose patches attend to each other alone."""
    tower = {
        "model_type": "qwen3_vl_vision", "architectures": ["Qwen3VLVisionModel"], "depth": 1,
        "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": 48, "patch_size": 16,
        "num_position_embeddings": 196, "deepstack_visual_indexes": [],
    }  # fmt: skip
    graph = traced(tmp_path, tower)
    (attention,) = [node.operator for node in graph.nodes if node.operator.kind == "attention"]
    assert [attention.dim(name).text for name in ("batch", "q_len", "kv_len")] == ["batch", "196", "196"]
    assert [(s.name, s.how) for s in graph.symbols] == [("batch", "symbolic")]


def test_windows_of_different_sizes_attend_beside_each_other(tmp_path: Path) -> None:
    """8 x 8 merged patches in windows of 3 x 3: four of 9 times four patches, four of 6 and one of 4."""
    tower = {
        "model_type": "qwen2_5_vl_vision", "architectures": ["Qwen2_5_VLVisionModel"], "depth": 1,
        "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": 48, "patch_size": 14,
        "window_size": 84, "fullatt_block_indexes": [],
    }  # fmt: skip
    graph = traced(tmp_path, tower)
    found = [node.operator for node in graph.nodes if node.operator.kind == "attention"]
    sizes = sorted((one.dim("q_len").text, one.dim("batch").text) for one in found)
    assert sizes == [("16", "batch"), ("24", "batch*4"), ("36", "batch*4")]


def test_experts_that_a_model_visits_one_by_one_are_a_grouped_product(tmp_path: Path) -> None:
    moe = {
        "model_type": "jetmoe", "architectures": ["JetMoeModel"], "hidden_size": 32, "num_hidden_layers": 1,
        "num_key_value_heads": 2, "kv_channels": 8, "intermediate_size": 48, "num_local_experts": 4,
        "num_experts_per_tok": 2, "vocab_size": 100,
    }  # fmt: skip
    graph = traced(tmp_path, moe)
    assert {s.name for s in graph.symbols if s.how == "symbolic"} >= {"batch", "seq"}
    grouped = [node.operator for node in graph.nodes if "grouped_mm" in node.operator.name]
    assert len(grouped) == 4  # of attention and of the layer after it, in and out
