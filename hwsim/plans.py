"""What a plan is: set-ups that meet a target, the cheapest first, and why the others do not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCHEMA = "hwsim.plan/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a service has to give; lengths in tokens, times in seconds, `rate` in requests per second."""

    prompt: int
    generate: int
    ttft_s: float
    tpot_s: float
    rate_per_s: float | None = None
    sure: bool = False  # the upper ends of the intervals must meet the times as well


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A set-up at the batch that is cheapest for it; rates, power and price are of one replica."""

    device: str
    recipe: str  # "as is", or what is stored or computed in fewer bits
    dtype: str
    stack: str
    batch: int
    ttft_s: float
    ttft_high_s: float
    tpot_s: float
    tpot_high_s: float
    tokens_per_s: float
    energy_per_token_j: float
    memory_bytes: float
    capacity_bytes: float
    usd_per_hour: float | None
    replicas: int | None  # for the rate that was asked for

    @property
    def usd_per_million_tokens(self) -> float | None:
        return None if self.usd_per_hour is None else 1e6 * self.usd_per_hour / 3600 / self.tokens_per_s

    @property
    def fleet_usd_per_hour(self) -> float | None:
        """Rent of all replicas, idle ones included."""
        known = self.usd_per_hour is not None and self.replicas is not None
        return self.usd_per_hour * self.replicas if known else None  # type: ignore[operator]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Offers, the best first; `refused` says per set-up what stands in the way."""

    model: str
    target: Target
    goal: str
    offers: tuple[Offer, ...]
    refused: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The document `hwsim.plan/1`; absent quantities are None."""
        from dataclasses import asdict

        return {
            "schema": SCHEMA,
            "model": self.model,
            "target": asdict(self.target),
            "goal": self.goal,
            "offers": [
                {
                    **asdict(offer),
                    "usd_per_million_tokens": offer.usd_per_million_tokens,
                    "fleet_usd_per_hour": offer.fleet_usd_per_hour,
                }
                for offer in self.offers
            ],
            "refused": dict(self.refused),
            "warnings": list(self.warnings),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)
