"""What the neighbours of a set-up buy."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import cli
import hwsim
from hwsim.advice import GOALS, Advice, Step
from hwsim.errors import HwsimError

pytestmark = pytest.mark.needs_torch
SERVING: dict[str, Any] = {"phase": "decode", "batch": 8, "context": 4096}


@functools.cache
def serving(goal: str = "latency") -> Advice:
    """A memory-bound decode of llama on an H100."""
    return hwsim.advise("llama-3-8b", "h100-sxm", goal=goal, **SERVING)


@functools.cache
def reading() -> Advice:
    """An arithmetic-bound forward pass in fp32 on a power-limited card."""
    return hwsim.advise("bert-base", "l4", batch=8)


def step(advice: Advice, name: str) -> Step:
    found = [one for one in (*advice.steps, *advice.machine) if one.name == name]
    assert found, f"no step {name} among {[one.name for one in advice.steps]}"
    return found[0]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("weights int4:g128", {"weights": "int4:g128"}),
        ("KV cache fp8", {"kv": "fp8"}),
        ("dtype fp8", {"dtype": "fp8"}),
        ("stack engine", {"stack": "engine"}),
        ("attention math", {"overrides": {"stack.attention_kernel": "math"}}),
        ("batch 16", {"batch": 16}),
    ],
)
def test_a_step_is_what_estimating_the_changed_set_up_says(name: str, changes: dict[str, Any]) -> None:
    expected = hwsim.estimate("llama-3-8b", "h100-sxm", **{**SERVING, **changes})
    outcome = step(serving(), name).outcome
    assert outcome.latency_s == pytest.approx(expected.latency_s, rel=1e-12)
    assert outcome.memory_bytes == pytest.approx(expected.peak_memory_bytes, rel=1e-12)
    assert outcome.energy_per_unit_j == pytest.approx(expected.energy_j / expected.tokens, rel=1e-12)
    assert outcome.cost_per_unit_usd == pytest.approx(expected.cost_usd / expected.tokens, rel=1e-12)


def test_gains_are_before_over_after_per_token() -> None:
    now, doubled = serving().now, step(serving(), "batch 16")
    assert doubled.gains["latency"] == pytest.approx(now.latency_s / doubled.outcome.latency_s)
    assert doubled.gains["latency"] < 1 < doubled.gains["throughput"] <= 2
    assert doubled.gains["cost"] == pytest.approx(doubled.gains["throughput"])


def test_every_kind_of_neighbour_is_tried() -> None:
    kinds = {one.kind for one in serving().steps}
    assert kinds == {"dtype", "weights", "kv", "attention", "stack", "offload", "batch", "device"}
    assert {one.kind for one in serving().machine} == {"machine"}


@functools.cache
def on_two() -> Advice:
    """A model on two cards of a node of eight."""
    return hwsim.advise("gpt2", "dgx-h100", parallel={"tp": 2}, **{**SERVING, "context": 512})


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("tp 4", {"tp": 4}),
        ("tp 1 pp 2", {"pp": 2}),
        ("dp 2", {"tp": 2, "dp": 2}),
        ("offload kv", {"tp": 2, "offload": "kv"}),
    ],
)
def test_on_a_cluster_other_layouts_are_steps(name: str, layout: dict[str, Any]) -> None:
    expected = hwsim.estimate("gpt2", "dgx-h100", parallel=layout, **{**SERVING, "context": 512})
    outcome = step(on_two(), name).outcome
    assert outcome.latency_s == pytest.approx(expected.latency_s, rel=1e-12)
    assert outcome.memory_bytes == pytest.approx(expected.peak_memory_bytes, rel=1e-12)


def test_layouts_stay_on_the_devices_that_are_there() -> None:
    assert not any(one.kind == "layout" for one in serving().steps)  # a card of which there is one
    assert {one.kind for one in on_two().steps} >= {"layout", "offload"}
    assert not any(one.kind == "device" for one in on_two().steps)
    known = {*(one.name for one in on_two().machine), *on_two().without_effect}
    assert "nvlink bandwidth +25%" in known


def test_the_reason_names_the_limit_that_is_relieved() -> None:
    assert serving().base.bound == "memory"
    for name in ("weights int4:g128", "KV cache fp8", "batch 16", "DRAM bandwidth +25%"):
        assert step(serving(), name).relieves == "memory"
        assert step(serving(), name).after_s < step(serving(), name).before_s
    assert reading().base.bound == "compute"
    assert step(reading(), "dtype bf16").relieves == "compute"
    assert step(reading(), "power limit +25%").relieves == "power"


def test_a_step_that_slows_down_relieves_nothing_and_says_what_it_costs() -> None:
    slower = step(serving(), "attention math")
    assert slower.relieves is None
    assert slower.reason == "more launches"  # scores go through memory, op by op


@pytest.mark.parametrize("goal", GOALS)
def test_steps_are_ranked_by_the_goal_those_that_fit_first(goal: str) -> None:
    ranked = [(one.outcome.fits, one.gain(goal)) for one in serving(goal).steps]
    assert ranked == sorted(ranked, reverse=True)


def test_a_step_without_a_price_comes_last_for_cost() -> None:
    assert serving("cost").steps[-1].gains["cost"] is None


def test_the_best_step_for_a_goal_gains_most_and_fits() -> None:
    best = serving().best("memory")
    assert best is not None
    assert best.gain("memory") == max(one.gain("memory") for one in serving().steps if one.outcome.fits)


def test_all_at_once_is_better_than_any_one_step_on_the_same_device_and_batch() -> None:
    together = serving().together
    assert together is not None
    alone = [one.gain("latency") for one in serving().steps if one.kind not in ("device", "batch")]
    assert together.gain("latency") > max(alone)


def test_what_changes_nothing_is_listed_apart() -> None:
    assert "on-chip memory +25%" in serving().without_effect
    assert all(one.matters for one in serving().steps)


def test_steps_that_fit_come_before_faster_ones_that_do_not() -> None:
    tight = {"device.memory.dram.capacity": "12 GB"}
    advice = hwsim.advise("llama-3-8b", "h100-sxm", overrides=tight, **SERVING)
    assert not advice.now.fits
    fits = [one.outcome.fits for one in advice.steps]
    assert fits == sorted(fits, reverse=True)
    assert advice.steps[0].name == "weights int4:g128"


def test_the_next_devices_up_and_down_are_of_the_same_kind() -> None:
    found = [one for one in serving().steps if one.kind == "device"]
    rates = [hwsim.device(one.name.removeprefix("device ")) for one in found]
    assert [one.kind for one in rates] == ["gpu", "gpu"]
    here = hwsim.device("h100-sxm").memory.dram.bandwidth_byte_per_s
    times = sorted(one.memory.dram.bandwidth_byte_per_s / here for one in rates)
    assert times[0] <= 0.8
    assert times[1] >= 1.25


def test_a_batch_that_the_graph_excludes_is_refused_and_the_rest_is_answered() -> None:
    graph = hwsim.trace("bert-base", fixed={"batch": 8})
    advice = hwsim.advise(graph, "l4", batch=8)
    (name,) = advice.refused
    assert name == "batch 16, batch 4"
    assert "size 'batch' of this graph is fixed at 8" in advice.refused[name]
    assert step(advice, "power limit +25%").gain("latency") > 1


def test_changes_of_the_machine_stay_with_the_machine() -> None:
    """A changed bandwidth is a fact of this device and is not carried to the next one."""
    doubled = {"device.memory.dram.bandwidth": "6.7 TB/s"}
    advice = hwsim.advise("llama-3-8b", "h100-sxm", overrides=doubled, **SERVING)
    other = next(one for one in advice.steps if one.kind == "device")
    expected = hwsim.estimate("llama-3-8b", other.name.removeprefix("device "), **SERVING)
    assert other.outcome.latency_s == pytest.approx(expected.latency_s)


def test_an_unknown_goal_is_refused_with_the_near_one() -> None:
    with pytest.raises(HwsimError, match=r"no goal 'latncy'; goals are latency, .* did you mean 'latency'"):
        hwsim.advise("bert-base", "l4", goal="latncy")


def test_advice_is_for_one_point() -> None:
    with pytest.raises(HwsimError, match="advice is for one set-up"):
        hwsim.advise("bert-base", "l4", batch=[1, 2])


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["advise", "llama-3-8b", "--phase", "decode", *words])


def test_the_command_prints_a_table_that_fits_a_terminal() -> None:
    result = run("-d", "h100-sxm", "--batch", "8", "--context", "4096")
    assert result.exit_code == 0, result.stderr
    assert "weights int4:g128" in result.stdout
    assert "All at once: " in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_document_is_that_of_the_library() -> None:
    words = ("-d", "h100-sxm", "--batch", "8", "--context", "4096", "--json")
    assert json.loads(run(*words).stdout) == json.loads(serving().to_json())


def test_a_bad_device_is_one_line_and_exit_code_2() -> None:
    result = run("-d", "h100")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: no device 'h100'")
    assert len(result.stderr.splitlines()) == 1
