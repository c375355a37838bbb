"""From how many tokens on does linear attention pay on a phone?

The two modules are a user's own; hwsim traces them once with an open sequence length, without weights, and
prices every length in one call.
    python examples/linear_attention.py [DEVICE]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

import hwsim

WIDTH, HEADS = 512, 8
LENGTHS = np.arange(16, 16_385, 16)
PHONE = "iphone-14"


class Attention(nn.Module):
    """Softmax attention: work grows with the square of the length."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return self.out(self.mix(query, key, value).transpose(1, 2).flatten(2))

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(query, key, value)


class LinearAttention(Attention):
    """Linear attention with the feature map elu(x) + 1 (Katharopoulos et al., arXiv:2006.16236, eq. 5-7)."""

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key = functional.elu(query) + 1, functional.elu(key) + 1
        state = key.transpose(-2, -1) @ value  # one matrix per head, whatever the length
        norm = query @ key.sum(-2).unsqueeze(-1)
        return query @ state / norm.clamp(min=1e-6)


@dataclass(frozen=True)
class Answer:
    """Latency and energy of both at every length, and from which length on linear attention needs less."""

    softmax: hwsim.Estimate
    linear: hwsim.Estimate

    def pays_from(self, quantity: str) -> int | None:
        """The least length from which on linear attention always needs less; None if it never does."""
        less = getattr(self.linear, quantity) < getattr(self.softmax, quantity)
        lasting: NDArray[np.bool_] = np.logical_and.accumulate(less[::-1])[::-1]
        return int(LENGTHS[np.argmax(lasting)]) if lasting.any() else None


def compare(device: str = PHONE) -> Answer:
    inputs = {"x": (1, "seq", WIDTH)}
    found = [
        hwsim.estimate(hwsim.trace(kind().to(torch.float16), inputs=inputs), device, seq=LENGTHS)
        for kind in (Attention, LinearAttention)
    ]
    return Answer(softmax=found[0], linear=found[1])


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else PHONE
    answer = compare(device)
    print(f"one attention layer, {WIDTH} channels, {HEADS} heads, fp16, on {device}\n")
    print("  tokens     softmax      linear   ratio   energy ratio")
    for length in (64, 256, 1024, 4096, 16384):
        at = int(np.flatnonzero(length == LENGTHS)[0])
        softmax, linear = 1e3 * answer.softmax.latency_s[at], 1e3 * answer.linear.latency_s[at]
        joules = answer.linear.energy_j[at] / answer.softmax.energy_j[at]
        print(f"{length:8d} {softmax:8.3f} ms {linear:8.3f} ms {linear / softmax:7.2f} {joules:14.2f}")
    print()
    for quantity, word in (("latency_s", "time"), ("energy_j", "energy")):
        first = answer.pays_from(quantity)
        lengths = "at no length" if first is None else f"from {first} tokens on"
        print(f"Linear attention saves {word} {lengths}.")


if __name__ == "__main__":
    main()
