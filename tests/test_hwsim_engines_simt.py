"""What GPU kernels do beyond tiles and bytes: softmax rows, library menus, blocks that begin, narrow keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwsim
from devices import stack
from graphs import kernels
from graphs.expressions import number, symbol
from graphs.ir import ACTIVATION, INPUT, WEIGHT, Operator, OperatorGraph
from hwsim.engines.demand import AttentionRows
from hwsim.engines.simt import visible_keys
from hwsim.fitted import coefficients_for, places_of
from hwsim.measurements.gemm import TURNS
from hwsim.measurements.predicting import questions_of
from hwsim.result import Estimate
from hwsim.uncertainty import Z80
from tests.toys import attention_graph
from tests.toys import toy as toy_device


def kernel_s(
    graph: OperatorGraph, device: Any, changes: dict[str, float] | None = None, **sizes: float
) -> float:
    """Seconds of one kernel with some coefficients changed."""
    overrides = {f"coefficient.{name}": value for name, value in (changes or {}).items()}
    found = hwsim.estimate(graph, device, stack=stack("kernel"), overrides=overrides, **sizes)
    assert isinstance(found, Estimate)
    return float(found.latency_s)


@pytest.mark.parametrize(("slowdown", "least", "most"), [(1.0, 1.0, 1.01), (100.0, 2.0, 200.0)])
def test_a_softmax_row_that_no_warp_holds_is_read_again(slowdown: float, least: float, most: float) -> None:
    graph, changes = kernels.elementwise("softmax", "fp32", 1), {"long_row_slowdown": slowdown}
    short, long = (kernel_s(graph, "v100-pcie-32gb", changes, rows=65536, cols=c) for c in (1024, 1025))
    assert least <= long / short <= most


def test_a_batch_of_small_products_on_lanes_pays_for_whole_tiles() -> None:
    """The only kernel of the library works on 128 x 128 results; a single product has smaller ones."""
    batched, single = kernels.gemm("fp32", batched=True), kernels.gemm("fp32")
    changes = {"batched_lane_tile": 16384.0}
    small, large = (
        kernel_s(batched, "a100-40gb-pcie", changes, b=864, m=side, n=side, k=4096) for side in (16, 128)
    )
    assert small > 0.7 * large
    assert kernel_s(single, "a100-40gb-pcie", changes, m=16, n=16, k=4096) < 0.2 * small


def depthwise(channels: int) -> OperatorGraph:
    """A 3 x 3 convolution of every channel by itself on `places` positions, in half precision."""
    places = symbol("places")
    data, out = (kernels.spec_of((channels, places), "fp16", role) for role in (INPUT, ACTIVATION))
    weight = kernels.spec_of((channels, 1, 9), "fp16", WEIGHT)
    dims = (("b", number(channels)), ("m", places), ("n", number(1)), ("k", number(9)))
    one = Operator("conv", "aten.convolution", dims, (data, weight), (out,), (("groups", str(channels)),))
    return kernels.graph_of("depthwise", "fp16", [(one, (0, 1), (2,))])


def test_a_depthwise_convolution_streams_instead_of_filling_tiles() -> None:
    """Inputs and results once at the bandwidth of the memory; as tiles it would take 30 times that."""
    places = 64 * 56 * 56
    streamed = 2 * 2 * 256 * places / 1.555e12
    found = hwsim.estimate(depthwise(256), "a100-40gb-sxm", places=places, stack=stack("kernel"))
    assert isinstance(found, Estimate)
    assert found.ops[0].choice == "direct"
    assert streamed < float(found.latency_s) < 2 * streamed


@pytest.mark.slow
@pytest.mark.needs_torch
@pytest.mark.parametrize(
    ("model", "batch", "measured_s"),
    [("efficientnet-b0", 1024, 0.1531), ("efficientnet-b5", 256, 0.6343), ("convnext-t", 1024, 0.3428)],
)
def test_networks_of_depthwise_convolutions_take_what_was_measured(
    model: str, batch: int, measured_s: float
) -> None:
    """timm's table for an RTX 3090, eager in half precision; nothing was fitted to it."""
    found = hwsim.estimate(model, "rtx-3090", batch=batch, dtype="fp16", stack="eager")
    assert isinstance(found, Estimate)
    assert float(found.latency_s) == pytest.approx(measured_s, rel=0.2)


