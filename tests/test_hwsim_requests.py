"""Whole requests: prefill and every decode step, priced together as they would be one by one."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import hwsim
from hwsim.errors import HwsimError

pytestmark = pytest.mark.needs_torch

PARTS = ("value", "low", "high")


def asked(**changes: Any) -> Any:
    settings: dict[str, Any] = {"prompt": 100, "generate": 9, "batch": 2, "stack": "engine"}
    return hwsim.request("gpt2", "h100-sxm", **{**settings, **changes})


def step(context: int, batch: int = 2) -> Any:
    return hwsim.estimate("gpt2", "h100-sxm", phase="decode", context=context, batch=batch, stack="engine")


def test_decode_is_the_sum_of_steps_priced_one_by_one() -> None:
    steps = [step(context) for context in range(100, 108)]
    request = asked()
    assert request.decode_s == pytest.approx(sum(one.latency_s for one in steps), rel=1e-12)
    assert request.energy_decode_j == pytest.approx(sum(one.energy_j for one in steps), rel=1e-12)
    assert request.tpot_s == pytest.approx(np.mean([one.latency_s for one in steps]), rel=1e-12)


def test_the_first_token_comes_out_of_the_prefill() -> None:
    prefill = hwsim.estimate("gpt2", "h100-sxm", phase="prefill", seq=100, batch=2, stack="engine")
    request = asked()
    assert request.ttft_s == prefill.latency_s
    assert request.latency_s == pytest.approx(prefill.latency_s + request.decode_s, rel=1e-15)


def test_a_single_token_needs_no_decode_step() -> None:
    request = asked(generate=1)
    assert request.decode is None
    assert (request.tpot_s, request.decode_tokens_per_s, request.decode_bound) == (None, None, None)
    assert request.latency_s == request.ttft_s
    assert request.energy_j == request.energy_prefill_j


def test_parts_sum_to_the_whole() -> None:
    request = asked(price=3.6)
    assert sum(request.breakdown_s.values()) == pytest.approx(request.latency_s, rel=1e-12)
    assert request.energy_prefill_j + request.energy_decode_j == pytest.approx(request.energy_j, rel=1e-12)
    assert request.latency_low_s < request.latency_s < request.latency_high_s
    assert request.tokens_per_s == pytest.approx(2 * 9 / request.latency_s)
    assert request.total_tokens_per_s == pytest.approx(2 * 109 / request.latency_s)
    assert request.decode_tokens_per_s == pytest.approx(2 / request.tpot_s)
    assert request.energy_per_token_j == pytest.approx(request.energy_j / 18)
    assert request.cost_usd == pytest.approx(request.latency_s / 1000)
    assert request.usd_per_million_tokens == pytest.approx(1e6 * request.cost_usd / 18)


def test_every_point_of_an_array_is_the_request_asked_alone() -> None:
    prompts, lengths, batches = np.array([10, 200]), np.array([[1], [3], [40]]), 2
    many = asked(prompt=prompts, generate=lengths, batch=batches)
    assert many.shape == (3, 2)
    for place in np.ndindex(3, 2):
        alone = asked(prompt=int(prompts[place[1]]), generate=int(lengths[place[0], 0]))
        for name in ("latency_s", "latency_low_s", "energy_j", "peak_memory_bytes", "flops", "dram_bytes"):
            assert getattr(many, name)[place] == pytest.approx(getattr(alone, name), rel=1e-12), name
        if alone.tpot_s is not None:
            assert many.tpot_s[place] == pytest.approx(alone.tpot_s, rel=1e-12)
            assert many.decode_bound[place] == alone.decode_bound
    assert np.isnan(many.tpot_s[0]).all()
    assert json.loads(many.to_json())["tpot_s"]["value"][0] == [None, None]


def test_fields_of_the_device_may_be_arrays_too() -> None:
    request = asked(overrides={"device.memory.dram.bandwidth": np.array([1e12, 2e12, 4e12])})
    assert request.shape == (3,)
    assert np.all(np.diff(request.latency_s) < 0)


def test_memory_is_that_of_the_phase_that_needs_most() -> None:
    def kv(tokens: int, batch: int) -> int:
        return 2 * 12 * 768 * 4 * tokens * batch  # keys and values, 12 layers, 768 wide, fp32

    # the last of 9 tokens is written after 100 + 8 others, and is not itself cached
    late = asked(prompt=1, generate=100, batch=1)
    assert late.memory_bytes["kv_cache"] == kv(100, 1)
    prefill = hwsim.estimate("gpt2", "h100-sxm", phase="prefill", seq=1, batch=1, stack="engine")
    assert late.peak_memory_bytes > prefill.peak_memory_bytes
    early = asked(prompt=800, generate=2, batch=64)
    assert early.memory_bytes == early.prefill.memory_bytes
    assert early.memory_bytes["kv_cache"] == kv(800, 64)


def test_a_request_that_does_not_fit_says_so() -> None:
    assert asked().fits is True
    assert asked(batch=10_000).fits is False


def test_more_tokens_never_take_less() -> None:
    requests = asked(generate=np.arange(1, 60))
    for name in ("latency_s", "energy_j", "peak_memory_bytes", "flops"):
        assert np.all(np.diff(getattr(requests, name)) >= 0), name


def test_tokens_cached_beforehand_are_context_of_both_phases() -> None:
    request = asked(context=50)
    assert request.prefill.sizes["context"] == 50
    assert request.decode.sizes["context"].ravel().tolist() == list(range(150, 158))


def test_the_prompt_is_the_usual_one_of_the_model_when_not_given() -> None:
    assert hwsim.request("gpt2", "l4", generate=2).prompt == 512


def test_several_devices_give_several_requests() -> None:
    found = hwsim.request("gpt2", ["l4", "t4"], generate=2)
    assert [one.device for one in found] == ["l4", "t4"]


def test_warnings_are_said_once() -> None:
    request = hwsim.request("gpt2", "coral-edge-tpu", generate=3)
    assert len(request.warnings) == len(set(request.warnings)) > 0


def test_the_document_has_these_keys() -> None:
    document = json.loads(asked(price=1).to_json())
    assert document["schema"] == "hwsim.request/1"
    assert set(document) == {
        *("schema", "model", "device", "workload", "latency_s", "ttft_s", "tpot_s", "breakdown_s", "bound"),
        *("energy_j", "average_power_w", "memory_bytes", "flops", "dram_bytes", "params", "throughput"),
        *("cost_usd", "usd_per_million_tokens", "warnings", "provenance"),
    }
    assert set(document["workload"]) == {"prompt", "generate", "sizes", "dtype", "stack", "parallel"}
    assert document["workload"]["sizes"] == {"batch": 2.0, "context": 0.0}
    assert set(document["tpot_s"]) == {*PARTS, "first", "last"}
    assert document["tpot_s"]["first"] == step(100).latency_s
    assert set(document["energy_j"]) == {"value", "prefill", "decode", "per_token"}
    assert set(document["bound"]) == {"prefill", "decode"}
    assert document["memory_bytes"]["fits"] is True
    assert set(document["throughput"]) == {
        *("generated_tokens_per_s", "total_tokens_per_s", "decode_tokens_per_s"),
    }
    assert set(document["provenance"]["graph"]) == {"prefill", "decode"}


def test_what_a_single_token_has_not_is_null() -> None:
    document = json.loads(asked(generate=1).to_json())
    assert document["tpot_s"] == dict.fromkeys([*PARTS, "first", "last"])
    assert document["bound"]["decode"] is None
    assert document["cost_usd"] is not None  # the profile has a price


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        (
            "bert-base",
            {},
            "bert-base has no phase 'prefill'; it has forward, train; a whole request needs prefill",
        ),
        ("gpt2", {"prompt": 1000, "generate": 100}, "100 tokens after 1000 are too many: .*limit of 1024"),
        ("gpt2", {"prompt": 2000}, "seq=2000 is above gpt2's limit of 1024"),
        ("gpt2", {"generate": 0}, "generate=0 is not possible; give a whole number of at least 1"),
        ("gpt2", {"generate": 2.5}, "generate=2.5 is not possible"),
        ("gpt2", {"generate": float("nan")}, "generate=nan is not possible"),
        ("gpt2", {"prompt": 0}, "least seq of 1"),
        ("gpt2", {"context": -1}, "context=-1 is not possible"),
        ("gpt2", {"sauce": 3}, "gpt2 has no size 'sauce'; it has batch, context, seq"),
        ("gpt2", {"overrides": {"fridge.door": 1}}, "cannot set 'fridge.door'"),
    ],
)
def test_an_impossible_request_is_refused_in_one_line(
    model: str, changes: dict[str, Any], message: str
) -> None:
    settings: dict[str, Any] = {"prompt": 10, "generate": 2, **changes}
    with pytest.raises(HwsimError, match=message) as caught:
        hwsim.request(model, "l4", **settings)
    assert "\n" not in str(caught.value)
