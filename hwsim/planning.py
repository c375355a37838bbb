"""`hwsim.plan`: the cheapest set-up that serves requests within a time to first token and per token.

The service is one of continuous batching in a steady state, without a queue. `batch` sequences decode
together; for each that ends another begins, and its prefill holds the others up. Over the life of a sequence
that happens `batch` times, so a token takes step(batch) + batch x prefill / generate on average, and a
replica gives batch / that many tokens per second. A new request waits for the step that runs when it arrives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from devices import Device, Stack, devices, format_quantity
from devices import device as find_device
from devices.errors import DeviceError
from graphs.errors import GraphError
from hwsim.errors import HwsimError
from hwsim.plans import Offer, Plan, Target
from hwsim.requesting import request
from hwsim.requests import Request

GOALS = ("cost", "energy", "latency")
# from one sequence to as many as engines schedule at once: two steps per doubling
BATCHES = np.unique(np.round(2.0 ** np.arange(0, 9.5, 0.5)))
NARROWER: Mapping[str, Mapping[str, str]] = {
    "weights int8": {"weights": "int8"},
    "weights int4:g128": {"weights": "int4:g128"},
    "fp8": {"dtype": "fp8", "kv": "fp8"},
}


def plan(
    model: Any,
    *,
    ttft: float,
    tpot: float,
    prompt: int,
    generate: int,
    devices: Sequence[str | Device] | None = None,
    rate: float | None = None,
    goal: str = "cost",
    quantize: bool = False,
    sure: bool = False,
    dtype: str | None = None,
    stack: str | Stack = "engine",
    prices: Mapping[str, float] | None = None,
) -> Plan:
    """Set-ups whose times to the first and per further token stay within `ttft` and `tpot` (seconds), ranked.

    Without `devices`, those whose profile has a price. `rate` (requests per second) gives the number of
    replicas. `quantize` also tries weights of 8 and 4 bits, and fp8 where a device computes in it. `prices`
    (USD per hour by device id) replace those of the profiles.
    """
    if goal not in GOALS:
        raise HwsimError(f"no goal {goal!r}; choose {', '.join(GOALS)}")
    for name, value in {"ttft": ttft, "tpot": tpot, "rate": rate}.items():
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise HwsimError(f"{name}={value} is not possible; give a positive number")
    target = Target(prompt=prompt, generate=generate, ttft_s=ttft, tpot_s=tpot, rate_per_s=rate, sure=sure)
    if generate < 2:
        raise HwsimError(f"generate={generate}: a time per token needs at least 2 tokens")
    machines = _machines(devices)
    unused = sorted(set(prices or {}) - {one.id for one in machines})
    if unused:
        raise HwsimError(f"a price for {unused[0]}, which is not among the devices; add it to them")
    offers: list[Offer] = []
    refused: dict[str, str] = {}
    warnings: dict[str, None] = {}
    name = str(model)
    for machine in machines:
        price = (prices or {}).get(machine.id)
        for recipe, given in _recipes(machine, quantize, dtype):
            label = machine.id if recipe == "as is" else f"{machine.id}, {recipe}"
            try:
                found = request(
                    model,
                    machine,
                    prompt=prompt,
                    generate=generate,
                    batch=BATCHES,
                    stack=stack,
                    price=price,
                    **given,
                )
            except (DeviceError, GraphError, HwsimError) as error:
                if "no phase" in str(error) or "no size" in str(error):
                    raise
                refused[label] = str(error)
                continue
            name = found.prefill.model
            warnings.update(dict.fromkeys(found.warnings))
            offer = _offer(found, recipe, target)
            if isinstance(offer, str):
                refused[label] = offer
            else:
                offers.append(offer)
    return Plan(
        model=name,
        target=target,
        goal=goal,
        offers=tuple(sorted(offers, key=lambda offer: _rank(offer, goal))),
        refused=refused,
        warnings=tuple(warnings),
    )


def _machines(given: Sequence[str | Device] | None) -> list[Device]:
    if given is None:
        return [one for one in devices() if one.price.usd_per_hour is not None]
    return [one if isinstance(one, Device) else find_device(one) for one in given]


def _recipes(machine: Device, quantize: bool, dtype: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "as is", {"dtype": dtype}
    for name, given in NARROWER.items() if quantize else ():
        wanted = given.get("dtype")
        if wanted is None or wanted in machine.compute.matrix_flop_per_s:
            yield name, {"dtype": dtype, **given}


def _offer(found: Request, recipe: str, target: Target) -> Offer | str:
    """The batch with most tokens per second of those that meet the target, or what stands in the way."""
    assert found.decode is not None
    held_up = BATCHES / target.generate
    # the prefill of one prompt; its activations stand beside what the running sequences need
    first, first_high = float(found.ttft_s[0]), float(found.ttft_high_s[0])
    step, step_high = np.asarray(found.tpot_s), np.asarray(found.tpot_high_s)
    ttft, ttft_high = first + step, first_high + step_high
    tpot, tpot_high = step + held_up * first, step_high + held_up * first_high
    decode = {part: np.max(np.broadcast_to(v, found.decode.shape), axis=0) for part, v in _memory(found)}
    memory = decode["total"] + float(
        np.broadcast_to(found.prefill.memory_bytes["activations"], found.shape)[0]
    )
    fits = memory <= decode["capacity"]
    judged = (ttft_high, tpot_high) if target.sure else (ttft, tpot)
    good = fits & (judged[0] <= target.ttft_s) & (judged[1] <= target.tpot_s)
    if not good.any():
        return _obstacle(fits, memory, decode["capacity"], judged, target)
    rate = np.where(good, BATCHES / tpot, 0.0)
    at = int(np.argmax(rate))
    energy = (found.energy_prefill_j[0] + found.energy_decode_j[at] / BATCHES[at]) / target.generate
    requests_per_s = rate[at] / target.generate
    hourly = found.prefill.usd_per_hour
    return Offer(
        device=found.device,
        recipe=recipe,
        dtype=found.dtype,
        stack=found.stack,
        batch=int(BATCHES[at]),
        ttft_s=float(ttft[at]),
        ttft_high_s=float(ttft_high[at]),
        tpot_s=float(tpot[at]),
        tpot_high_s=float(tpot_high[at]),
        tokens_per_s=float(rate[at]),
        energy_per_token_j=float(energy),
        memory_bytes=float(memory[at]),
        capacity_bytes=float(decode["capacity"][at]),
        usd_per_hour=None if hourly is None else float(np.max(hourly)),
        replicas=None if target.rate_per_s is None else math.ceil(target.rate_per_s / requests_per_s),
    )


def _memory(found: Request) -> Iterator[tuple[str, Any]]:
    assert found.decode is not None
    yield from found.decode.memory_bytes.items()


def _obstacle(fits: Any, memory: Any, capacity: Any, judged: tuple[Any, Any], target: Target) -> str:
    """Why not even one sequence at a time will do."""
    if not fits[0]:
        return f"needs {format_quantity(memory[0], 'byte')} of {format_quantity(float(capacity[0]), 'byte')}"
    for name, value, limit in (("TTFT", judged[0], target.ttft_s), ("TPOT", judged[1], target.tpot_s)):
        if value[0] > limit:
            return f"{name} {_milliseconds(value[0])} at batch 1, wanted {_milliseconds(limit)}"
    return "no batch meets both times and fits"


def _milliseconds(seconds: float) -> str:
    return format_quantity(float(seconds), "second")


def _rank(offer: Offer, goal: str) -> tuple[float, ...]:
    """Unpriced set-ups come last where cost counts; of equal ones the one that takes less energy."""
    cost = offer.fleet_usd_per_hour if offer.replicas is not None else offer.usd_per_million_tokens
    by = {
        "cost": math.inf if cost is None else cost,
        "energy": offer.energy_per_token_j,
        "latency": offer.tpot_s,
    }
    return by[goal], offer.energy_per_token_j, offer.tpot_s
