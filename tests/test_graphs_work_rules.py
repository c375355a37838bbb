"""Nothing is free by accident: every op has a rule, stands among the free ones, or is reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hwsim
from graphs import catalog
from graphs.expressions import evaluate, number
from graphs.ir import ACTIVATION, Operator, TensorSpec
from graphs.own import trace_own
from graphs.work import aten_rule, is_free, work_of
from graphs.work.movement import FREE
from tests.graph_checks import arithmetic, built_in, moved_bytes, shrunken

pytestmark = pytest.mark.needs_torch


@torch.library.custom_op("hwsim_tests::mystery", mutates_args=())
def mystery(x: Tensor, y: Tensor) -> Tensor:
    return x @ y


@mystery.register_fake
def _(x: Tensor, y: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], y.shape[1])


class Mysterious(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Mystery() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Mystery(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return mystery(x, self.weight).relu()


def test_an_op_that_no_rule_knows_is_reported_by_name_count_and_module() -> None:
    graph = trace_own(Mysterious(), {"x": ("n", 8)}, sizes={"n": 4})
    assert graph.unknown_ops() == {("hwsim_tests.mystery", "blocks.*"): 3}


def test_an_op_that_no_rule_knows_costs_its_memory_traffic() -> None:
    graph = trace_own(Mysterious(), {"x": ("n", 8)}, sizes={"n": 4})
    assert arithmetic(graph, {"n": 100}) == (0, 3 * 800, 0)  # relu alone
    assert moved_bytes(graph, {"n": 100}) == 3 * 4 * (800 + 64 + 800) + 3 * 4 * (800 + 800)


def test_an_op_that_no_rule_knows_is_in_every_estimate_and_fails_a_strict_one() -> None:
    graph = trace_own(Mysterious(), {"x": ("n", 8)}, sizes={"n": 4})
    assert any("hwsim_tests.mystery" in warning for warning in hwsim.estimate(graph, "h100-sxm").warnings)
    with pytest.raises(hwsim.HwsimError, match="mystery"):
        hwsim.estimate(graph, "h100-sxm", strict=True)


BUILT_IN = ("bert-base", "gpt2", "llama-3-8b", "mixtral-8x7b", "t5-base", "vit-b-16", "swin-t")
FURTHER: dict[str, dict[str, int]] = {
    "whisper-tiny": {"layers": 1, "decoder_layers": 1},
    "clip-vit-b-32": {"layers": 1, "text_layers": 1},
    "dit-s-2": {"layers": 1},
    "switch-base-8": {"layers": 2},
    "qwen3-8b": {"layers": 1},
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_op_of_a_built_in_model_is_unknown(name: str) -> None:
    for phase in catalog.find(name).phases:
        if phase != "train":
            assert built_in(name, phase).unknown_ops() == {}


@pytest.mark.parametrize("name", FURTHER)
def test_no_op_of_a_further_family_is_unknown(name: str) -> None:
    for phase in catalog.find(name).phases:
        if phase != "train":
            assert shrunken(name, phase, **FURTHER[name]).unknown_ops() == {}


VIEWS: dict[str, Callable[[Tensor], Any]] = {
    "_unsafe_view": lambda x: torch.ops.aten._unsafe_view(x, [24]),
    "_reshape_alias": lambda x: torch.ops.aten._reshape_alias(x, [24], [1]),
    "alias": torch.ops.aten.alias,
    "as_strided": lambda x: x.as_strided((2, 3), (3, 1)),
    "as_strided_": lambda x: x.as_strided_((2, 3), (3, 1)),
    "chunk": lambda x: x.chunk(2),
    "detach": torch.ops.aten.detach,
    "detach_": lambda x: x.detach_(),
    "diagonal": lambda x: x.diagonal(),
    "expand": lambda x: x[:1].expand(5, 6),
    "expand_as": lambda x: x[:1].expand_as(x),
    "flatten": lambda x: x.flatten(),
    "lift": torch.ops.aten.lift,
    "lift_fresh": torch.ops.aten.lift_fresh,
    "movedim": lambda x: x.movedim(0, 1),
    "narrow": lambda x: x.narrow(0, 1, 2),
    "numpy_T": lambda x: x.T,
    "permute": lambda x: x.permute(1, 0),
    "select": lambda x: x.select(0, 1),
    "slice": lambda x: x[1:3],
    "split": lambda x: x.split(2),
    "split_with_sizes": lambda x: x.split([1, 3]),
    "squeeze": lambda x: x.unsqueeze(0).squeeze(0),
    "squeeze_": lambda x: x.squeeze_(),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "hsplit": lambda x: x.hsplit(2),
    "t": lambda x: x.t(),
    "t_": lambda x: x.t_(),
    "transpose": lambda x: x.transpose(0, 1),
    "transpose_": lambda x: x.transpose_(0, 1),
    "unbind": lambda x: x.unbind(),
    "unflatten": lambda x: x.unflatten(1, (2, 3)),
    "unfold": lambda x: x.unfold(1, 2, 1),
    "unsafe_chunk": lambda x: x.unsafe_chunk(2),
    "unsafe_split": lambda x: x.unsafe_split(2),
    "unsafe_split_with_sizes": lambda x: x.unsafe_split_with_sizes([1, 3]),
    "unsqueeze": lambda x: x.unsqueeze(0),
    "unsqueeze_": lambda x: x.unsqueeze_(0),
    "view": lambda x: x.view(24),
    "view_as": lambda x: x.view_as(x),
    "view_as_complex": lambda x: torch.view_as_complex(x.view(4, 3, 2)),
    "view_as_real": lambda x: torch.view_as_real(torch.view_as_complex(x.view(4, 3, 2))),
    "real": lambda x: torch.view_as_complex(x.view(4, 3, 2)).real,
    "imag": lambda x: torch.view_as_complex(x.view(4, 3, 2)).imag,
    "_conj": lambda x: torch.ops.aten._conj(torch.view_as_complex(x.view(4, 3, 2))),
    "_neg_view": torch.ops.aten._neg_view,
    "set_": lambda x: torch.empty(0).set_(x),
    "resize_": lambda x: x.resize_(2, 3),
}
ALLOCATIONS = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
QUESTIONS = {
    "sym_numel", "sym_size", "sym_storage_offset", "sym_stride", "is_same_size", "_local_scalar_dense",
    "item", "_assert_async", "_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range",
    "sym_constrain_range_for_size",
}  # fmt: skip


@pytest.mark.parametrize("name", VIEWS)
def test_a_free_op_sees_the_memory_of_its_input(name: str) -> None:
    x = torch.zeros(4, 6)
    results = VIEWS[name](x)
    results = results if isinstance(results, tuple | list) else [results]
    addresses = {result.untyped_storage().data_ptr() for result in results}
    assert addresses == {x.untyped_storage().data_ptr()}
    assert is_free(f"aten.{name}")


def test_every_free_op_is_a_view_an_allocation_or_a_question() -> None:
    listed = {name.removeprefix("aten.") for name in FREE if name.startswith("aten.")}
    assert listed == set(VIEWS) | ALLOCATIONS | QUESTIONS
    assert {name for name in FREE if not name.startswith("aten.")} == {
        "prim.device", "prim.layout", "prims.view_of", "profiler._record_function_enter_new"
    }  # fmt: skip


def test_no_op_is_free_and_has_a_rule() -> None:
    assert [name for name in FREE if aten_rule(name)] == []


def kinds(run: Callable[[Tensor], object]) -> list[tuple[str, dict[str, str]]]:
    """(kind, dims) of the nodes of a function of x [n, 6] and ids [n, 2]."""

    class Calls(nn.Module):
        def forward(self, x: Tensor) -> object:
            return run(x)

    graph = trace_own(Calls(), {"x": ("n", 6)}, sizes={"n": 4})
    return [
        (node.operator.kind, {name: size.text for name, size in node.operator.dims}) for node in graph.nodes
    ]


def ids(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int64)


@pytest.mark.parametrize(
    ("run", "kind", "dims"),
    [
        (lambda x: x @ x.t(), "gemm", {"b": "1", "m": "n", "n": "n", "k": "6"}),
        (lambda x: x.mv(x[0]), "gemm", {"b": "1", "m": "n", "n": "1", "k": "6"}),
        (lambda x: x.sum(1), "reduce", {"rows": "n", "cols": "6"}),
        (lambda x: x.sum(), "reduce", {"rows": "1", "cols": "n*6"}),
        (lambda x: x.amax(-2, keepdim=True), "reduce", {"rows": "6", "cols": "n"}),
        (lambda x: x.norm(dim=1), "reduce", {"rows": "n", "cols": "6"}),
        (lambda x: x.var(0), "reduce", {"rows": "6", "cols": "n"}),
        (lambda x: x.softmax(0), "softmax", {"rows": "6", "cols": "n"}),
        (lambda x: x.log_softmax(-1), "log_softmax", {"rows": "n", "cols": "6"}),
        (lambda x: x.cumsum(1), "scan", {"rows": "n", "cols": "6"}),
        (lambda x: x.topk(2), "sort", {"rows": "n", "cols": "6"}),
        (lambda x: x.sort(), "sort", {"rows": "n", "cols": "6"}),
        (lambda x: x.sort(dim=0, stable=True), "sort", {"rows": "6", "cols": "n"}),
        (lambda x: nn.functional.layer_norm(x, (6,)), "norm", {"rows": "n", "cols": "6"}),
        (lambda x: nn.functional.rms_norm(x, (6,)), "rms_norm", {"rows": "n", "cols": "6"}),
        (lambda x: nn.functional.group_norm(x[None], 1), "norm", {"rows": "1", "cols": "n*6"}),
        (lambda x: x[ids(3)], "gather", {"rows": "3", "run": "6", "table": "n*6"}),
        (lambda x: x[:, ids(3)], "gather", {"rows": "n*3", "run": "1", "table": "n*6"}),
        (lambda x: x[ids(3), ids(3)], "gather", {"rows": "3", "run": "1", "table": "n*6"}),
        (lambda x: x.index_select(0, ids(5)), "gather", {"rows": "5", "run": "6", "table": "n*6"}),
        (lambda x: x.index_select(1, ids(5)), "gather", {"rows": "n*5", "run": "1", "table": "n*6"}),
        (lambda x: x.gather(1, ids(1, 2)), "gather", {"rows": "2", "run": "1", "table": "n*6"}),
        (lambda x: nn.functional.embedding(ids(7), x), "gather", {"rows": "7", "run": "6", "table": "n*6"}),
        (lambda x: x.index_add(0, ids(2), x[:2]), "scatter", {"rows": "2", "run": "6"}),
        (lambda x: x.index_copy_(1, ids(2), x[:, :2]), "scatter", {"rows": "n*2", "run": "1"}),
        (lambda x: x.scatter(1, ids(1, 2), x), "scatter", {"rows": "2", "run": "1"}),
        (lambda x: x.index_put_((ids(3),), x[:3]), "scatter", {"rows": "3", "run": "6"}),
        (lambda x: x.__setitem__((slice(None), ids(3)), 1.0), "scatter", {"rows": "n*3", "run": "1"}),
        (lambda x: nn.functional.conv1d(x[None], x.new_empty(8, 4, 3)), "conv",
         {"b": "1", "m": "4", "n": "8", "k": "12"}),
    ],
)  # fmt: skip
def test_an_op_gets_its_kind_and_canonical_dims(
    run: Callable[[Tensor], object], kind: str, dims: dict[str, str]
) -> None:
    if kind == "conv":
        found = kinds(lambda x: run(x[:4]))
    else:
        found = kinds(run)
    assert (kind, dims) in found


def scatter(*words: str) -> Operator:
    table, rows = (number(100), number(8)), (number(3), number(8))
    specs = [TensorSpec(shape, "fp32", ACTIVATION, shape[0] * shape[1]) for shape in (table, rows)]
    index = TensorSpec(rows[:1], "int64", ACTIVATION, rows[0])
    dims = (("rows", number(3)), ("run", number(8)))
    attributes = tuple((word, "yes") for word in words)
    return Operator("scatter", "t", dims, (specs[0], index, specs[1]), (specs[0],), attributes)


@pytest.mark.parametrize(
    ("words", "reads", "writes", "added"),
    [((), 0, 24, 0), (("adds",), 24, 24, 24), (("copies",), 800, 800, 0), (("adds", "copies"), 800, 800, 24)],
)
def test_rows_are_written_in_place_unless_the_rest_is_copied(
    words: tuple[str, ...], reads: int, writes: int, added: int
) -> None:
    work = work_of(scatter(*words))
    assert [amount.value for amount in work.reads] == [reads, 3, 24]
    assert [amount.value for amount in work.writes] == [writes]
    assert work.vector_flop.value == added


class Resized(nn.Module):
    """A convolution whose result is interpolated to `times` its sides."""

    def __init__(self, mode: str, times: float = 2.0, dims: int = 2) -> None:
        super().__init__()
        self.mode, self.times = mode, times
        self.conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(self.conv(x), scale_factor=self.times, mode=self.mode).sum()


@pytest.mark.parametrize(
    ("mode", "dims", "taps"),
    [
        ("nearest", 1, 1), ("linear", 1, 2), ("nearest", 2, 1), ("nearest-exact", 2, 1), ("bilinear", 2, 4),
        ("bicubic", 2, 16), ("nearest", 3, 1), ("trilinear", 3, 8),
    ],
)  # fmt: skip
def test_an_interpolation_is_one_operator_there_and_back(mode: str, dims: int, taps: int) -> None:
    """By hand: a multiply-add per tap of each of the 4 x 12^dims elements, whichever way."""
    shape = ("batch", 4, *[8] * dims)
    graph = trace_own(Resized(mode, 1.5, dims), {"x": shape}, phase="train")
    found = [n.operator for n in graph.nodes if n.operator.kind.startswith("interpolate")]
    assert [one.kind for one in found] == ["interpolate", "interpolate_backward"]
    assert "gather" not in {n.operator.kind for n in graph.nodes}
    for one in found:
        assert evaluate(work_of(one).vector_flop, {"batch": 3}) == 3 * 4 * 12**dims * taps * 2
        made = 12 if one.kind == "interpolate" else 8
        assert evaluate(one.outputs[0].elements, {"batch": 3}) == 3 * 4 * made**dims


def test_sides_that_are_open_stay_open_through_an_interpolation() -> None:
    graph = trace_own(Resized("bilinear"), {"x": ("batch", 4, "side", "side")}, sizes={"side": 16})
    (one,) = [n.operator for n in graph.nodes if n.operator.kind == "interpolate"]
    assert evaluate(one.outputs[0].elements, {"batch": 2, "side": 10}) == 2 * 4 * 20 * 20


@pytest.mark.parametrize(("phase", "kind"), [("forward", "pointwise"), ("train", "norm")])
def test_batch_norm_with_known_statistics_combines_nothing(phase: str, kind: str) -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    graph = trace_own(module, {"input": ("batch", 4, 8, 8)}, phase=phase)
    (one,) = [n.operator for n in graph.nodes if "batch_norm" in n.operator.name][:1]
    assert one.kind == kind
