"""Laws of layouts over several devices, and hand-checked cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hwsim
from devices.cluster import cluster
from graphs.errors import GraphError
from graphs.expressions import Environment
from graphs.ir import OperatorGraph
from graphs.parallel import AXES, ONE, Parallel
from graphs.passes import sharding
from graphs.work import work_of
from hwsim.errors import HwsimError
from hwsim.estimating import bind
from hwsim.spreading import spread


def flop(graph: OperatorGraph) -> float:
    environment = Environment(bind(graph, {}))
    return sum(float(environment(work_of(node.operator).flop)) for node in graph.nodes)


def exchanges(graph: OperatorGraph) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in graph.nodes:
        if node.operator.kind == "collective":
            found[node.operator.name] = found.get(node.operator.name, 0) + 1
    return found


def priced(model: str, phase: str = "prefill", machine: str = "dgx-h100", **parts: Any) -> hwsim.Estimate:
    found: hwsim.Estimate = hwsim.estimate(
        model, machine, phase=phase, batch=4, dtype="bf16", parallel=Parallel(**parts)
    )
    return found


LAYOUTS: tuple[dict[str, Any], ...] = (
    {"tp": 2}, {"tp": 4, "sp": 4}, {"sp": 2, "sequence": "ring"}, {"sp": 2, "sequence": "ulysses"},
    {"pp": 3}, {"dp": 2}, {"tp": 2, "pp": 2, "dp": 2},
)  # fmt: skip


def test_one_rank_of_every_axis_is_one_device() -> None:
    alone = hwsim.estimate("gpt2", "h100-sxm", phase="prefill", batch=4, dtype="bf16")
    spread_out = hwsim.estimate("gpt2", "h100-sxm", phase="prefill", batch=4, dtype="bf16", parallel=ONE)
    assert alone.to_dict() == spread_out.to_dict()
    (stage,) = spread(hwsim.trace("gpt2", phase="prefill"), ONE)
    assert stage.graph is hwsim.trace("gpt2", phase="prefill")


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_flop_of_all_ranks_are_those_of_the_whole(layout: dict[str, Any]) -> None:
    graph = hwsim.trace("gpt2", phase="forward")
    parallel = Parallel(**layout)
    ranks = parallel.devices / parallel.pp
    found = sum(stage.count * ranks * flop(stage.graph) for stage in spread(graph, parallel))
    padded = 1 + 3 / 50257  # a vocabulary that ranks do not divide
    assert found == pytest.approx(parallel.dp * flop(graph), rel=padded - 1)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_n_devices_are_never_more_than_n_times_as_fast(layout: dict[str, Any]) -> None:
    alone, together = priced("gpt2-medium"), priced("gpt2-medium", **layout)
    speed = float(together.tokens_per_s / alone.tokens_per_s)
    assert together.devices == Parallel(**layout).devices
    assert speed <= together.devices * 1.02  # a rank's smaller operands may stay on chip


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_parts_of_the_time_add_up_to_it(layout: dict[str, Any]) -> None:
    found = priced("gpt2-medium", **layout)
    assert sum(found.breakdown_s.values()) == pytest.approx(found.latency_s, rel=1e-9)
    assert found.energy_by_j["link"] > 0 or Parallel(**layout).dp == found.devices


def test_a_decoder_needs_two_sums_a_layer_and_one_for_its_split_vocabulary() -> None:
    graph = hwsim.trace("llama-3-8b", phase="prefill")
    (stage,) = spread(graph, Parallel(tp=4))
    assert exchanges(stage.graph) == {"all_reduce": 2 * 32 + 1, "all_gather": 1}
    (stage,) = spread(graph, Parallel(tp=4, sp=4))
    assert exchanges(stage.graph) == {"reduce_scatter": 2 * 32 + 1, "all_gather": 2 * 32 + 2}


def test_a_ring_passes_keys_and_values_on_and_a_transposition_all_four() -> None:
    graph = hwsim.trace("gpt2", phase="forward")
    (ring,) = spread(graph, Parallel(sp=4, sequence="ring"))
    (ulysses,) = spread(graph, Parallel(sp=4, sequence="ulysses"))
    assert exchanges(ring.graph)["send"] == 2 * 12
    assert exchanges(ulysses.graph)["all_to_all"] == 4 * 12


def test_weights_and_cache_are_divided_by_the_tensor_ranks() -> None:
    alone = priced("llama-3-8b", "decode")
    four = priced("llama-3-8b", "decode", tp=4)
    assert four.memory_bytes["kv_cache"] == pytest.approx(alone.memory_bytes["kv_cache"] / 4)
    assert four.memory_bytes["weights"] == pytest.approx(alone.memory_bytes["weights"] / 4, rel=1e-3)


def test_fewer_key_heads_than_ranks_are_held_by_several() -> None:
    graph = hwsim.trace("llama-3-8b", phase="decode")  # 8 key heads
    (stage,) = spread(graph, Parallel(tp=16))
    attention = next(n.operator for n in stage.graph.nodes if n.operator.kind == "attention")
    assert [float(attention.dim(name).value or 0) for name in ("heads", "kv_heads")] == [2, 1]


@pytest.mark.parametrize("micro_batches", [1, 4, 12])
def test_the_bubble_of_a_pipeline_of_equal_stages_is_its_closed_form(micro_batches: int) -> None:
    from hwsim.joining import join

    alone = priced("gpt2")
    from hwsim.evaluate import Totals

    zero, one = np.zeros(1), np.ones(1)
    totals = Totals(
        latency_s=one * micro_batches, compute_s=one * micro_batches, memory_s=zero, overhead_s=zero,
        communication_s=zero, power_s=zero, once_s=zero, clock=one, energy={"static": one}, energy_kept=one,
        flops=one, flops_executed=one, dram_bytes=one, onchip_bytes=one, memory={"weights": one},
        kind_s={"gemm": one},
    )  # fmt: skip
    for schedule, interleave in (("gpipe", 1), ("1f1b", 1), ("interleaved", 2)):
        layout = Parallel(pp=4, micro_batches=micro_batches, schedule=schedule, interleave=interleave)  # type: ignore[arg-type]
        whole = join([totals], [4], layout)
        share = float(whole.bubble_s[0] / whole.totals.latency_s[0])
        assert share == pytest.approx(3 / (interleave * micro_batches + 3))
    assert alone.devices == 1


def test_stages_hold_every_layer_once_and_send_what_crosses() -> None:
    graph = hwsim.trace("gpt2", phase="prefill")
    found = spread(graph, Parallel(pp=3))
    assert sum(stage.count for stage in found) == 3
    compute = sum(
        stage.count * sum(n.operator.kind != "collective" for n in stage.graph.nodes) for stage in found
    )
    assert compute == len(graph.nodes)
    assert [exchanges(stage.graph).get("send", 0) for stage in found] == [0, 1, 1][: len(found)]


def test_tensor_ranks_send_a_share_each_and_gather_it() -> None:
    graph = hwsim.trace("gpt2", phase="prefill")
    sizes = Environment(bind(graph, {}))

    def crossing(tp: int) -> dict[str, float]:
        last = spread(graph, Parallel(pp=3, tp=tp))[-1].graph
        found = [n.operator for n in last.nodes if n.operator.attribute("axis") in ("pp", "tp")]
        return {one.name: float(sizes(one.dim("elements"))) for one in found[:2]}

    alone, split = crossing(1), crossing(2)
    assert split["send"] == alone["send"] / 2
    assert split["all_gather"] == alone["send"]


def test_what_micro_batches_under_way_keep_is_not_what_stands_from_step_to_step() -> None:
    few, many = (
        hwsim.estimate(
            "gpt2", "dgx-a100", phase="train", batch=1, seq=128,
            parallel={"pp": 4, "micro_batches": micro, "schedule": "gpipe"},
        )
        for micro in (4, 8)
    )  # fmt: skip
    assert many.memory_bytes["gradients"] == few.memory_bytes["gradients"]
    more = float(many.memory_bytes["activations"] - few.memory_bytes["activations"])
    kept = float(few.memory_bytes["activations"]) / 4  # of one micro-batch, at most
    assert 0 < more <= 4 * kept


def test_experts_are_dealt_and_tokens_travel_twice_a_layer() -> None:
    graph = hwsim.trace("mixtral-8x7b", phase="prefill")
    (stage,) = spread(graph, Parallel(ep=4))
    assert exchanges(stage.graph) == {"all_to_all": 2 * 32}
    weights = [
        sum(float(s.elements.value or 0) for s in g.storages if s.role == "weight")
        for g in (graph, stage.graph)
    ]
    experts = 8 * 3 * 4096 * 14336 * 32
    assert weights[0] - weights[1] == pytest.approx(experts * 3 / 4)


def test_layers_that_are_alike_are_split_alike_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every router stays whole; a walk over the graph for each of them is too many of a deep model."""
    monkeypatch.setattr(sharding, "MOST_WALKS", 4)
    graph = hwsim.trace("mixtral-8x7b", phase="prefill")
    (stage,) = spread(graph, Parallel(tp=4))
    assert exchanges(stage.graph) == {"all_reduce": 2 * 32 + 1, "all_gather": 1}
    sizes = bind(graph, {})
    routers = 2 * float(sizes["batch"] * sizes["seq"]) * 4096 * 8 * 32
    assert 4 * flop(stage.graph) == pytest.approx(flop(graph) + 3 * routers, rel=1e-9)


