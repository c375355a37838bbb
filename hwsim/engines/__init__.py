"""How a kind of machine does work: one module per engine, all with the same three functions.

`gemm`, `attention` and `stream` turn rows of canonical sizes into a `Demand`: for every candidate (tile,
split, dataflow) what it asks of each resource. They read structure (units, array sides, capacities), never
rates, so that a choice of candidate is always priced by the one formula in `hwsim.pricing`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType

from hwsim.errors import HwsimError


@cache
def engine(name: str) -> ModuleType:
    """The engine module called `name`."""
    try:
        return import_module(f"hwsim.engines.{name}")
    except ModuleNotFoundError as error:
        raise HwsimError(f"no engine {name!r}; add hwsim/engines/{name}.py or correct the profile") from error
