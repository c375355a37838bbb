"""Compressed and token-reducing models run for real at a small size and are counted as torch counts them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from graphs import catalog
from graphs.layers import materialise
from graphs.lookups import column_sparse, lookup_sum
from graphs.variants.token_reduction import merge, schedule
from tests.graph_checks import flop, shrunken

pytestmark = pytest.mark.needs_torch
SIZES = {"batch": 2, "seq": 40, "text": 5, "context": 3}
ENCODER: dict[str, Any] = {"hidden": 32, "head_dim": 8, "vocab": 50}
IMAGE: dict[str, Any] = {"hidden": 32, "heads": 2, "side": 64}
SMALL: dict[str, dict[str, Any]] = {
    "memoryformer-tiny": {"layers": 2, "hidden": 32, "heads": 2, "tau": 4, "vocab": 50},
    "pythia-70m": {"layers": 2, "hidden": 32, "heads": 2, "vocab": 50},
    "axformer-bert-hard": {"heads": [4, 0, 2], "neurons": [64, 32, 0], "hard": [2], "keep": 8, **ENCODER},
    "tome-deit-s-r13": {"layers": 3, "merged": 3, **IMAGE},
    "fastv-13b-r50": {
        "tower_layers": 1, "tower_hidden": 16, "tower_heads": 2, "side": 56, "layers": 3, "hidden": 32,
        "heads": 2, "intermediate": 48, "vocab": 50,
    },
    **{
        name: {
            "layers": 2, "hidden": 64, "heads": 2, "head_dim": 16, "intermediate": 48, "groups": 8,
            "shared": 3, "routed": 2, "vocab": 50,
        }
        for name in ("mohd-355m-half", "mohd-355m-half-masked")
    },
    "dsformer-2.8x": {
        "rows": 16, "basis": 8, "nonzeros": 2, "layers": 2, "hidden": 32, "heads": 2, "intermediate": 64,
        "vocab": 50,
    },
    **{
        name: {"layers": 2, "hidden": 32, "head_dim": 8, "inner": 40, "memory": 6}
        for name in ("uoe-wt103", "uoe-wt103-deepseek")
    },
    "uoe-lra-text": {"vocab": 50},
    "tinybert-4": {"heads": [4, 4], "neurons": [48, 48], **ENCODER},
    "dynamic-deit-s": {"layers": 4, "after": [1, 2], **IMAGE},
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_a_small_model_runs_learns_and_costs_what_torch_counts(name: str) -> None:
    entry = catalog.find(name)
    config, module = {**entry.config, **SMALL[name]}, catalog.load(entry)
    torch.manual_seed(0)
    model = module.build(config).eval()
    args, kwargs = materialise(module.example(config, "forward"), SIZES, torch.float32)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        out = model(*args, **kwargs)
    made = [one for one in (out if isinstance(out, tuple) else (out,)) if isinstance(one, torch.Tensor)]
    assert all(one.isfinite().all() for one in made)
    torch.stack([one.square().mean() for one in made]).sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    # gates of a union of experts choose tokens and scale nothing, as published
    assert [n for n in silent if not (name.startswith("uoe") and ".gate." in n)] == []
    # at so few tokens a share of them is one token, which a trace then holds to
    fixed = {"seq": SIZES["seq"]} if name.startswith("uoe") else None
    graph = shrunken(name, "forward", fixed=fixed, **SMALL[name])
    sizes = {symbol.name: SIZES[symbol.name] for symbol in graph.symbols}
    assert flop(graph, sizes) == counter.get_total_flops()


def test_a_sum_of_lookups_is_the_weighted_sum_of_rows() -> None:
    table = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(4, 2, dtype=torch.float64, requires_grad=True)
    index = torch.randint(0, 7, (4, 2))
    expected = (table[index] * weight[..., None]).sum(1)
    torch.testing.assert_close(lookup_sum(table, index, weight), expected)
    assert torch.autograd.gradcheck(lambda t, w: lookup_sum(t, index, w), (table, weight))


def test_a_column_sparse_product_is_that_of_the_dense_matrix() -> None:
    values = torch.randn(2, 5, 2, dtype=torch.float64, requires_grad=True)
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([[0, 2], [1, 3], [0, 1], [2, 3], [3, 0]]).expand(2, -1, -1)
    dense = torch.zeros(2, 5, 4, dtype=torch.float64)
    for block, row, place in itertools.product(range(2), range(5), range(2)):
        dense[block, row, index[block, row, place]] = values[block, row, place]
    torch.testing.assert_close(column_sparse(x, values, index, 4), x @ dense)
    assert torch.autograd.gradcheck(lambda a, v: column_sparse(a, v, index, 4), (x, values))


def test_merging_keeps_the_weighted_sum_the_class_token_and_the_count() -> None:
    torch.manual_seed(1)
    x, size = torch.randn(2, 9, 4), torch.rand(2, 9, 1) + 0.5
    merged, sizes = merge(x, size, torch.randn(2, 9, 3), 2)
    assert merged.shape == (2, 7, 4)
    torch.testing.assert_close((merged * sizes).sum(1), (x * size).sum(1))
    torch.testing.assert_close(sizes.sum(1), size.sum(1))
    torch.testing.assert_close(merged[:, 0], x[:, 0])


def test_a_schedule_never_merges_more_than_half() -> None:
    assert schedule(197, 12, 13) == [13] * 12
    assert schedule(197, 12, 16) == [16] * 11 + [10]
    assert 197 - sum(schedule(197, 24, 7)) == 29
