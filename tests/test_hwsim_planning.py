"""The cheapest set-up within a time to first token and per token."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
import hwsim
from hwsim.errors import HwsimError
from hwsim.plans import Plan

pytestmark = pytest.mark.needs_torch
TARGET: dict[str, Any] = {"ttft": 0.5, "tpot": 0.05, "prompt": 2048, "generate": 64}
FLEET = ("h100-sxm", "a100-80gb-sxm", "l4", "t4", "l40s")


@functools.cache
def planned(**changes: Any) -> Plan:
    return hwsim.plan("llama-3-8b", devices=FLEET, **{**TARGET, **changes})


def test_times_and_rates_follow_from_one_prefill_and_the_steps_of_a_batch() -> None:
    offer = planned().offers[0]
    one = hwsim.request("llama-3-8b", offer.device, prompt=2048, generate=64, batch=1, stack="engine")
    many = hwsim.request(
        "llama-3-8b", offer.device, prompt=2048, generate=64, batch=offer.batch, stack="engine"
    )
    tpot = many.tpot_s + offer.batch * one.ttft_s / 64
    assert offer.ttft_s == pytest.approx(one.ttft_s + many.tpot_s, rel=1e-12)
    assert offer.tpot_s == pytest.approx(tpot, rel=1e-12)
    assert offer.tokens_per_s == pytest.approx(offer.batch / tpot, rel=1e-12)
    energy = (one.energy_prefill_j + many.energy_decode_j / offer.batch) / 64
    assert offer.energy_per_token_j == pytest.approx(energy, rel=1e-12)


def test_every_offer_meets_the_target_and_fits_and_the_cheapest_comes_first() -> None:
    offers = planned().offers
    assert offers
    assert all(o.ttft_s <= 0.5 and o.tpot_s <= 0.05 and o.memory_bytes <= o.capacity_bytes for o in offers)
    costs = [math.inf if o.usd_per_million_tokens is None else o.usd_per_million_tokens for o in offers]
    assert costs == sorted(costs)


def test_a_set_up_is_either_offered_or_refused_with_its_figure() -> None:
    plan = planned()
    assert {o.device for o in plan.offers} | set(plan.refused) == set(FLEET)
    assert "TPOT" in plan.refused["l4"]
    assert "GB" in plan.refused["t4"]


def test_more_time_never_costs_more() -> None:
    tight = {o.device: o for o in planned().offers}
    loose = {o.device: o for o in planned(ttft=2.0, tpot=0.2).offers}
    assert set(tight) < set(loose)
    assert all(loose[name].tokens_per_s >= one.tokens_per_s for name, one in tight.items())


def test_being_sure_holds_the_upper_ends_to_the_target() -> None:
    sure = planned(sure=True, ttft=1.0, tpot=0.1)
    assert sure.offers
    assert all(o.ttft_high_s <= 1.0 and o.tpot_high_s <= 0.1 for o in sure.offers)
    plain = {o.device: o.batch for o in planned(ttft=1.0, tpot=0.1).offers}
    assert all(o.batch <= plain[o.device] for o in sure.offers)


def test_replicas_serve_the_rate_and_one_fewer_does_not() -> None:
    for offer in planned(rate=30.0).offers:
        assert offer.replicas is not None
        one = offer.tokens_per_s / 64
        assert offer.replicas * one >= 30 > (offer.replicas - 1) * one


def test_fewer_bits_open_up_smaller_cards() -> None:
    found = planned(quantize=True, ttft=2.0)
    assert any(o.device == "l4" and o.recipe == "weights int4:g128" for o in found.offers)
    assert any(o.recipe == "fp8" and o.dtype == "fp8" for o in found.offers)
    assert not any(o.device == "a100-80gb-sxm" and o.recipe == "fp8" for o in found.offers)


def test_a_price_of_ones_own_replaces_that_of_the_profile() -> None:
    free = hwsim.plan("llama-3-8b", devices=FLEET, prices={"a100-80gb-sxm": 0.01}, **TARGET)
    assert free.offers[0].device == "a100-80gb-sxm"
    assert free.offers[0].usd_per_hour == 0.01


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"goal": "speed"}, "speed"),
        ({"tpot": -1.0}, "tpot=-1.0"),
        ({"ttft": float("nan")}, "ttft=nan"),
        ({"rate": 0.0}, "rate=0.0"),
        ({"generate": 1}, "generate=1"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(HwsimError, match=named):
        planned(**changes)


def test_a_price_of_a_device_that_is_not_asked_for_is_refused() -> None:
    with pytest.raises(HwsimError, match="l40"):
        hwsim.plan("llama-3-8b", devices=["l4"], prices={"l40": 1.0}, **TARGET)


def test_the_command_prints_a_table_or_one_document() -> None:
    words = [
        "plan",
        "llama-3-8b",
        "--ttft",
        "500ms",
        "--tpot",
        "50ms",
        "--generate",
        "64",
        "-d",
        "h100-sxm,l4",
    ]
    shown = CliRunner().invoke(cli.app, [*words, "--rate", "30"])
    assert shown.exit_code == 0, shown.output
    assert "h100-sxm" in shown.output
    assert "not l4: TPOT" in shown.output
    document = json.loads(CliRunner().invoke(cli.app, [*words, "--json"]).stdout)
    assert document["schema"] == "hwsim.plan/1"
    assert [offer["device"] for offer in document["offers"]] == ["h100-sxm"]
    assert document["offers"][0]["replicas"] is None
    wrong = CliRunner().invoke(cli.app, [*words[:3], "fast", *words[4:]])
    assert wrong.exit_code == 2
    assert "fast" in wrong.output


def test_models_without_decode_are_refused_in_one_line() -> None:
    shown = CliRunner().invoke(cli.app, ["plan", "bert-base", "--ttft", "1s", "--tpot", "1s", "-d", "l4"])
    assert shown.exit_code == 2
    assert "prefill and decode" in shown.output
