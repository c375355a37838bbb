"""What a whole request is: the prompt read once, then one token after another over a context that grows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from hwsim.result import Estimate, Value

SCHEMA = "hwsim.request/1"


@dataclass(frozen=True, kw_only=True)
class Request:
    """Time, energy and memory of `generate` tokens after a prompt, without a queue; arrays as in `Estimate`.

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
    def phase(self) -> str:
        """What stands where an estimate has its phase."""
        return "request"

    @property
    def batch(self) -> Value:
        return self.prefill.samples

    @property
    def sizes(self) -> dict[str, Value]:
        """Sizes as asked for, or the model's defaults."""
        return {**self.prefill.sizes, "generate": self.generate}

    @property
    def log_spread(self) -> Value:
        """That of the prefill: errors of the steps are shared."""
        return self.prefill.log_spread

    @property
    def ttft_s(self) -> Value:
        """Time to first token: the prefill."""
        return self._shaped(self.prefill.latency_s)

    @property
    def ttft_low_s(self) -> Value:
        return self._shaped(self.prefill.latency_low_s)

    @property
    def ttft_high_s(self) -> Value:
        return self._shaped(self.prefill.latency_high_s)

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
            name: self._shaped(value)
            + self._sum(None if self.decode is None else self.decode.breakdown_s[name])
            for name, value in self.prefill.breakdown_s.items()
        }

    @property
    def bound(self) -> Any:
        """What takes the largest part of both phases together."""
        return self._largest(self.breakdown_s)

    @property
    def decode_bound(self) -> Any:
        """What takes the largest part of all decode steps; None where there are none."""
        if self.decode is None:
            return None
        return self._largest({name: self._sum(value) for name, value in self.decode.breakdown_s.items()})

    def _largest(self, parts: Mapping[str, Value]) -> Any:
        names = np.array(list(parts))[np.argmax(np.stack(list(parts.values())), axis=0)]
        return names if self.shape else str(names)

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
    def tokens_per_s(self) -> Value:
        """Generated ones."""
        return self.generated / self.latency_s

    @property
    def samples_per_s(self) -> Value:
        """Requests."""
        return self.batch / self.latency_s

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
        # a step beyond the end of its request counts for nothing
        totals = np.broadcast_to(self.decode.memory_bytes["total"], self.decode.shape) * self.steps
        worst = np.argmax(totals, axis=0)[None]
        late = {
            name: np.take_along_axis(np.broadcast_to(value, totals.shape), worst, axis=0)[0]
            for name, value in self.decode.memory_bytes.items()
        }
        larger = np.take_along_axis(totals, worst, axis=0)[0] > parts["total"]
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
