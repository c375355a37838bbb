"""A whole request: the prompt read once, then one token after another over a context that grows.

The first token comes out of the prefill; each further one is a decode step of its own length, priced in one
estimate over all steps and summed exactly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from devices import Device, Stack, device as find_device
from graphs.errors import GraphError

from hwsim.errors import HwsimError
from hwsim.estimating import estimate
from hwsim.result import Estimate, Value
from hwsim.tracing import trace

SCHEMA = "hwsim.request/1"
PHASES = ("prefill", "decode")


@dataclass(frozen=True, kw_only=True)
class Request:
    """Time, energy and memory of `generate` tokens after a prompt; no queue. Numbers have the request's shape.

    Errors of the steps are shared (one device, one stack), so the ends of intervals are sums of ends.
    """

    model: str
    device: str
    prompt: Value  # tokens per sequence
    generate: Value  # tokens per sequence, the first of which the prefill gives
    prefill: Estimate
    decode: Estimate | None = field(repr=False)  # steps on the leading axis; None when one token is all
    steps: Value = field(repr=False)  # 1 where a step is part of the request, 0 beyond its end

    @property
    def dtype(self) -> str:
        return self.prefill.dtype

    @property
    def stack(self) -> str:
        return self.prefill.stack

    @property
    def shape(self) -> tuple[int, ...]:
        return np.broadcast_shapes(self.prefill.shape, np.shape(self.generate))

    @property
    def batch(self) -> Value:
        return self.prefill.samples

    @property
    def ttft_s(self) -> Value:
        """Time to first token: the prefill."""
        return self._shaped(self.prefill.latency_s)

    @property
    def decode_s(self) -> Value:
        """Time of all tokens after the first."""
        return self._summed("latency_s")

    @property
    def tpot_s(self) -> Value | None:
        """Mean time per token after the first; None where there is no such token."""
        return self._per_step(self.decode_s)

    @property
    def tpot_low_s(self) -> Value | None:
        return self._per_step(self._summed("latency_low_s"))

    @property
    def tpot_high_s(self) -> Value | None:
        return self._per_step(self._summed("latency_high_s"))

    @property
    def latency_s(self) -> Value:
        return self._total("latency_s")

    @property
    def latency_low_s(self) -> Value:
        return self._total("latency_low_s")

    @property
    def latency_high_s(self) -> Value:
        return self._total("latency_high_s")

    @property
    def breakdown_s(self) -> dict[str, Value]:
        """Both phases together."""
        return {
            name: self._shaped(value) + self._sum(None if self.decode is None else self.decode.breakdown_s[name])
            for name, value in self.prefill.breakdown_s.items()
        }

    @property
    def energy_j(self) -> Value:
        return self._total("energy_j")

    @property
    def energy_prefill_j(self) -> Value:
        return self._shaped(self.prefill.energy_j)

    @property
    def energy_decode_j(self) -> Value:
        return self._summed("energy_j")

    @property
    def energy_per_token_j(self) -> Value:
        """Of the whole request, prefill included, per generated token."""
        return self.energy_j / self.generated

    @property
    def average_power_w(self) -> Value:
        return self.energy_j / self.latency_s

    @property
    def flops(self) -> Value:
        return self._total("flops")

    @property
    def dram_bytes(self) -> Value:
        return self._total("dram_bytes")

    @property
    def generated(self) -> Value:
        """New tokens of all sequences."""
        return self.batch * self.generate

    @property
    def generated_tokens_per_s(self) -> Value:
        return self.generated / self.latency_s

    @property
    def total_tokens_per_s(self) -> Value:
        """Prompt and generated tokens."""
        return self.batch * (self.prompt + self.generate) / self.latency_s

    @property
    def decode_tokens_per_s(self) -> Value | None:
        """Tokens per second while decoding: the batch over TPOT."""
        return None if self.tpot_s is None else self.batch / self.tpot_s

    @property
    def cost_usd(self) -> Value | None:
        """Rent of the device for the request; None without a price."""
        hourly = self.prefill.usd_per_hour
        return None if hourly is None else self.latency_s * hourly / 3600

    @property
    def usd_per_million_tokens(self) -> Value | None:
        """Per million generated tokens, when such requests follow each other without a gap."""
        return None if self.cost_usd is None else 1e6 * self.cost_usd / self.generated

    @cached_property
    def memory_bytes(self) -> dict[str, Value]:
        """Memory by role in the phase and at the context that need most."""
        parts = {name: self._shaped(value) for name, value in self.prefill.memory_bytes.items()}
        if self.decode is None:
            return parts
        totals = np.broadcast_to(self.decode.memory_bytes["total"], self.decode.shape)
        worst = np.argmax(totals, axis=0)[None]
        late = {
            name: np.take_along_axis(np.broadcast_to(value, totals.shape), worst, axis=0)[0]
            for name, value in self.decode.memory_bytes.items()
        }
        larger = late["total"] > parts["total"]
        return {name: self._shaped(np.where(larger, late[name], parts[name])) for name in parts}

    @property
    def peak_memory_bytes(self) -> Value:
        return self.memory_bytes["total"]

    @property
    def fits(self) -> Any:
        """Whether both phases fit the device's memory."""
        fits = np.less_equal(self.peak_memory_bytes, self.memory_bytes["capacity"])
        return fits if self.shape else bool(fits)

    @property
    def warnings(self) -> tuple[str, ...]:
        later = () if self.decode is None else self.decode.warnings
        return tuple(dict.fromkeys((*self.prefill.warnings, *later)))

    @property
    def provenance(self) -> Mapping[str, Any]:
        """That of the prefill, with the graphs of both phases."""
        graphs = {"prefill": self.prefill.provenance["graph"]}
        if self.decode is not None:
            graphs["decode"] = self.decode.provenance["graph"]
        return {**self.prefill.provenance, "graph": graphs}

    def to_dict(self) -> dict[str, Any]:
        """The document `hwsim.request/1`; absent quantities are None."""
        from hwsim.document import request_document

        return request_document(self, SCHEMA)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)

    def _repr_html_(self) -> str:
        from hwsim.notebook import request_html

        return request_html(self)

    def _summed(self, name: str) -> Value:
        return self._sum(None if self.decode is None else getattr(self.decode, name))

    def _sum(self, values: Value | None) -> Value:
        """The sum over the steps."""
        return self._shaped(0.0 if values is None else np.sum(values * self.steps, axis=0))

    def _total(self, name: str) -> Value:
        return self._shaped(getattr(self.prefill, name)) + self._summed(name)

    def _per_step(self, total: Value) -> Value | None:
        if self.decode is None:
            return None
        with np.errstate(invalid="ignore"):  # an array may hold requests of one token: not a number there
            return self._shaped(np.divide(total, self.generate - 1.0))

    def _shaped(self, value: Value) -> Value:
        return np.broadcast_to(value, self.shape) if self.shape else float(value)


