"""The largest size that fits: memory of many sizes is one estimate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hwsim.errors import HwsimError
from hwsim.result import Estimate

POINTS = 2000  # sizes that one estimate looks at: no two neighbours are 1 % apart


def largest(size: str, ask: Callable[..., Estimate], *, most: int, step: int = 1) -> int:
    """The largest multiple of `step` up to `most` that fits, where `ask(**{size: array})` is the estimate."""
    if most < step:
        raise HwsimError(f"{size} is {most} at most, less than a step of {step}; give a smaller step")
    tried = step * np.unique(np.geomspace(1, most // step, POINTS).astype(int))
    fitting = tried[np.broadcast_to(ask(**{size: tried}).fits, tried.shape)]
    if not fitting.size:
        raise HwsimError(f"not even {size} {step} fits; give more devices, or a device with more memory")
    if fitting[-1] == tried[-1]:
        raise HwsimError(f"{size} {tried[-1]} still fits, and there is no larger one; fix other sizes higher")
    return int(fitting.max())
