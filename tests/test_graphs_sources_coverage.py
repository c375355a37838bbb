"""A sample of everything transformers and timm have: most of it traces with every length open."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from benchmarks.coverage import chosen, outcome_of, read
from benchmarks.coverage_models import LIBRARIES, completed, depths_alone, shortened
from benchmarks.coverage_table import OPEN, document

pytestmark = pytest.mark.needs_torch
STATE = Path(__file__).parents[1] / "docs" / "coverage-hf.jsonl"
SAMPLE, CHEAP_S = 60, 4.0


# scans and delta rules over tokens: one operator here, loops of small products to the counter
LOOPS = {"mamba", "minicpmv4_6", "minicpmv4_7", "olmo_hybrid", "qwen3_5_text"}


@pytest.mark.slow
def test_a_sample_of_stock_types_traces_as_the_published_run_says() -> None:
    """Drawn among the types that took little processor time there, misses too; FLOP by torch's counter."""
    pytest.importorskip("transformers")
    library = LIBRARIES["hf"]
    recorded = {name: row for name, row in read(STATE).items() if row["seconds"] <= CHEAP_S}
    names = [name for name in chosen(library.names(), None, seed=0) if name in recorded][:SAMPLE]
    library.prepare()
    outcome = partial(library.outcome, flop=True)
    rows = [outcome_of(outcome, name, 60) for name in names]
    assert len(rows) == SAMPLE
    opened = [row for row in rows if recorded[row["name"]]["outcome"] in OPEN]
    assert [f"{r['name']}: {r.get('reason')}" for r in opened if r["outcome"] not in OPEN] == []
    assert [r["name"] for r in opened if r["parameters"] != r["parameters_counted"]] == []
    both = [row for row in opened if "flop" in row]
    unlike = [r["name"] for r in both if r["flop"] != pytest.approx(r["flop_counted"], rel=1e-9)]
    assert len(both) >= 0.4 * SAMPLE
    assert set(unlike) <= LOOPS


def test_a_stack_is_cut_to_the_depth_that_has_all_its_kinds_of_layers() -> None:
    config = {
        "num_hidden_layers": 12,
        "kinds": ["a", "a", "b", *["a"] * 9],
        "text_config": {"model_type": "x", "n_layer": 6},
        "hidden_size": 12,
    }
    short = {"num_hidden_layers": 3, "kinds": ["a", "a", "b"], "hidden_size": 12}
    assert shortened(config) == {**short, "text_config": {"model_type": "x", "n_layer": 2}}
    alone = {"num_hidden_layers": 3, "text_config": {"model_type": "x", "n_layer": 2}}
    assert depths_alone(config) == alone


def test_what_a_default_leaves_open_is_given_and_named() -> None:
    pytest.importorskip("transformers")
    text = {"model_type": "glm4v_text", "hidden_size": 64, "num_attention_heads": 2, "vocab_size": 9}
    left = {"image_token_id": None, "text_config": {**text, "rope_parameters": {"rope_type": "default"}}}
    given: list[str] = []
    found = completed(left, given)
    assert given == ["image_token_id", "text_config.rope_parameters"]
    assert found["image_token_id"] == 8
    assert found["text_config"]["rope_parameters"]["mrope_section"] == [6, 5, 5]
    again: list[str] = []
    assert completed(found, again) == found
    assert again == []


def test_a_sample_is_the_same_for_the_same_seed_and_a_prefix_of_the_whole_order() -> None:
    names = [f"model-{i}" for i in range(40)]
    assert chosen(names, None, 3)[:10] == chosen(names, 10, 3) != chosen(names, 10, 4)
    assert sorted(chosen(names, None, 3)) == sorted(names)


def test_what_a_child_says_or_how_it_ends_is_its_outcome() -> None:
    def fails(name: str) -> dict[str, object]:
        raise ValueError("first line\nsecond")

    def spins(name: str) -> dict[str, object]:
        while True:
            pass

    assert outcome_of(lambda name: {"outcome": "symbolic"}, "m", 5)["outcome"] == "symbolic"
    assert outcome_of(fails, "m", 5)["reason"] == "ValueError: first line"
    assert outcome_of(spins, "m", 1)["reason"] == "more than 1 s of processor time"


def test_the_page_counts_models_and_tells_each_miss() -> None:
    rows = [
        {"name": "a", "outcome": "symbolic", "roads": {"batch": "symbolic"}, "nodes": 3, "parameters": 7,
         "parameters_counted": 7, "unknown": []},
        {"name": "b", "outcome": "solved", "roads": {"batch": "solved"}, "nodes": 3, "parameters": 7,
         "parameters_counted": 8, "unknown": ["aten.odd"]},
        {"name": "c", "outcome": "miss", "reason": "it | failed"},
        {"name": "d", "outcome": "unbuilt", "reason": "no default"},
        {"name": "e", "outcome": "symbolic", "roads": {"batch": "symbolic"}, "nodes": 3, "parameters": 7,
         "parameters_counted": 7, "unknown": [], "given": ["image_token_id"]},
    ]  # fmt: skip
    page = document("hf", json.loads(json.dumps(rows)), 6, None)
    assert "Asked so far: 5 of 6" in page
    assert "**3 (75.0 %)** trace" in page
    assert "1 of these default configs leave open what the model needs" in page
    assert "| e | image_token_id |" in page
    assert "parameters equal the module's own count for 2 of 3\n  - b: 7 here, 8 in the module" in page
    assert "`aten.odd` in 1" in page
    assert "| c | it \\| failed |" in page
    assert "## Not built from a default config\n\n| model | why |\n|---|---|\n| d | no default |" in page
