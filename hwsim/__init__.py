"""hwsim: how long, how many joules, does it fit, what limits it: transformers on hardware, from one trace.

`estimate` answers for one point or for arrays of design points, `request` for a prompt and the tokens after
it; `compare` puts models and devices side by side, `advise` says what a change would buy, `plan` which set-up
meets a target at the least cost, `team` sets models on devices of their own
side by side, `claims` holds published cost figures against ours. `trace` gives a model's
operator graph, `device` and `devices` the machines, `models` and `model` the built-in models. Nothing here
imports torch; tracing does when needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hwsim.rooms import check_rooms

check_rooms()

if TYPE_CHECKING:
    from devices import device, devices
    from graphs.catalog import entries as models
    from graphs.catalog import find as model
    from graphs.serial import load_graph
    from hwsim.advice import Advice
    from hwsim.advising import advise
    from hwsim.calibrating import calibrate
    from hwsim.calibrating_devices import Calibration
    from hwsim.comparing import compare
    from hwsim.comparison import Comparison
    from hwsim.errors import HwsimError
    from hwsim.estimating import estimate
    from hwsim.lower import lower
    from hwsim.planning import plan
    from hwsim.plans import Plan
    from hwsim.published.checking import Claims, claims
    from hwsim.requesting import request
    from hwsim.requests import Request
    from hwsim.result import Estimate
    from hwsim.sweeps.result import SweepResult
    from hwsim.sweeps.run import sweep
    from hwsim.teams import Member, Team, team
    from hwsim.tracing import trace
    from hwsim.validating import validate
    from hwsim.validation import Validation

_PUBLIC = {
    "advise": ("hwsim.advising", "advise"),
    "Advice": ("hwsim.advice", "Advice"),
    "calibrate": ("hwsim.calibrating", "calibrate"),
    "Calibration": ("hwsim.calibrating_devices", "Calibration"),
    "claims": ("hwsim.published.checking", "claims"),
    "Claims": ("hwsim.published.checking", "Claims"),
    "compare": ("hwsim.comparing", "compare"),
    "Comparison": ("hwsim.comparison", "Comparison"),
    "estimate": ("hwsim.estimating", "estimate"),
    "Estimate": ("hwsim.result", "Estimate"),
    "HwsimError": ("hwsim.errors", "HwsimError"),
    "lower": ("hwsim.lower", "lower"),
    "plan": ("hwsim.planning", "plan"),
    "Plan": ("hwsim.plans", "Plan"),
    "request": ("hwsim.requesting", "request"),
    "Request": ("hwsim.requests", "Request"),
    "sweep": ("hwsim.sweeps.run", "sweep"),
    "SweepResult": ("hwsim.sweeps.result", "SweepResult"),
    "team": ("hwsim.teams", "team"),
    "Member": ("hwsim.teams", "Member"),
    "Team": ("hwsim.teams", "Team"),
    "trace": ("hwsim.tracing", "trace"),
    "validate": ("hwsim.validating", "validate"),
    "Validation": ("hwsim.validation", "Validation"),
    "load_graph": ("graphs.serial", "load_graph"),
    "model": ("graphs.catalog", "find"),
    "models": ("graphs.catalog", "entries"),
    "device": ("devices", "device"),
    "devices": ("devices", "devices"),
}

__all__ = [
    "Advice",
    "Calibration",
    "Claims",
    "Comparison",
    "Estimate",
    "HwsimError",
    "Member",
    "Plan",
    "Request",
    "SweepResult",
    "Team",
    "Validation",
    "advise",
    "calibrate",
    "claims",
    "compare",
    "device",
    "devices",
    "estimate",
    "load_graph",
    "lower",
    "model",
    "models",
    "plan",
    "request",
    "sweep",
    "team",
    "trace",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'hwsim' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _PUBLIC[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value
