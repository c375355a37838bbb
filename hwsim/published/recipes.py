"""Runs a recipe. What was printed is not known here; that is the point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from devices import device as find_device
from graphs.catalog import default_sizes, find
from graphs.errors import GraphError
from graphs.expressions import evaluate
from graphs.ir import WEIGHT, OperatorGraph, Storage, module_template
from graphs.workload import dtype_bits
from hwsim.capacity import largest
from hwsim.errors import HwsimError
from hwsim.estimating import bind, bound_graph, estimate
from hwsim.fitted import coefficients_for
from hwsim.published.claim import Recipe, Run
from hwsim.published.conventions import CONVENTIONS, inside
from hwsim.requesting import request
from hwsim.teams import input_byte, link_level, transfer_s
from hwsim.tracing import trace

COUNT, MEMORY, RATE = 0.05, 0.15, 0.25  # how far off still counts as reproduced
_RUNS = 256
MOST = 8192  # the largest size looked for where a model has no bound of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """Something that a run gives, in SI units, and its tolerance."""

    tolerance: float
    of: Callable[[Run], Any]


def compute(recipe: Recipe) -> float:
    """The claimed quantity in SI units."""
    values = {name: taken(run) for name, run in recipe.runs}
    found = np.asarray(evaluate(recipe.formula, values))
    return float(found.max() if recipe.over == "max" else found.mean())


def tolerance(recipe: Recipe) -> float:
    """The widest tolerance among what the runs give."""
    return max(_take(run).tolerance for _, run in recipe.runs)


def taken(run: Run) -> Any:
    """What one run gives, at every point of its grid."""
    return _take(run).of(run)


def _take(run: Run) -> Take:
    if run.take not in TAKES:
        raise HwsimError(f"a run takes {run.take!r}; it can take {', '.join(sorted(TAKES))}")
    return TAKES[run.take]


def graph_of(run: Run) -> OperatorGraph:
    """The graph of a run; of a built-in model without any size but its batch, traced at that batch alone.

    That takes a third of the time of an open trace, which pays only where many points are asked for.
    """
    try:
        entry = find(run.model)
    except GraphError:  # a path: open as it is
        return trace(run.model, phase=run.phase)
    single = {name: value for name, value in run.at if not isinstance(value, tuple)}
    open_sizes = entry.symbols.keys() != {"batch"} or len(single) < len(run.at)
    if open_sizes or run.generate is not None:
        # where a trace excludes a size that is asked for, it is traced again there
        return bound_graph(run.model, run.phase, _grid(run))[0]
    sizes = default_sizes(entry, run.phase, single)
    return trace(run.model, phase=run.phase, fixed={"batch": int(sizes["batch"])})


def _counting(name: str) -> Take:
    def of(run: Run) -> Any:
        graph = graph_of(run)
        return CONVENTIONS[name](graph, bind(graph, _grid(run)), run.within)

    return Take(tolerance=COUNT, of=of)


def _weights(run: Run) -> list[Storage]:
    """Weights of the model, or of the modules in one template; a shared weight once."""
    named = [one for one in graph_of(run).storages if one.role == WEIGHT and one.name]
    return [one for one in named if inside(module_template(one.name.rpartition(".")[0]), run.within)]


def _parameters(run: Run) -> float:
    return (
        float(sum(float(one.elements.value or 0) for one in _weights(run)))
        if run.within
        else float(graph_of(run).parameters)
    )


def _weight_bytes(run: Run) -> float:
    """Parameters in the dtype of `weights`, else in their own."""
    width = {one.dtype: dtype_bits(run.weights or run.dtype or one.dtype) / 8 for one in _weights(run)}
    return float(sum(float(one.elements.value or 0) * width[one.dtype] for one in _weights(run)))


def _estimated(name: str, tolerance: float) -> Take:
    """An attribute of the estimate; only latency knows modules."""

    def of(run: Run) -> Any:
        if run.within:
            raise HwsimError(f"{run.take!r} cannot be taken of a part ({run.within}); leave out 'within'")
        return getattr(_priced(_without_take(run)), name)

    return Take(tolerance=tolerance, of=of)


def _latency(run: Run) -> Any:
    """Of the whole, or of the operators in one module template."""
    priced = _priced(_without_take(run))
    if not run.within:
        return priced.latency_s
    return float(
        sum(
            row.latency_s
            * sum(runs for template, runs in row.modules if inside(template, run.within))
            / row.count
            for row in priced.ops
        )
    )


def _transfer(run: Run) -> float:
    """Seconds in which the inputs of a model come to its device over a link."""
    if not run.device or not run.link:
        raise HwsimError(f"{run.take!r} of {run.model} needs a device and a link; name both")
    machine = find_device(run.device)
    byte = input_byte(graph_of(run), _grid(run))
    return float(transfer_s(byte, link_level(machine, run.link), coefficients_for(machine).values))


def _without_take(run: Run) -> Run:
    return replace(run, take="", within="")


def _fitting(size: str) -> Take:
    """The largest value of a size that fits, in steps of what sequence ranks can share."""

    def of(run: Run) -> float:
        graph = graph_of(run)
        bound = next((one.maximum for one in graph.symbols if one.name == size), None)
        most = MOST if bound is None else int(evaluate(bound, {}))
        step = int(dict(run.set).get("parallel.sp", 1)) if size == "seq" else 1
        given = {**_grid(run), **_given(run)}
        ask = partial(estimate, graph, run.device, phase=run.phase, **given)
        return float(largest(size, ask, most=most, step=step))

    return Take(tolerance=MEMORY, of=of)


@lru_cache(maxsize=_RUNS)
def _priced(run: Run) -> Any:
    sizes, given = _grid(run), _given(run)
    if run.generate is None:
        return estimate(graph_of(run), run.device, phase=run.phase, **sizes, **given)
    prompt = sizes.pop("seq", None)
    return request(run.model, run.device, generate=run.generate, prompt=prompt, **sizes, **given)


def _given(run: Run) -> dict[str, Any]:
    """What an estimate is told beside sizes."""
    if not run.device:
        raise HwsimError(f"a run of {run.model} needs a device; name one")
    return {
        "dtype": run.dtype,
        "weights": run.weights,
        "kv": run.kv,
        "stack": run.stack,
        "overrides": dict(run.set),
    }


def _grid(run: Run) -> dict[str, Any]:
    """The sizes; those with several values as axes that broadcast against each other."""
    axes = [name for name, value in run.at if isinstance(value, tuple)]
    sizes: dict[str, Any] = dict(run.at)
    for place, name in enumerate(axes):
        shape = [-1 if at == place else 1 for at in range(len(axes))]
        sizes[name] = np.array(sizes[name], dtype=np.float64).reshape(shape)
    return sizes


TAKES: Mapping[str, Take] = {
    **{name: _counting(name) for name in CONVENTIONS},
    "params": Take(tolerance=COUNT, of=_parameters),
    "weight_bytes": Take(tolerance=MEMORY, of=_weight_bytes),
    "latency_s": Take(tolerance=RATE, of=_latency),
    "transfer_s": Take(tolerance=RATE, of=_transfer),
    "samples_per_s": _estimated("samples_per_s", RATE),
    "tokens_per_s": _estimated("tokens_per_s", RATE),
    "energy_j": _estimated("energy_j", RATE),
    "mfu": _estimated("mfu", RATE),
    "peak_memory_bytes": _estimated("peak_memory_bytes", MEMORY),
    "largest_batch": _fitting("batch"),
    "largest_seq": _fitting("seq"),
    "dram_bytes": _estimated("dram_bytes", MEMORY),
}
