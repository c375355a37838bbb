"""Modules that lie about their sizes: accepted only where the graph is right, else fixed or explained."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hwsim
from graphs.errors import GraphError
from graphs.expressions import number
from graphs.inputs import Example, Input, SymbolValue
from graphs.ir import OperatorGraph, SizeSymbol
from graphs.own import trace_own
from graphs.trace import trace_module
from graphs.tracing.difference import difference
from hwsim.errors import HwsimError

pytestmark = pytest.mark.needs_torch
Forward = Callable[["Linear", Tensor], Tensor]


class Linear(nn.Module):
    """A linear of 8, called as each test says."""

    def __init__(self, run: Forward) -> None:
        super().__init__()
        self.run, self.linear = run, nn.Linear(8, 8)
        self.register_buffer("three", torch.tensor(3))
        self.half = torch.tensor(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def traced(run: Forward, batch: int = 4, seq: int = 16) -> OperatorGraph:
    return trace_own(Linear(run), {"x": ("batch", "seq", 8)}, sizes={"batch": batch, "seq": seq})


def roads(graph: OperatorGraph) -> tuple[str, ...]:
    return tuple(symbol.how for symbol in graph.symbols)


def guards(graph: OperatorGraph) -> set[str]:
    return {guard.text for guard in graph.guards}


def right_at(run: Forward, graph: OperatorGraph, batch: int, seq: int) -> bool:
    """Whether the graph is the work of these sizes, traced as plain numbers."""
    point = {"batch": batch, "seq": seq}
    concrete = trace_own(Linear(run), {"x": ("batch", "seq", 8)}, fixed=point)
    return difference(graph, concrete, point) is None


def plain(module: Linear, x: Tensor) -> Tensor:
    return module.linear(x)


def count_made_int(module: Linear, x: Tensor) -> Tensor:
    return module.linear(x).reshape(-1, int(x.shape[1]) * 8)


def half_of_it(module: Linear, x: Tensor) -> Tensor:
    return module.linear(x[:, : int(x.shape[1] / 2)])


def longer_than_100(module: Linear, x: Tensor) -> Tensor:
    return module.linear(x).relu() if x.shape[1] > 100 else module.linear(x)


def silently_longer_than_100(module: Linear, x: Tensor) -> Tensor:
    return module.linear(x).relu() if int(x.shape[1]) > 100 else module.linear(x)


def step_by_step(module: Linear, x: Tensor) -> Tensor:
    return torch.stack([module.linear(x[:, i]) for i in range(x.shape[1])], 1)


def padded(module: Linear, x: Tensor) -> Tensor:
    return module.linear(nn.functional.pad(x, (0, 0, 0, -x.shape[1] % 8)))


def padded_where_needed(module: Linear, x: Tensor) -> Tensor:
    return padded(module, x) if x.shape[1] % 8 else plain(module, x)


def in_fours(module: Linear, x: Tensor) -> Tensor:
    return module.linear(x.reshape(x.shape[0], x.shape[1] // 4, 4, 8))


def scaled_by_numpy(module: Linear, x: Tensor) -> Tensor:
    return module.linear(x) * float(np.sqrt(x.shape[1]))


def only_four(module: Linear, x: Tensor) -> Tensor:
    if x.shape[0] != 4:
        raise ValueError("a batch of four")
    return module.linear(x)


def squared(module: Linear, x: Tensor) -> Tensor:
    side = int(x.shape[1] ** 0.5)
    return module.linear(x.reshape(x.shape[0], side, side, 8))


def tidy(module: Linear, x: Tensor) -> Tensor:
    return module.linear(x).squeeze(0).squeeze()


@pytest.mark.parametrize("run", [plain, padded, tidy], ids=lambda run: run.__name__)
def test_a_module_that_leaves_sizes_alone_is_symbolic_in_all(run: Forward) -> None:
    graph = traced(run)
    assert (roads(graph), guards(graph)) == (("symbolic", "symbolic"), set())
    for point in ((1, 1), (1, 17), (9, 1), (3, 64)):
        assert right_at(run, graph, *point)


def test_a_count_made_int_is_solved() -> None:
    graph = traced(count_made_int)
    assert (roads(graph), guards(graph)) == (("symbolic", "solved"), {"seq >= 2"})
    assert all(right_at(count_made_int, graph, *point) for point in ((1, 2), (7, 35), (2, 5000)))


def test_a_count_that_rounds_is_solved_for_multiples() -> None:
    graph = traced(half_of_it)
    assert roads(graph) == ("symbolic", "solved")
    assert guards(graph) == {"batch != 1", "seq%16 == 0", "seq >= 16"}
    assert all(right_at(half_of_it, graph, *point) for point in ((2, 16), (5, 320)))


def test_a_module_that_takes_no_symbolic_number_is_solved() -> None:
    graph = traced(scaled_by_numpy)
    assert roads(graph) == ("symbolic", "solved")  # the other stays a symbol
    assert "no callable sqrt method" in graph.provenance["seq not symbolic because"]
    assert all(right_at(scaled_by_numpy, graph, *point) for point in ((2, 3), (31, 300)))


@pytest.mark.parametrize(("seq", "guard"), [(16, "seq <= 100"), (128, "seq > 100")])
def test_a_branch_on_a_size_is_a_condition_of_the_graph(seq: int, guard: str) -> None:
    """The side of the branch on which the defaults lie is the one that is traced."""
    graph = traced(longer_than_100, seq=seq)
    assert roads(graph) == ("symbolic", "symbolic")
    assert guards(graph) == {guard}
    assert right_at(longer_than_100, graph, 3, seq)


def test_an_alignment_that_a_module_branches_on_is_a_condition() -> None:
    graph = traced(padded_where_needed)
    assert "seq%8 == 0" in guards(graph)
    assert right_at(padded_where_needed, graph, 3, 40)


def test_a_shape_that_only_multiples_have_is_traced_at_the_default() -> None:
    graph = traced(in_fours)
    assert roads(graph) == ("symbolic", "symbolic")
    assert "seq%(seq//4) == 0" in guards(graph)
    assert right_at(in_fours, graph, 3, 64)


@pytest.mark.parametrize(
    ("run", "name", "reason"),
    [
        (silently_longer_than_100, "seq", "runs other ops at seq=112 than at seq=16"),
        (step_by_step, "seq", "runs other ops at seq="),
        (squared, "seq", "is invalid for input of size"),
        (only_four, "batch", "ValueError: a batch of four"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_size_that_cannot_be_left_open_is_fixed_at_its_default(
    run: Forward, name: str, reason: str
) -> None:
    graph = traced(run)
    symbol = graph.symbol(name)
    assert symbol is not None
    assert symbol.how == "fixed"
    assert symbol.default.value == {"batch": 4, "seq": 16}[name]
    assert reason in graph.provenance[f"{name} fixed because"]
    assert all(name not in storage.elements.symbols for storage in graph.storages)
    assert right_at(run, graph, 4, 16)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda m, x: x[:, : int(x.sum().item())], "in its forward: a size or branch depends on the values"),
        (lambda m, x: m.linear(x) if x.sum() > 0 else x, "depends on the values of a tensor"),
        (lambda m, x: m.linear(x[x.sum(-1) > 0]), "depends on data; pass it as a forward argument"),
        (lambda m, x: x @ m.linear.weight[:3], r"in its forward: RuntimeError: .*reduction dim"),
        (lambda m, x: m.linear(x.transpose(0, 1)[..., :4]), "in module 'linear': RuntimeError: "),
        (lambda m, x: m.missing(x), "AttributeError: 'Linear' object has no attribute 'missing'"),
        (lambda m, x: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda m, x: m.linear(x).to(torch.float8_e8m0fnu), "dtype torch.float8_e8m0fnu is not known"),
    ],
)
def test_a_module_that_cannot_run_is_explained_in_one_line(run: Forward, message: str) -> None:
    with pytest.raises(GraphError, match=message) as refused:
        traced(run)
    assert str(refused.value).startswith("Linear cannot be traced: ")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_data_that_a_module_keeps_may_decide_sizes() -> None:
    graph = traced(lambda m, x: m.linear(x)[:, : int(m.three)] * m.half.item())
    assert roads(graph) == ("symbolic", "symbolic")
    assert guards(graph) == {"seq >= 3", "seq*8 != 24"}


def test_a_count_that_depends_on_data_is_a_forward_argument() -> None:
    class Kept(nn.Module):
        def forward(self, x: Tensor, kept: int) -> Tensor:
            return x.topk(kept, dim=1).values.relu()

    graph = trace_own(
        Kept(), {"x": ("batch", "seq", 8), "kept": SymbolValue("kept")}, sizes={"seq": 64, "kept": 16}
    )
    assert {symbol.name: symbol.how for symbol in graph.symbols} == dict.fromkeys(
        ("batch", "seq", "kept"), "symbolic"
    )
    assert "kept <= seq" in guards(graph)
    assert graph.nodes[-1].operator.outputs[0].elements.text == "batch*kept*8"


def test_a_module_that_reads_values_while_it_is_built_is_built_for_real() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            rates = [rate.item() for rate in torch.linspace(0, 0.3, 3)]
            self.blocks = nn.ModuleList(nn.Linear(8, 8) for rate in rates if rate < 0.25)

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = block(x)
            return x

    symbols = {"n": SizeSymbol(name="n", default=number(2), minimum=number(1))}
    graph = trace_module(Deep, Example((Input(("n", 8), "model"),)), symbols=symbols)
    assert [node.operator.kind for node in graph.nodes] == ["gemm", "gemm"]
    assert graph.parameters == 2 * (64 + 8)


def test_a_built_module_is_left_as_it_was() -> None:
    module = Linear(plain).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    graph = trace_own(module, {"x": ("batch", 8)})
    assert module.training
    assert not module._forward_hooks
    assert not module._forward_pre_hooks
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert graph.parameters == 72


def test_a_module_on_the_meta_device_is_traced_without_its_weights() -> None:
    with torch.device("meta"):
        module = nn.Linear(8, 8)
    graph = trace_own(module, {"input": ("batch", 8)})
    assert (graph.parameters, [node.operator.kind for node in graph.nodes]) == (72, ["gemm"])


def test_torchs_own_encoder_takes_no_fast_path() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    graph = trace_own(
        nn.TransformerEncoder(layer, 2), {"src": ("batch", "seq", 16)}, sizes={"batch": 2, "seq": 9}
    )
    kinds = [node.operator.kind for node in graph.nodes]
    assert kinds.count("attention") == 2
    assert kinds.count("gemm") == 2 * 4
    assert roads(graph) == ("symbolic", "symbolic")


def test_the_process_is_as_before_after_a_trace_that_fails() -> None:
    before = (torch.get_default_dtype(), nn.functional.scaled_dot_product_attention, nn.functional.rms_norm)
    with pytest.raises(GraphError):
        traced(lambda m, x: 1 / 0)
    after = (torch.get_default_dtype(), nn.functional.scaled_dot_product_attention, nn.functional.rms_norm)
    assert before == after
    assert type(torch.empty(1)) is Tensor


def test_a_point_outside_a_condition_is_refused_or_traced_again() -> None:
    graph = traced(longer_than_100)
    with pytest.raises(HwsimError, match=r"needs seq <= 100, which seq=101 breaks"):
        hwsim.estimate(graph, "h100-sxm", seq=101)
    with pytest.raises(HwsimError, match="image%224 == 0, which image=225 breaks"):
        hwsim.estimate("swin-t", "h100-sxm", image=225)
    assert hwsim.estimate(graph, "h100-sxm", seq=100).flops == 2 * 4 * 100 * 8 * 8


def test_a_size_of_a_fixed_graph_cannot_be_changed() -> None:
    graph = traced(step_by_step)
    assert hwsim.estimate(graph, "h100-sxm", seq=16).flops == 2 * 4 * 16 * 8 * 8
    with pytest.raises(HwsimError, match="size 'seq' of this graph is fixed at 16"):
        hwsim.estimate(graph, "h100-sxm", seq=17)


def test_sizes_of_one_and_zero_are_answered_like_any_other() -> None:
    """What a trace had to exclude is traced again as a plain number."""
    one = hwsim.estimate("gpt2", "h100-sxm", phase="decode", batch=1, context=0)
    assert one.flops == pytest.approx(12 * (2 * 12 * 768**2 + 4 * 768) + 2 * 768 * 50257)


def test_attention_called_by_an_imported_name_is_one_operator() -> None:
    from torch.nn.functional import scaled_dot_product_attention as attend

    def run(m: Linear, x: Tensor) -> Tensor:
        return attend(x, x, x, is_causal=True) + torch._C._nn.scaled_dot_product_attention(x, x, x)

    nodes = traced(run).nodes
    masks = [n.operator.attribute("mask") for n in nodes if n.operator.kind == "attention"]
    assert masks == ["causal", "none"]
