"""Storages of tiny modules, checked by hand: who allocates, who writes, who reads, and when each is freed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from graphs.expressions import number
from graphs.inputs import Example, Input
from graphs.ir import OperatorGraph, SizeSymbol
from graphs.own import trace_own
from graphs.trace import trace_module
from graphs.work import work_of
from tests.graph_checks import built_in, moved_bytes, peak_bytes

pytestmark = pytest.mark.needs_torch


class Calls(nn.Module):
    """Runs a function of itself and its input."""

    def __init__(self, run: Callable[..., object]) -> None:
        super().__init__()
        self.run, self.first, self.second = run, nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.register_buffer("table", torch.zeros(10, 4))

    def forward(self, x: Tensor) -> object:
        return self.run(self, x)


def traced(run: Callable[..., object]) -> OperatorGraph:
    return trace_own(Calls(run), {"x": ("n", 4)}, sizes={"n": 3})


def names(graph: OperatorGraph) -> list[str]:
    return [node.operator.name.removeprefix("aten.") for node in graph.nodes]


def lives(graph: OperatorGraph) -> list[tuple[str, int, int, int]]:
    """(elements, allocated, last used, freed) of every activation."""
    return [
        (s.elements.text, s.allocated_at, s.last_used_at, s.freed_at)
        for s in graph.storages
        if s.role == "activation"
    ]


def test_an_intermediate_is_freed_when_python_drops_it() -> None:
    def run(module: Calls, x: Tensor) -> Tensor:
        a = x + 1  # op 0
        b = a * 2  # op 1, last use of a, which is still bound
        del a
        c = b.exp()  # op 2
        return c + b  # op 3

    graph = traced(run)
    assert names(graph) == ["add", "mul", "exp", "add"]
    assert lives(graph) == [("n*4", 0, 1, 1), ("n*4", 1, 3, 3), ("n*4", 2, 3, 3), ("n*4", 3, 3, 4)]
    assert peak_bytes(graph, {"n": 10}) == 3 * 10 * 4 * 4  # b, c and their sum


def test_a_bound_name_keeps_its_tensor() -> None:
    def run(module: Calls, x: Tensor) -> Tensor:
        a = x + 1
        b = a * 2
        return b.exp()

    assert lives(traced(run)) == [("n*4", 0, 1, 2), ("n*4", 1, 2, 2), ("n*4", 2, 2, 3)]


def test_views_share_the_storage_and_read_their_part() -> None:
    def run(module: Calls, x: Tensor) -> Tensor:
        a = x + 1
        left, right = a.t().chunk(2)
        return left * right.reshape(2, -1)

    graph = traced(run)
    assert names(graph) == ["add", "mul"]
    product = graph.nodes[1]
    assert product.reads == (graph.nodes[0].writes[0],) * 2
    assert [spec.elements.text for spec in product.operator.inputs] == ["n*2", "n*2"]


def test_a_part_that_is_seen_first_belongs_to_the_whole() -> None:
    def run(module: Calls, x: Tensor) -> Tensor:
        whole = x.new_empty(8, 4)
        whole[:2].copy_(x[:1].expand(2, 4))
        return whole[:2].relu()

    graph = traced(run)
    storage = graph.storages[graph.nodes[0].writes[0]]
    assert storage.elements.text == "32"
    assert [spec.elements.text for spec in graph.nodes[0].operator.outputs] == ["8"]
    assert [spec.elements.text for spec in graph.nodes[0].operator.inputs] == ["4"]  # repeats by stride 0


def test_writing_in_place_makes_no_storage() -> None:
    def run(module: Calls, x: Tensor) -> Tensor:
        a = x + 1
        a.relu_()
        a[:, 0].mul_(3)
        return a

    graph = traced(run)
    assert names(graph) == ["add", "relu_", "mul_"]
    assert len(lives(graph)) == 1
    assert {node.writes for node in graph.nodes} == {graph.nodes[0].writes}
    assert moved_bytes(graph, {"n": 5}) == 4 * (2 * 20 + 2 * 20 + 2 * 5)


def test_a_broadcast_operand_is_read_once() -> None:
    graph = traced(lambda module, x: x + module.table[:1].expand(3, 4)[:1])
    assert [spec.elements.text for spec in graph.nodes[0].operator.inputs] == ["n*4", "4"]


def test_a_tied_weight_is_one_storage() -> None:
    def run(module: Calls, x: Tensor) -> Tensor:
        return module.second(module.first(x))

    module = Calls(run)
    module.second.weight = module.first.weight
    graph = trace_own(module, {"x": ("n", 4)}, sizes={"n": 3})
    weights = [s for s in graph.storages if s.role == "weight"]
    assert [(s.name, s.elements.text, s.allocated_at, s.freed_at) for s in weights] == [
        ("first.weight", "16", -1, 2)
    ]
    assert graph.parameters == 16
    assert graph.nodes[0].reads[1] == graph.nodes[1].reads[1]


def test_parameters_and_buffers_of_a_built_module_keep_their_roles_in_views() -> None:
    def run(module: Calls, x: Tensor) -> Tensor:
        return x @ module.first.weight.t() + module.table[2:5].sum(0)

    graph = traced(run)
    assert [spec.role for node in graph.nodes for spec in node.operator.inputs] == [
        "input", "weight", "buffer", "activation", "activation"
    ]  # fmt: skip


def test_ops_stand_under_the_module_that_ran_them() -> None:
    def run(module: Calls, x: Tensor) -> Tensor:
        return module.second(module.first(x).relu())

    graph = traced(run)
    assert [graph.modules[node.module] for node in graph.nodes] == ["first", "", "second"]


def appended(cache: Tensor, new: Tensor) -> Tensor:
    return torch.cat([cache, new], dim=1)


def with_cache(run: Callable[[Tensor, Tensor], object]) -> OperatorGraph:
    class Cached(nn.Module):
        def forward(self, cache: Tensor, new: Tensor) -> object:
            return run(cache, new)

    symbols = {
        name: SizeSymbol(name=name, default=number(default), minimum=number(0))
        for name, default in (("context", 7), ("seq", 2))
    }
    example = Example((Input((1, "context", 4), "model", role="kv"), Input((1, "seq", 4), "model")))
    return trace_module(Cached, example, symbols=symbols)


def test_an_appended_cache_grows_and_is_not_copied() -> None:
    graph = with_cache(lambda cache, new: appended(cache, new))
    (node,) = graph.nodes
    assert node.operator.kind == "kv_append"
    assert node.reads[0] == node.writes[0]
    cache = graph.storages[node.writes[0]]
    assert (cache.role, cache.elements.text, cache.allocated_at) == ("kv", "(context+seq)*4", -1)
    assert [amount.text for amount in work_of(node.operator).reads] == ["0", "seq*4"]
    assert [amount.text for amount in work_of(node.operator).writes] == ["seq*4"]
    assert moved_bytes(graph, {"context": 1000, "seq": 2}) == 2 * 2 * 4 * 4


def test_a_part_of_a_cache_is_copied_like_anything_else() -> None:
    graph = with_cache(lambda cache, new: torch.cat([cache[:, 1:], new], dim=1))
    (node,) = graph.nodes
    assert node.operator.kind == "copy"
    assert graph.storages[node.writes[0]].role == "activation"


def test_a_preallocated_cache_is_written_where_the_token_goes() -> None:
    def run(cache: Tensor, new: Tensor) -> Tensor:
        cache[:, :1].copy_(new[:, :1])
        return cache.sum(1)

    graph = with_cache(run)
    first = graph.nodes[0]
    assert first.operator.kind == "copy"
    assert graph.storages[first.writes[0]].role == "kv"
    assert [amount.text for amount in work_of(first.operator).writes] == ["4"]


def test_decoding_grows_every_cache_by_one_token_and_copies_none() -> None:
    graph = built_in("gpt2", "decode")
    appends = [node for node in graph.nodes if node.operator.kind == "kv_append"]
    assert len(appends) == 2 * 12
    caches = [storage for storage in graph.storages if storage.role == "kv"]
    assert {storage.elements.text for storage in caches} == {"batch*(context+1)*768"}
    assert all(storage.freed_at == len(graph.nodes) for storage in caches)


@pytest.mark.parametrize(("mask", "kind"), [
    (lambda q, k: torch.ones(q, k, dtype=torch.bool).tril(k - q), "causal"),
    (lambda q, k: torch.full((q, k), float("-inf")).triu(k - q + 1), "causal"),
    (lambda q, k: torch.ones(q, k, dtype=torch.bool).tril(k - q).view(1, 1, q, k), "causal"),
    (lambda q, k: torch.ones(q, k, dtype=torch.bool).tril(k - q - 1), "tensor"),
    (lambda q, k: torch.ones(q, k, dtype=torch.bool).tril(), "tensor"),
    (lambda q, k: torch.full((q, k), 2.0).tril(k - q), "tensor"),
    (lambda q, k: torch.ones(q, k, dtype=torch.bool).tril(k - q).logical_not(), "tensor"),
    (lambda q, k: torch.ones(q, k, dtype=torch.bool).tril(k - q).fill_(True), "tensor"),
    (lambda q, k: torch.ones(q, k, dtype=torch.bool), "tensor"),
    (lambda q, k: None, "none"),
])  # fmt: skip
def test_only_a_mask_that_hides_exactly_the_future_is_causal(
    mask: Callable[[int, int], Tensor | None], kind: str
) -> None:
    def run(cache: Tensor, new: Tensor) -> Tensor:
        keys = appended(cache, new)
        chosen = mask(new.shape[1], keys.shape[1])
        return nn.functional.scaled_dot_product_attention(new[None], keys[None], keys[None], attn_mask=chosen)

    attention = next(node for node in with_cache(run).nodes if node.operator.kind == "attention")
    assert attention.operator.attribute("mask") == kind
    assert len(attention.reads) == (3 if kind == "none" else 4)