def test_decoding_packs_the_heads_of_a_group_and_prefill_does_not(tmp_path: Path) -> None:
    """10 units, 10 sequences: a block for 8 heads that decode, 8 blocks for heads that prefill."""
    device = toy_device(tmp_path, "simt")
    changes = {"block_begin_cycle": 1e12, "kernel_ramp_s": 0.0, "blocks_together": 1.0}
    times = [
        kernel_s(attention_graph(), device, changes, batch=10, sets=1, group=8, q=q, k=64, d=64)
        for q in (1, 9)
    ]
    assert times[1] / times[0] == pytest.approx(8.0, rel=0.01)


def test_further_blocks_begin_while_others_of_a_unit_work(tmp_path: Path) -> None:
    """10 units, 100 blocks: ten begin on a unit, of which nine share their time with those beside them."""
    device = toy_device(tmp_path, "simt")
    times = [
        kernel_s(
            attention_graph(), device,
            {"block_begin_cycle": 1e12, "kernel_ramp_s": 0.0, "blocks_together": together},
            batch=100, sets=1, group=8, q=1, k=64, d=64,
        )
        for together in (1.0, 3.0)
    ]  # fmt: skip
    assert times[0] / times[1] == pytest.approx(10 / (1 + 9 / 3), rel=0.01)


def test_weights_stored_narrower_than_activations_slow_the_main_loop_and_keys_do_not() -> None:
    sizes = {"m": 4096.0, "n": 4096.0, "k": 4096.0}
    plain, slow = (
        kernel_s(kernels.gemm("bf16", "int8"), "h100-sxm", {"widening_slowdown": v}, **sizes)
        for v in (1.0, 3.0)
    )
    assert slow / plain == pytest.approx(3.0, rel=0.15)
    heads = {"batch": 8.0, "heads": 32.0, "kv_heads": 32.0, "head_dim": 128.0}
    wide, narrow = (
        kernel_s(kernels.attention("bf16", kv), "h100-sxm", {}, q_len=2048.0, kv_len=2048.0, **heads)
        for kv in ("bf16", "fp8")
    )
    assert 0.9 * wide < narrow <= wide


def test_coefficients_go_from_a_kind_of_memory_to_a_device() -> None:
    assert places_of(hwsim.device("l4")) == ("gddr", "nvidia", "ada", "l4")
    assert places_of(hwsim.device("mi210")) == ("hbm", "amd", "cdna2", "mi210")


def test_the_interval_of_a_kernel_is_that_of_its_kind() -> None:
    c = coefficients_for(hwsim.device("h100-sxm"))
    for graph, kind, sizes in (
        (kernels.gemm("bf16"), "gemm", {"m": 4096, "n": 4096, "k": 4096}),
        (kernels.elementwise("add", "bf16", 2), "stream", {"rows": 4096, "cols": 4096}),
    ):
        found = hwsim.estimate(graph, "h100-sxm", **sizes)
        assert isinstance(found, Estimate)
        expected = Z80 * np.hypot(c["log_sigma"], c[f"{kind}_log_sigma"])
        assert found.log_spread == pytest.approx(expected)


def test_products_whose_activations_are_quantised_on_the_fly_pay_for_it(tmp_path: Path) -> None:
    lines = ["device,framework,dtype,m,n,k,latency_us"]
    lines += [
        f"NVIDIA H200,{engine},{dtype},512,512,512,9"
        for engine in ("vllm", "trtllm")
        for dtype in ("fp8", "bfloat16")
    ]
    (tmp_path / "gemm.csv").write_text("\n".join(lines) + "\n")
    found = {
        q.op + str(int(q.rows[0])): [(n.operator.name, p.repeats) for p in q.parts for n in p.graph.nodes]
        for q, _ in questions_of(tmp_path / "gemm.csv")
        if all(isinstance(p.graph, OperatorGraph) for p in q.parts)
    }
    turns = [("aten.mm", 1 / TURNS)] * TURNS
    assert found == {
        "gemm fp80": [*turns, ("hwsim.quantise", 1.0)],
        "gemm bfloat161": turns,
        "gemm fp82": [*turns, ("aten.mul", 2.0)],
        "gemm bfloat163": turns,
    }


