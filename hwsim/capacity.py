"""The largest size that fits: memory of many sizes is one estimate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.result import Estimate

POINTS = 64  # sizes looked at first, and then all between the last that fits and the next


def largest(size: str, ask: Callable[..., Estimate], *, most: int, step: int = 1) -> int:
    """The largest multiple of `step` up to `most` that fits, where `ask(**{size: array})` is the estimate."""

    def fitting(steps: NDArray[np.int64]) -> NDArray[np.int64]:
        fits: NDArray[np.bool_] = np.broadcast_to(ask(**{size: steps * step}).fits, steps.shape)
        return steps[fits]

    if most < step:
        raise HwsimError(f"{size} is {most} at most, less than a step of {step}; give a smaller step")
    coarse = np.unique(np.geomspace(1, most // step, POINTS).astype(np.int64))
    fits = fitting(coarse)
    if not fits.size:
        raise HwsimError(f"not even {size} {step} fits; give more devices or one with more memory")
    if fits[-1] == coarse[-1]:
        raise HwsimError(
            f"{size} {fits[-1] * step} fits, and no larger one is known; make other sizes larger"
        )
    between = np.arange(fits[-1], coarse[coarse > fits[-1]][0])
    return int(fitting(between)[-1]) * step
