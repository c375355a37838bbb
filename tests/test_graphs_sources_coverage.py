"""A sample of everything transformers and timm have: most of it traces with every length open."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from benchmarks.coverage import chosen, outcome_of, read
from benchmarks.coverage_models import LIBRARIES, depths_alone, shortened
from benchmarks.coverage_table import OPEN, document

pytestmark = pytest.mark.needs_torch
STATE = Path(__file__).parents[1] / "docs" / "coverage-hf.jsonl"
SAMPLE, CHEAP_S = 60, 3.0
# where one kernel runs what torch runs as products of every step, or as a product of the right kind alone
COUNTED_OTHERWISE: frozenset[str] = frozenset()


@pytest.mark.slow
def test_nine_in_ten_of_a_sample_of_stock_types_trace_with_every_length_open() -> None:
    """Drawn among the types that took little processor time in the run of docs/coverage-hf.md, misses too."""
    pytest.importorskip("transformers")
    library = LIBRARIES["hf"]
    cheap = sorted(name for name, row in read(STATE).items() if row["seconds"] <= CHEAP_S)
    library.prepare()
    outcome = partial(library.outcome, flop=True)
    rows = [outcome_of(outcome, name, 60) for name in chosen(cheap, SAMPLE, seed=0)]
    built = [row for row in rows if row["outcome"] != "unbuilt"]
    missed = [f"{row['name']}: {row.get('reason')}" for row in built if row["outcome"] not in OPEN]
    assert len(built) >= 0.9 * SAMPLE
    assert len(missed) <= 0.1 * len(built), missed
    counted = [row for row in built if "parameters" in row]
    assert [row["name"] for row in counted if row["parameters"] != row["parameters_counted"]] == []
    both = [row for row in counted if "flop" in row]
    assert len(both) >= 0.5 * SAMPLE
    unlike = {row["name"] for row in both if row["flop"] != pytest.approx(row["flop_counted"], rel=1e-9)}
    assert unlike <= COUNTED_OTHERWISE


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
    ]  # fmt: skip
    page = document("hf", json.loads(json.dumps(rows)), 5, None)
    assert "Asked so far: 4 of 5" in page
    assert "**2 (66.7 %)** trace" in page
    assert "parameters equal the module's own count for 1 of 2\n  - b: 7 here, 8 in the module" in page
    assert "`aten.odd` in 1" in page
    assert "| c | it \\| failed |" in page
    assert "## Not built from a default config\n\n| model | why |\n|---|---|\n| d | no default |" in page
