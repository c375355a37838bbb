"""Sparse attention and a routed FFN: what they compute, what torch counts, and their work by hand."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import hwsim
from graphs import catalog
from graphs.expressions import evaluate
from graphs.sampled import best_matches, nearest_code, sampled_product, sampled_spread, sampled_sum
from graphs.variants.spt import FFN, Attention, RoutedFFN
from graphs.work import work_of
from tests.graph_checks import flop, shrunken

pytestmark = pytest.mark.needs_torch
SMALL: dict[str, Any] = {"hidden": 32, "heads": 2, "intermediate": 48, "rank": 3}
SIZES = {"batch": 2, "seq": 24, "block_tokens": 24}


def config(name: str, **changes: Any) -> dict[str, Any]:
    return {**catalog.find(name).config, **SMALL, **changes}


def test_products_at_places_are_each_others_derivatives() -> None:
    keys, queries = (torch.randn(2, n, 4, dtype=torch.float64, requires_grad=True) for n in (6, 5))
    weight = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    index = torch.rand(2, 5, 6).argsort(-1)[..., :3].int()
    chosen = torch.zeros(2, 5, 6, dtype=torch.float64).scatter(-1, index.long(), weight.detach())
    scores = torch.einsum("nqd,nkd->nqk", queries, keys).gather(-1, index.long())
    torch.testing.assert_close(sampled_product(keys, index, queries), scores)
    torch.testing.assert_close(sampled_sum(keys, index, weight), chosen @ keys)
    torch.testing.assert_close(sampled_spread(queries, index, weight, 6), chosen.transpose(1, 2) @ queries)
    assert torch.autograd.gradcheck(lambda k, q: sampled_product(k, index, q), (keys, queries))
    assert torch.autograd.gradcheck(lambda v, w: sampled_sum(v, index, w), (keys, weight))


def test_the_nearest_codeword_and_the_keys_that_share_most_codes_are_found() -> None:
    torch.manual_seed(0)
    x, words = torch.randn(2, 5, 6), torch.randn(3, 4, 2)
    codes = nearest_code(x, words)
    for n, t, piece in itertools.product(range(2), range(5), range(3)):
        sizes = (words[piece] - x[n, t, 2 * piece : 2 * piece + 2]).abs().sum(-1)
        assert codes[n, t, piece] == sizes.argmin()
    queries = torch.tensor([[[9, 9], [1, 2], [1, 2], [1, 2]]])
    keys = torch.tensor([[[1, 2], [1, 0], [0, 0], [1, 2]]])
    chosen = best_matches(queries, keys, 2)
    assert [set(row.tolist()) for row in chosen[0, 1:]] == [{0, 1}, {0, 1}, {0, 3}]
    assert 0 in chosen[0, 0]  # the only key that is not later


@pytest.mark.parametrize("name", ["spt-opt-2048", "spt-llama-4096"])
def test_attention_that_keeps_all_keys_is_dense(name: str) -> None:
    torch.manual_seed(0)
    sparse = Attention(config(name, share=1))
    dense = Attention(config(f"{name}-lora"))
    dense.load_state_dict(sparse.state_dict(), strict=False)
    x = torch.randn(2, 9, 32)
    torch.testing.assert_close(sparse(x), dense(x))
    few = Attention(config(name, share=3))
    few.load_state_dict(sparse.state_dict())
    assert not torch.allclose(few(x), dense(x))
    later = x.clone()
    later[:, 6:] += 1
    torch.testing.assert_close(few(later)[:, :6], few(x)[:, :6])


@pytest.mark.parametrize("name", ["spt-opt-2048", "spt-llama-4096"])
def test_an_ffn_whose_tokens_choose_every_block_is_the_dense_one(name: str) -> None:
    torch.manual_seed(0)
    routed = RoutedFFN(config(name, top=4))
    torch.nn.init.zeros_(routed.router.weight)
    torch.nn.init.zeros_(routed.router.bias)  # twice the probability is then one
    dense = FFN(config(f"{name}-lora"))
    dense.load_state_dict(routed.state_dict(), strict=False)
    x = torch.randn(2, 5, 32)
    torch.testing.assert_close(routed(x), dense(x))


def test_a_routed_ffn_sums_the_chosen_blocks_of_a_token() -> None:
    torch.manual_seed(0)
    c = config("spt-opt-2048", rank=2)
    ffn = RoutedFFN(c)
    torch.nn.init.normal_(ffn.up.right)
    torch.nn.init.normal_(ffn.down.right)
    x = torch.randn(1, 7, 32)
    probability, chosen = ffn.router(x[0]).sigmoid().topk(2, dim=-1)
    expected = torch.zeros(7, 32)
    for t, k in itertools.product(range(7), range(2)):
        at = slice(12 * int(chosen[t, k]), 12 * int(chosen[t, k]) + 12)
        frozen = F.linear(x[0, t], ffn.up.weight[at], ffn.up.bias[at])
        inner = F.relu(2 * probability[t, k] * frozen + x[0, t] @ ffn.up.left @ ffn.up.right[:, at])
        expected[t] += ffn.down.weight[:, at] @ inner + inner @ ffn.down.left[at] @ ffn.down.right
    torch.testing.assert_close(ffn(x)[0], expected + ffn.down.bias)
    torch.testing.assert_close(ffn(x, 7), ffn(x))
    assert not torch.allclose(ffn(x, 1), ffn(x))


@pytest.mark.parametrize("name", ["spt-opt-2048", "spt-opt-2048-lora", "spt-opt-2048-full"])
def test_a_training_step_costs_what_torch_counts_and_trains_what_is_not_frozen(name: str) -> None:
    c = config(name, rank=0 if name.endswith("full") else 3)
    model = catalog.load(catalog.find(name)).build(c)
    counts = (SIZES["block_tokens"],) if c["sparse"] else ()
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        model(torch.randn(2, 24, 32), *counts).sum().backward()
    trained = {n for n, p in model.named_parameters() if p.grad is not None}
    assert trained == {n for n, p in model.named_parameters() if p.requires_grad}
    assert any(".weight" in n for n in trained if ".down" in n) == name.endswith("full")
    graph = shrunken(name, "train", **{**SMALL, "rank": c["rank"]})
    sizes = {symbol.name: SIZES[symbol.name] for symbol in graph.symbols}
    assert flop(graph, sizes) == counter.get_total_flops()
    assert graph.unknown_ops() == {}
    assert all(symbol.how == "symbolic" for symbol in graph.symbols)


def test_chosen_keys_are_looked_up_on_chip_and_read_once() -> None:
    """Two heads a sequence of 24 tokens, an eighth of them chosen, head width 16, pieces of 8."""
    graph = shrunken("spt-opt-2048-attention", "forward", **SMALL)
    works = {node.operator.name: work_of(node.operator) for node in graph.nodes}
    at = {"batch": 2, "seq": 24}
    queries, chosen = 2 * 2 * 24, 24 // 8
    for name in ("hwsim.sampled_product", "hwsim.sampled_sum"):
        work = works[name]
        assert evaluate(work.flop, at) == 2 * queries * chosen * 16
        assert evaluate(work.reads[0], at) == queries * 16  # all keys of all heads
        assert evaluate(work.again, at) == queries * (chosen - 1) * 16
    codes, matches = works["hwsim.nearest_code"], works["hwsim.best_matches"]
    assert evaluate(codes.vector_flop, at) == queries * 2 * 16 * (3 * 8 + 1)
    assert evaluate(matches.vector_flop, at) == queries * 24 / 2 * (2 * 2 + 1)


def test_bytes_that_are_read_again_on_chip_are_no_bytes_of_memory() -> None:
    graph = shrunken("spt-opt-2048-attention", "forward", **SMALL)
    sizes = {"batch": 2, "seq": 24}
    found = hwsim.estimate(graph, "h100-sxm", dtype="fp32", stack="eager", **sizes)
    (row,) = [one for one in found.ops if one.name == "hwsim.sampled_product"]
    once = 2 * 2 * 24 * (16 + 16) * 4 + 2 * 2 * 24 * 3 * (4 + 4)  # keys, queries; places, scores
    assert row.dram_bytes <= once
