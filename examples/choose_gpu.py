"""Which GPU serves a chat model for the least money, when the answer must start and flow fast enough?

Every GPU with a price, three precisions and all batch sizes: one call per GPU and precision.
    python examples/choose_gpu.py
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import hwsim

MODEL = "llama-3-8b"
PROMPT, ANSWER = 1024, 256  # tokens
FIRST_TOKEN_S, NEXT_TOKEN_S = 1.0, 0.05  # what users bear
BATCHES = np.array([1, 2, 4, 8, 16, 32, 64, 128])
PRECISIONS: tuple[dict[str, str], ...] = ({}, {"weights": "int8"}, {"weights": "int4:g128", "kv": "fp8"})
# USD per hour that you really pay, by device; the price in the profile where nothing stands here
PRICES = {"rtx-4090": 0.45, "mi300x": 3.5}


@dataclass(frozen=True)
class Choice:
    device: str
    precision: str
    batch: int
    first_token_s: float
    next_token_s: float
    tokens_per_s: float
    usd_per_million: float


def choices() -> list[Choice]:
    """The cheapest batch of every GPU and precision that meets both targets, cheapest first."""
    found = []
    for device in hwsim.devices("gpu"):
        price = PRICES.get(device.id, device.price.usd_per_hour)
        if price is None:
            continue
        for precision in PRECISIONS:
            request = hwsim.request(
                MODEL,
                device,
                prompt=PROMPT,
                generate=ANSWER,
                batch=BATCHES,
                stack="engine",
                price=price,
                **precision,
            )
            good = request.fits & (request.ttft_s <= FIRST_TOKEN_S) & (request.tpot_s <= NEXT_TOKEN_S)
            if not good.any():
                continue
            best = int(np.argmin(np.where(good, request.usd_per_million_tokens, np.inf)))
            found.append(
                Choice(
                    device=device.id,
                    precision=" ".join(precision.values()) or request.dtype,
                    batch=int(BATCHES[best]),
                    first_token_s=float(request.ttft_s[best]),
                    next_token_s=float(request.tpot_s[best]),
                    tokens_per_s=float(request.tokens_per_s[best]),
                    usd_per_million=float(request.usd_per_million_tokens[best]),
                )
            )
    return sorted(found, key=lambda one: one.usd_per_million)


def main() -> None:
    print(f"{MODEL}, {PROMPT} tokens in, {ANSWER} out; first token within {FIRST_TOKEN_S:g} s, each next one")
    print(f"within {1e3 * NEXT_TOKEN_S:g} ms; all requests of a batch begin together\n")
    print("device           precision      batch   first    next   tokens/s  $ per million")
    for one in choices()[:12]:
        first, following = f"{1e3 * one.first_token_s:.0f} ms", f"{1e3 * one.next_token_s:.1f} ms"
        print(
            f"{one.device:16} {one.precision:14} {one.batch:5d} {first:>7} {following:>7} "
            f"{one.tokens_per_s:10.0f} {one.usd_per_million:14.2f}"
        )


if __name__ == "__main__":
    main()
