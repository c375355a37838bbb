"""The planning scripts run, print what they promise, and their answers hold when asked again one by one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import hwsim

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
pytestmark = pytest.mark.needs_torch


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    """The script a test is for, loaded as it would run."""
    name = request.param
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", ["choose_gpu"], indirect=True)
def test_the_gpu_that_is_chosen_meets_the_targets_and_is_cheapest(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    found = script.choices()
    costs = [one.usd_per_million for one in found]
    assert costs == sorted(costs)
    for one in found:
        assert one.first_token_s <= script.FIRST_TOKEN_S
        assert one.next_token_s <= script.NEXT_TOKEN_S
    best = next(one for one in found if one.precision == "bf16")
    price = script.PRICES.get(best.device, hwsim.device(best.device).price.usd_per_hour)
    again = hwsim.request(
        script.MODEL, best.device, prompt=script.PROMPT, generate=script.ANSWER, batch=best.batch,
        stack="engine", price=price,
    )  # fmt: skip
    assert again.fits
    assert again.ttft_s == pytest.approx(best.first_token_s)
    assert again.usd_per_million_tokens == pytest.approx(best.usd_per_million)
    script.main()
    printed = capsys.readouterr().out
    assert "$ per million" in printed
    assert found[0].device in printed.splitlines()[4]


@pytest.mark.parametrize("script", ["size_accelerator"], indirect=True)
def test_designs_stay_within_the_power_budget_and_the_choice_is_near_the_fastest(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    found = script.designs()
    assert 100 < found.side.size < script.SIDES.size * script.SRAM_MIB.size * script.BANDWIDTH.size
    at = found.cheapest_near_best()
    assert found.score[at] <= 1.05 * found.score.min()
    assert found.sram_mib[at] == found.sram_mib[found.score <= 1.05 * found.score.min()].min()
    # the budget bites: the fastest designs cannot hold their clock
    assert found.clock[np.argmin(found.score)] < 1
    script.main()
    printed = capsys.readouterr().out
    assert f"{int(found.side[at])} x {int(found.side[at])}" in printed.splitlines()[3]


@pytest.mark.parametrize("script", ["linear_attention"], indirect=True)
def test_linear_attention_pays_from_the_length_that_is_named_and_not_before(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = script.compare()
    first = answer.pays_from("latency_s")
    assert first is not None
    at = int(np.flatnonzero(first == script.LENGTHS)[0])
    assert answer.linear.latency_s[at - 1] >= answer.softmax.latency_s[at - 1]
    assert np.all(answer.linear.latency_s[at:] < answer.softmax.latency_s[at:])
    # at great lengths one grows with the square of the length, the other more slowly
    half = script.LENGTHS.size // 2 - 1
    softmax, linear = (one.latency_s[-1] / one.latency_s[half] for one in (answer.softmax, answer.linear))
    assert softmax == pytest.approx(4, rel=0.1)
    assert linear < 0.8 * softmax
    script.main()
    assert f"saves time from {first} tokens on" in capsys.readouterr().out