def test_an_uneven_load_of_experts_takes_longer() -> None:
    even, uneven = (priced("mixtral-8x7b", ep=4, imbalance=load) for load in (1.0, 1.5))
    assert uneven.latency_s > even.latency_s


def test_neighbours_are_tensor_ranks_and_stages_lie_farthest_apart() -> None:
    layout = Parallel(tp=8, pp=4, dp=2)
    assert [layout.stride(axis) for axis in AXES] == [1, 8, 8, 8, 16]
    assert layout.devices == 64


def test_links_may_be_what_ifs_over_many_points() -> None:
    rates = np.array([1e11, 3e11, 9e11])
    found = hwsim.estimate(
        "gpt2", cluster("dgx-h100"), phase="prefill", dtype="bf16", parallel={"tp": 4},
        overrides={"device.links.nvlink.bandwidth": rates},
    )  # fmt: skip
    assert found.latency_s.shape == (3,)
    assert np.all(np.diff(found.breakdown_s["communication"]) < 0)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"tp": 5}, "tp=5 does not divide the 12 attention heads of gpt2; take one of 1, 2, 3, 4, 6, 12"),
        (
            {"tp": 2, "sp": 4, "sequence": "megatron"},
            "sp=4 with tp=2: the tensor ranks split the tokens, so sp is 1 or 2",
        ),
        ({"pp": 13}, "pp=13 needs 13 layers; gpt2 has 12; take fewer stages"),
        ({"ep": 2}, "gpt2 has no experts to deal; ep is 1 for it"),
        ({"tp": 0}, "tp=0 is not possible; give a whole number of at least 1"),
        ({"zero": 4}, "zero=4 is unknown"),
    ],
)
def test_impossible_layouts_are_one_line(parts: dict[str, Any], message: str) -> None:
    with pytest.raises((GraphError, HwsimError), match=message):
        hwsim.estimate("gpt2", "dgx-a100-superpod", phase="prefill", parallel=parts)


def test_an_unknown_part_of_a_layout_names_the_known_ones() -> None:
    with pytest.raises(HwsimError, match=r"a layout has no 'tensor'; it has tp, pp, dp"):
        hwsim.estimate("gpt2", "dgx-h100", parallel={"tensor": 2})


def test_a_training_step_of_one_point_in_an_array_is_that_of_the_point() -> None:
    arguments: dict[str, Any] = {"phase": "train", "seq": 128, "parallel": {"tp": 2, "dp": 2, "zero": 1}}
    alone = hwsim.estimate("gpt2", "dgx-a100", batch=2, **arguments)
    row = hwsim.estimate("gpt2", "dgx-a100", batch=np.array([2.0]), **arguments)
    assert row.latency_s[0] == pytest.approx(alone.latency_s)
    assert row.memory_bytes["gradients"][0] == pytest.approx(alone.memory_bytes["gradients"])
    assert alone.memory_bytes["optimizer"] == pytest.approx(8 * alone.params / 4, rel=0.05)
