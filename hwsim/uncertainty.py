"""How uncertain a latency is: what its log error is made of; the share that measured kernels speak for."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.evaluate import Totals
from hwsim.machine import Machine

Z80 = 1.2816  # standard normal quantile of a two-sided 80 % interval


def log_sigma(totals: Totals, machine: Machine) -> Any:
    """Standard deviation of ln(measured / predicted): of the device, and of each kind by its share of time.

    Errors of a kind are shared by its operators, those of different kinds are not. What measured neighbours
    explain has their spread instead, and none of the device's.
    """
    c = machine.structure.coefficients
    whole = np.maximum(sum(totals.kind_s.values()), 1e-30)
    own = sum(totals.own_s.values()) / whole
    variance = np.square(c["log_sigma"] * (1.0 - own)) + np.zeros(totals.latency_s.shape)
    for kind, seconds in totals.kind_s.items():
        unknown = c.get(f"{kind}_log_sigma", 0.0) * (seconds - totals.own_s.get(kind, 0.0))
        variance = variance + np.square((unknown + totals.own_sigma_s.get(kind, 0.0)) / whole)
    return np.sqrt(variance)


def own_share(totals: Totals) -> float:
    """Share of device time that measured kernels of the device speak for, the mean over points."""
    whole = np.maximum(sum(totals.kind_s.values()), 1e-30)
    return round(float(np.mean(sum(totals.own_s.values()) / whole)), 4)