def request(
    model: Any,
    device: Any,
    *,
    generate: Any,
    prompt: Any = None,
    batch: Any = None,
    context: Any = 0,
    dtype: str | None = None,
    weights: str | None = None,
    kv: str | None = None,
    stack: str | Stack = "compiled",
    strict: bool = False,
    price: Any = None,
    overrides: Mapping[str, Any] | None = None,
    **symbols: Any,
) -> Any:
    """`generate` tokens after a prompt of `prompt` tokens (the model's usual number when not given).

    `context` tokens are cached beforehand. The other arguments are those of `estimate`, arrays and a list of
    devices included.
    """
    if isinstance(device, (list, tuple)):
        return [
            request(
                model, one, generate=generate, prompt=prompt, batch=batch, context=context, dtype=dtype,
                weights=weights, kv=kv, stack=stack, strict=strict, price=price, overrides=overrides, **symbols,
            )
            for one in device
        ]  # fmt: skip
    machine = device if isinstance(device, Device) else find_device(device)
    sizes, settings = _parted({"seq": prompt, "batch": batch, **symbols}, overrides or {})
    known = {phase: _size_names(model, phase) for phase in PHASES}
    unknown = [name for name in sizes if name not in known["prefill"] | known["decode"] and name != "batch"]
    if unknown:
        names = ", ".join(sorted(known["prefill"] | known["decode"]))
        raise HwsimError(f"{model} has no size {unknown[0]!r}; it has {names}")
    tokens = _whole("generate", generate, least=1)
    given: dict[str, Any] = {
        "dtype": dtype, "weights": weights, "kv": kv, "stack": stack, "strict": strict, "price": price,
        "overrides": settings,
    }  # fmt: skip

    def priced(phase: str, **more: Any) -> Estimate:
        mine = {name: value for name, value in sizes.items() if name in known[phase] or name == "batch"}
        found: Estimate = estimate(model, machine, phase=phase, **{**mine, **more}, **given)
        return found

    prefill = priced("prefill", context=_whole("context", context, least=0))
    prompt = _whole("prompt", prefill.sizes["seq"], least=1)
    decode, steps = None, np.zeros(0)
    if np.max(tokens) > 1:
        contexts, steps = _contexts(context + prompt, tokens, len(prefill.shape))
        try:
            decode = priced("decode", context=contexts)
        except HwsimError as error:
            raise HwsimError(
                f"{_most(tokens)} tokens after {_most(context + prompt)} are too many: {error}"
            ) from error
    return Request(
        model=prefill.model,
        device=prefill.device,
        prompt=prompt,
        generate=tokens,
        prefill=prefill,
        decode=decode,
        steps=steps,
    )


def _parted(sizes: Mapping[str, Any], overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sizes of the model, and settings of device, stack and coefficients."""
    settings = {path: value for path, value in overrides.items() if "." in path}
    given = {name: value for name, value in sizes.items() if value is not None}
    return given | {name: value for name, value in overrides.items() if name not in settings}, settings


def _size_names(model: Any, phase: str) -> set[str]:
    try:
        return {symbol.name for symbol in trace(model, phase=phase).symbols}
    except (GraphError, HwsimError) as error:
        raise HwsimError(f"{error}; a whole request needs prefill and decode") from error


def _whole(name: str, value: Any, *, least: int) -> Any:
    array = np.asarray(value, dtype=np.float64)
    if not np.all((array == np.floor(array)) & (array >= least)):
        raise HwsimError(f"{name}={value} is not possible; give a whole number of at least {least}")
    return array if array.ndim else float(array)


def _contexts(first: Any, tokens: Any, axes: int) -> tuple[Any, Any]:
    """Cached tokens at each step, steps on a new leading axis, and which steps belong to the request."""
    count = np.asarray(tokens) - 1
    axes = max(axes, np.ndim(count))
    step = np.arange(int(np.max(count)), dtype=np.float64).reshape((-1,) + (1,) * axes)
    # a shorter request repeats its last step, which then has no weight
    return first + np.clip(step, 0, np.maximum(count - 1, 0)), (step < count).astype(np.float64)


def _most(value: Any) -> str:
    return f"{float(np.max(value)):g}"
