"""A traced training step: FLOPs as torch counts them, gradients of what is trained alone, ops in modules."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from graphs import catalog
from graphs.errors import GraphError
from graphs.expressions import Environment, number
from graphs.inputs import Example, Input
from graphs.ir import BACKWARD, GRADIENT, WEIGHT, OperatorGraph, SizeSymbol
from graphs.layers import materialise
from graphs.trace import trace_module
from graphs.work import work_of
from tests.graph_checks import default_sizes, flop, shrunken

pytestmark = pytest.mark.needs_torch

SMALL: dict[str, dict[str, int]] = {
    "gpt2": {"layers": 1},
    "llama-3-8b": {"layers": 1},
    "bert-base": {"layers": 1},
    "vit-b-16": {"layers": 1},
}
FURTHER: dict[str, dict[str, int]] = {
    "t5-base": {"layers": 1},
    "mixtral-8x7b": {"layers": 1},
    "opt-125m": {"layers": 1},
    "qwen3-8b": {"layers": 1},
    "switch-base-8": {"layers": 2},
    "whisper-tiny": {"layers": 1, "decoder_layers": 1},
    "clip-vit-b-32": {"layers": 1, "text_layers": 1},
    "dit-s-2": {"layers": 1},
}
CASES = [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in FURTHER)]


@functools.cache
def graph_of(name: str) -> OperatorGraph:
    return shrunken(name, "train", **{**SMALL, **FURTHER}[name])


def loss(out: Any, kind: str) -> Tensor:
    """What a training step of ours derives, written as a user would."""
    outputs = [tensor for tensor in tensors(out) if tensor.requires_grad]
    if kind == "sum":
        return torch.stack([tensor.sum() for tensor in outputs]).sum()
    rows = outputs[0].reshape(-1, outputs[0].shape[-1])
    targets = torch.zeros(rows.shape[0], dtype=torch.int64, device=rows.device)
    return torch.nn.functional.cross_entropy(rows, targets)


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [one for item in value for one in tensors(item)] if isinstance(value, tuple | list) else []


@pytest.mark.parametrize("name", CASES)
def test_forward_and_backward_flops_equal_torchs_counter_with_the_math_kernel(name: str) -> None:
    graph = graph_of(name)
    entry = catalog.find(name)
    module = catalog.load(entry)
    config = {**entry.config, **{**SMALL, **FURTHER}[name]}
    with torch.device("meta"):
        model = module.build(config).train()
    for point in ({"batch": 2, "seq": 16, "source": 9}, {"batch": 1, "seq": 1, "source": 12}):
        known = {symbol.name for symbol in graph.symbols}
        sizes = default_sizes(name, "train", **{k: v for k, v in point.items() if k in known})
        whole = {key: max(1, round(value)) for key, value in sizes.items()}
        args, kwargs = materialise(module.example(config, "forward"), whole, torch.float32, device="meta")
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            loss(model(*args, **kwargs), entry.loss).backward()
        assert flop(graph, whole) == counter.get_total_flops()


@pytest.mark.parametrize("name", CASES)
def test_a_training_step_is_symbolic_and_no_op_of_it_is_unknown(name: str) -> None:
    graph = graph_of(name)
    assert {symbol.how for symbol in graph.symbols} == {"symbolic"}
    assert graph.unknown_ops() == {}


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_has_one_gradient_of_its_size(name: str) -> None:
    graph = graph_of(name)
    weights = {s.name: s.elements for s in graph.storages if s.role == WEIGHT and s.name}
    assert {s.name: s.elements for s in graph.storages if s.role == GRADIENT} == weights


@pytest.mark.parametrize("name", ["gpt2", "llama-3-8b"])
def test_backward_products_stand_in_the_module_of_their_linear(name: str) -> None:
    """Each linear makes two products of its own size in the backward pass; the first has no data gradient."""
    graph = graph_of(name)
    at = Environment({symbol.name: 3.0 + place for place, symbol in enumerate(graph.symbols)})
    found: dict[str, dict[str, float]] = {"forward": {}, "backward": {}}
    for node in graph.nodes:
        if node.operator.kind == "gemm":
            path = graph.modules[node.module]
            work = float(at(work_of(node.operator).flop))
            found[node.phase][path] = found[node.phase].get(path, 0.0) + work
    assert found["backward"] == {path: 2 * work for path, work in found["forward"].items()}


class Adapted(nn.Module):
    """A frozen linear with a low-rank update beside it (Hu et al. 2021), twice."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.ModuleList(nn.Linear(8, 8, bias=False).requires_grad_(False) for _ in range(2))
        self.down = nn.ModuleList(nn.Linear(8, 2, bias=False) for _ in range(2))
        self.up = nn.ModuleList(nn.Linear(2, 8, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for base, down, up in zip(self.base, self.down, self.up, strict=True):
            x = base(x) + up(down(x))
        return x


def traced(module: nn.Module, shapes: Mapping[str, Input], **more: Any) -> OperatorGraph:
    symbol = SizeSymbol(name="batch", default=number(4), minimum=number(1))
    example = Example(kwargs=dict(shapes))
    return trace_module(module, example, symbols={"batch": symbol}, phase="train", **more)


def test_lora_trains_the_low_rank_parts_alone() -> None:
    """By hand: per layer frozen 8 x 8 and trained 8 x 2 and 2 x 8; the first layer's input needs no gradient.

    Weight gradients: two layers of 2*batch*(8*2 + 2*8). Data gradients: through `up` in both layers; through
    `down` and the frozen linear in the second only.
    """
    graph = traced(Adapted(), {"x": Input(("batch", 8), "model")})
    gradients = sorted(s.name for s in graph.storages if s.role == GRADIENT)
    assert gradients == ["down.0.weight", "down.1.weight", "up.0.weight", "up.1.weight"]
    products = {"forward": 0.0, "backward": 0.0}
    for node in graph.nodes:
        products[node.phase] += float(Environment({"batch": 4.0})(work_of(node.operator).flop))
    layer = 2 * 4 * (8 * 8 + 8 * 2 + 2 * 8)
    weight_gradients = 2 * (2 * 4 * (8 * 2 + 2 * 8))
    data_gradients = 2 * (2 * 4 * 2 * 8) + 2 * 4 * (8 * 2 + 8 * 8)
    assert products == {"forward": 2 * layer, "backward": weight_gradients + data_gradients}
    assert not any(
        graph.modules[node.module].startswith("base") and node.operator.outputs[0].role == GRADIENT
        for node in graph.nodes
    )


def test_a_module_that_trains_nothing_is_refused() -> None:
    with pytest.raises(GraphError, match="no output depends on a parameter that is trained"):
        traced(nn.Linear(4, 4).requires_grad_(False), {"input": Input(("batch", 4), "model")})


class OwnLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        logits = self.linear(x)
        return {"loss": logits.square().mean(), "logits": logits}


def test_a_loss_that_the_module_returns_is_what_is_derived() -> None:
    graph = traced(OwnLoss(), {"x": Input(("batch", 4), "model")}, loss="cross_entropy")
    assert not any("nll_loss" in node.operator.name for node in graph.nodes)
    assert {node.phase for node in graph.nodes} == {"forward", BACKWARD}


def test_a_step_runs_with_dropout_and_keeps_a_mask_of_bytes() -> None:
    graph = graph_of("gpt2")
    masks = [
        graph.storages[node.writes[1]] for node in graph.nodes if node.operator.name == "aten.native_dropout"
    ]
    assert len(masks) == 3  # of the embedding, and two of the layer beside the attention's own
    assert {mask.dtype for mask in masks} == {"bool"}
    backward = min(node.at for node in graph.nodes if node.phase == BACKWARD)
    assert all(mask.freed_at > backward for mask in masks)
