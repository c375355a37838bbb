"""Passes keep the work: precision changes widths, attention its traffic, fusion only what reaches memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from graphs.expressions import evaluate
from graphs.ir import OperatorGraph
from graphs.own import trace_own
from graphs.passes.attention import apply_attention
from graphs.passes.cache import copy_cache
from graphs.passes.fusion import fuse
from graphs.passes.precision import apply_precision
from graphs.trace import trace
from graphs.work import work_of
from graphs.workload import Precision, dtype_bits
from tests.graph_checks import arithmetic, built_in, default_sizes, flop, moved_bytes, peak_bytes

pytestmark = pytest.mark.needs_torch
BUILT_IN = [
    ("bert-base", "forward"),
    ("gpt2", "forward"),
    ("gpt2", "prefill"),
    ("gpt2", "decode"),
    ("llama-3-8b", "decode"),
    ("llama-3-8b", "prefill"),
    ("mixtral-8x7b", "decode"),
    ("vit-b-16", "forward"),
    ("swin-t", "forward"),
    ("t5-base", "prefill"),
]
KERNELS = ("as_written", "math", "flash")


def kinds(graph: OperatorGraph) -> Counter[str]:
    return Counter(node.operator.kind for node in graph.nodes)


def members(graph: OperatorGraph) -> list[list[str]]:
    """Names of the ops in each node."""
    return [
        [one.name.removeprefix("aten.") for one in node.operator.members or (node.operator,)]
        for node in graph.nodes
    ]


class Calls(nn.Module):
    """Runs a function of itself and its inputs; has a linear and a norm of 8."""

    def __init__(self, run: Callable[..., object]) -> None:
        super().__init__()
        self.run, self.linear, self.norm = run, nn.Linear(8, 8), nn.LayerNorm(8)
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> object:
        return self.run(self, x)


def traced(run: Callable[..., object]) -> OperatorGraph:
    return trace_own(Calls(run), {"x": ("n", 8)}, sizes={"n": 4})


# precision


def test_precision_changes_the_width_of_each_role_and_no_work() -> None:
    graph = built_in("gpt2", "decode")
    sizes = default_sizes("gpt2", "decode")
    wanted = Precision(activations="bf16", weights="int4:g128", kv="fp8")
    changed = apply_precision(graph, wanted)
    assert arithmetic(changed, sizes) == arithmetic(graph, sizes)
    assert changed.dtype == "bf16"
    by_role = {(s.role, s.dtype) for s in changed.storages if s.dtype != "int64"}
    assert by_role == {("weight", "int4:g128"), ("kv", "fp8"), ("activation", "bf16")}
    assert {s.dtype for s in changed.storages if s.role == "input"} == {"int64"}
    assert [s.elements for s in changed.storages] == [s.elements for s in graph.storages]


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("fp32", 32), ("bf16", 16), ("fp8", 8), ("int4", 4), ("int4:g128", 4.125)],
)
def test_widths_include_the_scales_of_groups(dtype: str, bits: float) -> None:
    assert dtype_bits(dtype) == bits


def test_half_precision_halves_the_bytes_of_a_float_model() -> None:
    graph = built_in("vit-b-16", "forward")
    half = apply_precision(graph, Precision(activations="fp16"))
    assert moved_bytes(half, {"batch": 3}) == moved_bytes(graph, {"batch": 3}) / 2
    assert peak_bytes(half, {"batch": 3}) == peak_bytes(graph, {"batch": 3}) / 2


def test_what_a_model_computes_in_float32_on_purpose_stays_so() -> None:
    graph = built_in("llama-3-8b", "decode")
    changed = apply_precision(graph, Precision(activations="fp8"))
    angles = [s for s in graph.storages if s.dtype == "fp32"]
    assert angles
    assert [s.dtype for s in changed.storages if s.dtype == "fp32"] == ["fp32"] * len(angles)


def test_the_models_own_precision_changes_nothing() -> None:
    graph = built_in("gpt2", "decode")
    assert apply_precision(graph, Precision()) is graph
    assert apply_precision(graph, Precision(activations="fp32", weights="fp32")) is graph


# attention


def one_attention(causal: bool = False) -> OperatorGraph:
    def run(module: Calls, x: Tensor) -> Tensor:
        heads = x.view(1, 1, -1, 8)
        return nn.functional.scaled_dot_product_attention(heads, heads, heads, is_causal=causal)

    return traced(run)


def test_math_adds_two_score_matrices_to_memory_and_traffic() -> None:
    graph = one_attention()
    math = apply_attention(graph, "math")
    n = 100
    assert [node.operator.name for node in math.nodes] == ["aten.bmm", "aten._softmax", "aten.bmm"]
    assert flop(math, {"n": n}) == flop(graph, {"n": n}) == 2 * n * n * (8 + 8)
    scores, operand = 4 * n * n, 4 * n * 8
    assert moved_bytes(graph, {"n": n}) == 4 * operand
    assert moved_bytes(math, {"n": n}) == 4 * operand + 4 * scores  # each is written and read
    assert peak_bytes(math, {"n": n}) - peak_bytes(graph, {"n": n}) == 2 * scores


def test_math_masks_the_scores_where_they_lie() -> None:
    math = apply_attention(one_attention(causal=True), "math")
    assert [node.operator.name for node in math.nodes] == [
        "aten.bmm", "aten.masked_fill", "aten._softmax", "aten.bmm"
    ]  # fmt: skip
    assert math.nodes[1].reads == math.nodes[1].writes == math.nodes[0].writes


@pytest.mark.parametrize("kernel", ["flash", "flash_split_kv", "flash_decoding", "stream_k"])
def test_no_fused_kernel_has_a_score_matrix(kernel: str) -> None:
    graph = built_in("llama-3-8b", "prefill")
    fused = apply_attention(graph, kernel)
    assert kinds(fused)["attention"] == 32
    touched = {storage for node in fused.nodes for storage in (*node.reads, *node.writes)}
    for elements in {fused.storages[storage].elements for storage in touched}:
        short, long = (evaluate(elements, {"batch": 1, "seq": n, "context": 0}) for n in (1000, 2000))
        assert long <= 2 * short


def test_ops_that_only_made_a_causal_mask_disappear_under_flash() -> None:
    graph = built_in("gpt2", "prefill")
    flash = apply_attention(graph, "flash")
    gone = Counter(n.operator.name for n in graph.nodes) - Counter(n.operator.name for n in flash.nodes)
    assert gone == {"aten.ones": 1, "aten.tril": 1}
    assert {len(n.reads) for n in flash.nodes if n.operator.kind == "attention"} == {3}
    sizes = default_sizes("gpt2", "prefill")
    assert arithmetic(flash, sizes)[0] == arithmetic(graph, sizes)[0]


def test_a_mask_that_is_not_causal_is_read_by_every_kernel() -> None:
    graph = built_in("t5-base", "forward")
    for kernel in KERNELS:
        passed = apply_attention(graph, kernel)
        reads = {len(n.reads) for n in passed.nodes if n.operator.kind == "attention"}
        assert reads == (set() if kernel == "math" else {3, 4})  # cross-attention has no bias
        assert kinds(passed)["create"] == kinds(graph)["create"]


@pytest.mark.parametrize(("name", "phase"), BUILT_IN)
def test_the_graph_of_eager_is_the_graph_as_written(name: str, phase: str) -> None:
    graph = built_in(name, phase)
    assert apply_attention(graph, "as_written") is graph


# fusion


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("name", "phase"), BUILT_IN)
def test_fusion_keeps_all_work_and_never_moves_or_holds_more(name: str, phase: str, kernel: str) -> None:
    graph = apply_attention(built_in(name, phase), kernel)
    known = {symbol.name for symbol in graph.symbols}
    one = {"batch": 1, "seq": 1, "context": 0, "source": 1}
    for point in ({}, one, {"batch": 7, "seq": 33, "context": 5, "source": 90}):
        sizes = default_sizes(name, phase, **{key: at for key, at in point.items() if key in known})
        assert_lawful(graph, sizes)


def assert_lawful(graph: OperatorGraph, sizes: dict[str, float]) -> None:
    plain, whole = fuse(graph, epilogue=False), fuse(graph)
    ops = sum(len(names) for names in members(graph))
    for fused in (plain, whole):
        assert len(fused.nodes) <= len(graph.nodes)
        assert sum(len(names) for names in members(fused)) == ops
        assert arithmetic(fused, sizes) == pytest.approx(arithmetic(graph, sizes), rel=1e-14)
        assert moved_bytes(fused, sizes) <= moved_bytes(graph, sizes) * (1 + 1e-14)
        assert peak_bytes(fused, sizes) <= peak_bytes(graph, sizes) * (1 + 1e-14)
        assert_ordered(fused)


def test_a_kernel_starts_while_others_still_hold_what_its_first_op_saw() -> None:
    """The first sum is dropped between the second product and the last sum, which would have fused."""

    def run(module: Calls, x: Tensor) -> list[Tensor]:
        values = [x + 1]
        values.append(module.linear(values[0]))
        values.append(module.linear(values[1]))
        del values[0]
        return [values[1], values[1] + values.pop(0)]

    assert_lawful(traced(run), {"n": 2})


def assert_ordered(fused: OperatorGraph) -> None:
    """Nothing is read before it is written."""
    written = {i for i, s in enumerate(fused.storages) if s.allocated_at < 0}
    later = {s for node in fused.nodes for s in node.writes}
    for node in fused.nodes:
        assert not (set(node.reads) - written - set(node.writes)) & later, node
        written.update(node.writes)


def test_an_elementwise_chain_is_one_kernel_that_reads_and_writes_once() -> None:
    fused = fuse(traced(lambda m, x: ((x + 1) * 2).exp().relu()))
    assert members(fused) == [["add", "mul", "exp", "relu"]]
    assert moved_bytes(fused, {"n": 10}) == 2 * 4 * 80
    assert arithmetic(fused, {"n": 10}) == (0, 3 * 80, 80)


def test_an_epilogue_joins_its_matrix_product_only_when_asked() -> None:
    graph = traced(lambda m, x: m.linear(x).relu() + x)
    assert members(fuse(graph)) == [["addmm", "relu", "add"]]
    assert members(fuse(graph, epilogue=False)) == [["addmm"], ["relu", "add"]]


def test_a_norm_joins_the_sum_before_it_and_both_results_are_written() -> None:
    def run(module: Calls, x: Tensor) -> Tensor:
        total = module.linear(x).relu() + x
        return module.linear(module.norm(total)) + total

    fused = fuse(traced(run), epilogue=False)
    assert members(fused) == [["addmm"], ["relu", "add", "native_layer_norm"], ["addmm"], ["add"]]
    norm = fused.nodes[1]
    assert len(norm.writes) == 2
    assert moved_bytes(fused, {"n": 10}) == 4 * (
        2 * (80 + 64 + 8 + 80)  # two products with bias
        + (80 + 80 + 8 + 8 + 80 + 80)  # product, x, gain, bias -> sum, normed
        + (80 + 80 + 80)
    )


def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([-second, first], dim=-1) * sine


def test_a_rotary_embedding_is_one_kernel() -> None:
    fused = fuse(traced(lambda m, x: rotated(m.linear(x), m.scale, m.scale).exp()), epilogue=False)
    assert members(fused) == [["addmm"], ["mul", "neg", "cat", "mul", "add", "exp"]]
    assert moved_bytes(fused, {"n": 10}) == 4 * ((80 + 64 + 8 + 80) + (80 + 8 + 80))


def test_llama_rotates_queries_and_keys_in_one_kernel_each() -> None:
    fused = fuse(apply_attention(built_in("llama-3-8b", "decode"), "flash"))
    rotary = [names for names in members(fused) if names == ["mul", "neg", "cat", "mul", "add"]]
    assert len(rotary) == 2 * 32


def test_a_stream_does_not_move_past_what_overwrites_its_input() -> None:
    def run(module: Calls, x: Tensor) -> Tensor:
        x = x + 0
        early = x * 2  # must read x before it is overwritten
        other = module.linear(x)
        x.mul_(3)
        return (module.linear(other + x) + early).exp()

    graph = traced(run)
    fused = fuse(graph, epilogue=False)
    (early,) = (i for i, names in enumerate(members(fused)) if "mul" in names)
    (overwrites,) = (i for i, names in enumerate(members(fused)) if "mul_" in names)
    assert early < overwrites


def test_an_op_does_not_move_before_what_still_reads_what_it_overwrites() -> None:
    def run(module: Calls, x: Tensor) -> Tensor:
        a = x + 1
        b = module.linear(a)  # reads a
        a.relu_()  # would join the sum, but b comes first
        return b + a

    assert members(fuse(traced(run), epilogue=False)) == [["add"], ["addmm"], ["relu_", "add"]]


def test_two_parts_of_one_value_are_read_as_its_whole() -> None:
    def run(module: Calls, x: Tensor) -> Tensor:
        gate, up = (x @ x.t() @ x).chunk(2, dim=-1)
        return gate.sigmoid() * up

    fused = fuse(traced(run), epilogue=False)
    assert members(fused)[-1] == ["sigmoid", "mul"]
    last = fused.nodes[-1].operator
    assert [amount.text for amount in work_of(last).reads] == ["n*8"]
    assert [amount.text for amount in work_of(last).writes] == ["n*4"]


def test_a_constant_shaped_like_a_value_does_not_read_it() -> None:
    def run(module: Calls, x: Tensor) -> Tensor:
        total = module.linear(x)
        return torch.zeros_like(total) + total * 2

    fused = fuse(traced(run), epilogue=False)
    assert members(fused) == [["addmm"], ["zeros_like", "mul", "add"]]
    assert moved_bytes(fused, {"n": 10}) == 4 * ((80 + 64 + 8 + 80) + (80 + 80))


def test_a_kernel_writes_over_an_input_that_dies_in_it() -> None:
    def run(module: Calls, x: Tensor) -> Tensor:
        a = module.linear(x)
        b = a.exp()
        del a
        return module.linear(b.relu())

    graph = traced(run)
    fused = fuse(graph, epilogue=False)
    product, chain = fused.nodes[0], fused.nodes[1]
    assert members(fused)[1] == ["exp", "relu"]
    assert fused.storages[product.writes[0]].freed_at == chain.at - 1
    assert graph.storages[product.writes[0]].freed_at >= chain.at


STEPS: dict[str, Callable[[Calls, list[Tensor]], Tensor]] = {
    "add": lambda m, v: v[-1] + v[-2],
    "mul": lambda m, v: v[-1] * v[0],
    "exp": lambda m, v: v[-1].exp(),
    "scale": lambda m, v: v[-1] * m.scale,
    "relu_": lambda m, v: v[-1].relu_() if v[-1] is not v[0] else v[-1].relu(),
    "linear": lambda m, v: m.linear(v[-1]),
    "norm": lambda m, v: m.norm(v[-2]),
    "softmax": lambda m, v: v[-1].softmax(-1),
    "half": lambda m, v: torch.cat([v[-1][:, :4], v[-2][:, 4:]], dim=-1),
    "rotate": lambda m, v: rotated(v[-1], m.scale, m.scale),
    "greater": lambda m, v: torch.where(v[-1] > 0, v[-1], v[-2]),
    "double": lambda m, v: v[-1].double().sin().float(),
    "mean": lambda m, v: v[-1] - v[-1].mean(-1, keepdim=True),
    "zeros": lambda m, v: torch.zeros_like(v[-1]) + v[-2],
    "write": lambda m, v: v[-2].clone().copy_(v[-1]),
    "part": lambda m, v: torch.cat([v[-1][:1] * 2, v[-1][1:]], dim=0),
}


@settings(max_examples=60)
@given(
    steps=st.lists(st.sampled_from(sorted(STEPS)), min_size=2, max_size=14),
    kept=st.integers(2, 6),
    results=st.integers(1, 3),
    n=st.integers(2, 50),
)
def test_fusion_of_any_small_module_is_lawful(steps: list[str], kept: int, results: int, n: int) -> None:
    def run(module: Calls, x: Tensor) -> list[Tensor]:
        values = [x, x + 1]
        for step in steps:
            values.append(STEPS[step](module, values))
            del values[1:-kept]  # what python drops, dies
        return values[-results:]

    graph = trace_own(Calls(run), {"x": ("n", 8)}, sizes={"n": 4}, fixed={"n": n})
    assert_lawful(graph, {"n": n})


def test_a_cache_that_torch_grows_is_copied_whole() -> None:
    """Keys and values of every layer: the old entries read, the new one, and all of them written."""
    graph = trace("gpt2", phase="decode")
    appended = [node for node in graph.nodes if node.operator.kind == "kv_append"]
    found = copy_cache(graph)
    copies = [node.operator for node in found.nodes if node.operator.name == "aten.cat"]
    assert [node.at for node in found.nodes] == [node.at for node in graph.nodes]
    assert len(copies) == len(appended) == 24
    sizes = {"batch": 2, "context": 10}
    work = work_of(copies[0])
    assert sum(evaluate(part, sizes) for part in work.reads) == 2 * 768 * 11
    assert sum(evaluate(part, sizes) for part in work.writes) == 2 * 768 * 11
