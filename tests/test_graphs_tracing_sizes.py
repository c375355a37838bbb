"""One trace serves every size: at any size it is, op for op, the graph traced at that size."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs import catalog
from graphs.errors import GraphError
from graphs.ir import OperatorGraph
from graphs.trace import trace
from graphs.tracing.difference import difference
from tests.graph_checks import built_in, shrunken

pytestmark = pytest.mark.needs_torch
# Two layers of everything: what differs between sizes differs in each layer alike.
SMALL: dict[str, dict[str, Any]] = {
    "bert-base": {"layers": 2},
    "gpt2": {"layers": 2},
    "llama-3-8b": {"layers": 2},
    "mixtral-8x7b": {"layers": 2},
    "t5-base": {"layers": 2},
    "vit-b-16": {"layers": 2},
}
POINTS = [
    {"batch": 1, "seq": 1, "context": 0, "source": 1, "active_experts": 1, "expert_tokens": 1},
    {"batch": 1, "seq": 64, "context": 1, "source": 17, "active_experts": 8, "expert_tokens": 1},
    {"batch": 4, "seq": 1, "context": 31, "source": 2, "active_experts": 2, "expert_tokens": 4},
    {"batch": 16, "seq": 100, "context": 0, "source": 1, "active_experts": 7, "expert_tokens": 3},
    {"batch": 2, "seq": 9, "context": 400, "source": 64, "active_experts": 1, "expert_tokens": 2},
]


def phases() -> list[tuple[str, str]]:
    return [(name, phase) for name in SMALL for phase in catalog.find(name).phases if phase != "train"]


@functools.cache
def small(name: str, phase: str) -> OperatorGraph:
    return shrunken(name, phase, **SMALL[name])


@pytest.mark.parametrize(("name", "phase"), phases())
def test_a_symbolic_graph_equals_the_graph_of_each_size(name: str, phase: str) -> None:
    graph = small(name, phase)
    assert {symbol.how for symbol in graph.symbols} == {"symbolic"}
    for point in POINTS:
        chosen = {symbol.name: point[symbol.name] for symbol in graph.symbols}
        assert difference(graph, shrunken(name, phase, fixed=chosen, **SMALL[name]), chosen) is None


@settings(max_examples=8)
@given(batch=st.integers(1, 2000), seq=st.integers(1, 400), context=st.integers(0, 600))
def test_a_symbolic_graph_equals_the_graph_of_any_size(batch: int, seq: int, context: int) -> None:
    graph = small("gpt2", "prefill")
    point = {"batch": batch, "seq": seq, "context": context}
    assert difference(graph, shrunken("gpt2", "prefill", fixed=point, **SMALL["gpt2"]), point) is None


@pytest.mark.parametrize(
    ("batch", "image"), [(1, 224), (3, 224), (1, 896), (5, 896), (2, 1120), (64, 224)], ids=str
)
def test_the_batch_of_swin_is_free_and_its_image_solved(batch: int, image: int) -> None:
    """896 and 1120 pixels are no sizes it was solved from; a batch frozen at its hint would show here."""
    graph = built_in("swin-t", "forward")
    assert {s.name: s.how for s in graph.symbols} == {"batch": "symbolic", "image": "solved"}
    assert not {896, 1120} & set(graph.provenance["image solved from"])
    point = {"batch": batch, "image": image}
    assert difference(graph, trace("swin-t", fixed=point, cache=False), point) is None


def test_a_fixed_size_is_a_number_and_says_so() -> None:
    graph = trace("bert-base", fixed={"seq": 128}, cache=False)
    seq = graph.symbol("seq")
    assert seq is not None
    assert (seq.how, seq.default.value) == ("fixed", 128)
    assert all("seq" not in storage.elements.symbols for storage in graph.storages)
    point = {"batch": 3, "seq": 128}
    assert difference(built_in("bert-base", "forward"), graph, point) is None


@pytest.mark.parametrize("names", [{"sqe": 3}, {"context": 3}])
def test_only_sizes_of_the_model_can_be_fixed(names: dict[str, int]) -> None:
    with pytest.raises(GraphError, match=r"cannot fix .*, which is no size here; sizes are batch, seq"):
        trace("bert-base", fixed=names, cache=False)