def test_weights_that_take_turns_stay_in_a_cache_only_when_it_holds_all_of_them() -> None:
    """An H100's 50 MB hold five matrices of 2 MB, not five of 19 MB; of one matrix they hold either."""
    turns = {
        copies: hwsim.estimate(
            kernels.gemm("bf16", copies=copies), "h100-sxm", stack="kernel", warm=True, m=8,
            n=np.array([1024.0, 3072.0]), k=np.array([1024.0, 3072.0]),
        )
        for copies in (1, TURNS)
    }  # fmt: skip
    weights = np.array([1024.0**2, 3072.0**2]) * 2
    assert np.all(turns[1].dram_bytes < 0.1 * weights)
    assert turns[TURNS].dram_bytes[0] < 0.1 * weights[0]
    assert turns[TURNS].dram_bytes[1] >= TURNS * weights[1]


def test_looking_for_the_largest_value_of_a_row_waits_where_memory_is_fast() -> None:
    """It takes an SM as long as a norm: beyond the copy on an H200, hidden behind slow memory."""
    sizes = {"rows": 8192, "cols": 4096}
    slower = {
        device: kernel_s(kernels.quantise("bf16", "fp8", by_row=True), device, **sizes)
        / kernel_s(kernels.quantise("bf16", "fp8"), device, **sizes)
        for device in ("h200-sxm", "rtx-pro-6000")
    }
    assert slower["h200-sxm"] > 2
    assert slower["rtx-pro-6000"] < slower["h200-sxm"] / 1.5


@pytest.mark.parametrize(
    ("queries", "keys", "window"), [(1, 5000, 128), (1024, 1024, 128), (2048, 6000, 1024)]
)
def test_a_window_leaves_as_many_keys_as_one_counts(queries: int, keys: int, window: int) -> None:
    """Query by query: itself and the window - 1 keys before it, as far as there are any."""
    one = np.ones((1, 1))
    rows = AttentionRows(
        heads=one, kv_heads=one, q_len=queries * one, kv_len=keys * one, head_dim=one, value_dim=one,
        causal=one, byte=one, query_byte=one, window=window * one,
    )  # fmt: skip
    counted = np.minimum(keys - queries + 1 + np.arange(queries), window).mean()
    assert visible_keys(rows, 1.0)[0, 0] == pytest.approx(counted, rel=1e-3)


def test_a_window_saves_time_in_long_prompts_and_none_in_short_ones() -> None:
    """What a 16 k prompt saves is most of it; a prompt within the window costs what it did."""
    sizes = {"batch": 1, "heads": 32, "kv_heads": 8, "head_dim": 128}
    length = np.array([512.0, 1024.0, 16384.0])
    whole, cut = (
        hwsim.estimate(kernels.attention("bf16", causal=True, windowed=windowed), "h100-sxm", stack="kernel",
                       q_len=length, kv_len=length, **sizes, **({"window": 1024} if windowed else {}))
        for windowed in (False, True)
    )  # fmt: skip
    saved = whole.latency_s / cut.latency_s
    assert saved[:2] == pytest.approx([1.0, 1.0], rel=1e-6)
    assert saved[2] > 4
    assert cut.dram_bytes[2] == pytest.approx(whole.dram_bytes[2])
    one = {**sizes, "q_len": 1, "kv_len": 16384}
    full = hwsim.estimate(kernels.attention("bf16", causal=True), "h100-sxm", stack="kernel", **one)
    near = hwsim.estimate(
        kernels.attention("bf16", windowed=True), "h100-sxm", stack="kernel", window=1024, **one
    )
    assert near.dram_bytes < full.dram_bytes / 12
