"""Every machine of the catalogue gives a finite and possible estimate of two models."""

from __future__ import annotations

import itertools

import pytest

import devices
import hwsim
from hwsim.result import Estimate
from tests.laws import assert_lawful, assert_rows_sum, own_power_w

pytestmark = pytest.mark.needs_torch

EVERY = [device.id for device in devices.devices()]
QUESTIONS = {
    "bert-base": {"phase": "forward", "batch": 1, "seq": 128},
    "llama-3-8b": {"phase": "decode", "batch": 1, "context": 2048},
}


@pytest.mark.parametrize("id", EVERY)
def test_every_machine_stays_within_what_it_is(id: str) -> None:
    """Achieved FLOP/s and bandwidth below the datasheet's; power below the limit, at full load too."""
    for model, stack in itertools.product(QUESTIONS, ("eager", "engine")):
        found = hwsim.estimate(model, id, stack=stack, **QUESTIONS[model])
        assert isinstance(found, Estimate)
        assert_lawful(found)
        assert_rows_sum(found)
        assert 0 < found.hfu <= 1
        assert 0 < found.mbu <= 1
        assert own_power_w(found) <= found.machine.power.limit_w * 1.0001
        assert 1e-5 < found.latency_s < 300
    busy = hwsim.estimate("bert-base", id, batch=64, seq=512, stack="engine")
    assert own_power_w(busy) <= busy.machine.power.limit_w * 1.0001


def test_newer_and_larger_boards_of_one_line_are_faster() -> None:
    """An order that nobody doubts: bandwidth decides decode, arithmetic decides a large forward pass."""
    decode = {
        id: hwsim.estimate("llama-3-8b", id, stack="engine", **QUESTIONS["llama-3-8b"]).latency_s
        for id in ("b200", "h200-sxm", "h100-sxm", "a100-80gb-sxm", "l4", "jetson-orin-agx")
    }
    assert list(decode.values()) == sorted(decode.values())
    forward = {
        id: hwsim.estimate("bert-base", id, batch=32, seq=512, dtype="fp16", stack="engine").latency_s
        for id in ("h100-sxm", "a100-80gb-sxm", "v100-sxm2-16gb", "t4", "raspberry-pi-4")
    }
    assert list(forward.values()) == sorted(forward.values())
