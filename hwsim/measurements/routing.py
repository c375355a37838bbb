"""Which experts get tokens on the device that a kernel benchmark runs: from the routing a table names."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

_FEWEST, _MOST = 0.01, 2.0  # ends of the power law when there are fewer picks than experts
_SHARE = 0.8  # of all tokens: its upper end otherwise
_MOST_EXPERTS = 1e5


def active_experts(
    tokens: NDArray[np.float64],
    experts: NDArray[np.float64],
    top_k: NDArray[np.float64],
    ranks: NDArray[np.float64],
    routing: str,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Active experts of the busiest rank and the mean number of tokens of each, per row.

    `routing` is balanced, uniform (independent picks) or power_law_ALPHA.
    """
    if routing == "uniform":
        local = experts / ranks
        active = np.maximum(1.0, local * (1 - (1 - top_k / experts) ** tokens))
        return active, tokens * top_k / ranks / active
    if not routing.startswith("power_law_"):
        picks = tokens * top_k / ranks
        active = np.clip(np.ceil(picks), 1.0, experts / ranks)
        return active, np.maximum(picks, 1.0) / active
    alpha = float(routing.removeprefix("power_law_"))
    cases = np.stack([tokens, experts, top_k, ranks], axis=1)
    unique, back = np.unique(cases, axis=0, return_inverse=True)
    found = np.array([_busiest(*case, alpha) for case in unique.tolist()]).reshape(-1, 2)
    return found[back.reshape(-1), 0], found[back.reshape(-1), 1]


@cache
def _busiest(tokens: float, experts: float, top_k: float, ranks: float, alpha: float) -> tuple[float, float]:
    """Active experts and tokens per active expert of the rank with the most tokens.

    The benchmark draws one number per expert from a power law, scales them to the picks of all tokens,
    rounds, and moves the busiest rank's experts to the device it measures. Here the draws are evenly spaced
    quantiles, dealt to the ranks in one fixed random order.
    """
    sizes = (tokens, experts, top_k, ranks)
    if experts > _MOST_EXPERTS or not all(np.isfinite(v) and v >= 1 for v in sizes):
        return float("nan"), float("nan")
    count, picks = int(experts), tokens * top_k
    low, high = (1.0, max(_SHARE * tokens, 1.0 + 1e-9)) if picks > experts else (_FEWEST, _MOST)
    quantile = (np.arange(count) + 0.5) / count
    drawn = (quantile * (high ** (1 - alpha) - low ** (1 - alpha)) + low ** (1 - alpha)) ** (1 / (1 - alpha))
    load = np.minimum(np.round(drawn / drawn.sum() * picks), tokens)
    dealt = np.random.default_rng(0).permutation(load)
    per_rank = max(1, int(count // max(1.0, ranks)))
    ends = [dealt[start : start + per_rank] for start in range(0, count, per_rank)]
    busiest = ends[int(np.argmax([part.sum() for part in ends]))]
    active = max(1.0, float(np.count_nonzero(busiest)))
    return active, max(float(busiest.sum()), 1.0) / active
