"""`hwsim.request`: a prompt and the tokens after it, from one estimate per phase.

The first token comes out of the prefill; each further one is a decode step of its own length, priced in one
estimate over all steps and summed exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from devices import Device, Stack
from devices.cluster import Cluster
from devices.cluster import machine as find_machine
from graphs.errors import GraphError
from graphs.parallel import Parallel
from hwsim.errors import HwsimError
from hwsim.estimating import estimate
from hwsim.requests import Request
from hwsim.result import Estimate
from hwsim.tracing import trace

PHASES = ("prefill", "decode")


def request(
    model: Any,
    device: Any,
    *,
    generate: Any,
    prompt: Any = None,
    batch: Any = None,
    context: Any = 0,
    dtype: str | None = None,
    weights: str | None = None,
    kv: str | None = None,
    stack: str | Stack = "compiled",
    parallel: Parallel | Mapping[str, Any] | None = None,
    strict: bool = False,
    price: Any = None,
    overrides: Mapping[str, Any] | None = None,
    **symbols: Any,
) -> Any:
    """`generate` tokens after a prompt of `prompt` tokens (the model's usual number when not given).

    `context` tokens are cached beforehand. The other arguments are those of `estimate`, arrays and a list of
    devices included.
    """
    if isinstance(device, (list, tuple)):
        return [
            request(
                model, one, generate=generate, prompt=prompt, batch=batch, context=context, dtype=dtype,
                weights=weights, kv=kv, stack=stack, parallel=parallel, strict=strict, price=price,
                overrides=overrides, **symbols,
            )
            for one in device
        ]  # fmt: skip
    machine = device if isinstance(device, Device | Cluster) else find_machine(device)
    sizes, settings = _parted({"seq": prompt, "batch": batch, **symbols}, overrides or {})
    known = {phase: _size_names(model, phase) for phase in PHASES}
    unknown = [name for name in sizes if name not in known["prefill"] | known["decode"] and name != "batch"]
    if unknown:
        names = ", ".join(sorted(known["prefill"] | known["decode"]))
        raise HwsimError(f"{model} has no size {unknown[0]!r}; it has {names}")
    tokens = _whole("generate", generate, least=1)
    given: dict[str, Any] = {
        "dtype": dtype, "weights": weights, "kv": kv, "stack": stack, "parallel": parallel, "strict": strict,
        "price": price, "overrides": settings,
    }  # fmt: skip

    def priced(phase: str, **more: Any) -> Estimate:
        mine = {name: value for name, value in sizes.items() if name in known[phase] or name == "batch"}
        found: Estimate = estimate(model, machine, phase=phase, **{**mine, **more}, **given)
        return found

    prefill = priced("prefill", context=_whole("context", context, least=0))
    prompt = _whole("prompt", prefill.sizes["seq"], least=1)
    decode, steps = None, np.zeros(0)
    if np.max(tokens) > 1:
        contexts, steps = _contexts(context + prompt, tokens, len(prefill.shape))
        try:
            decode = priced("decode", context=contexts)
        except HwsimError as error:
            raise HwsimError(
                f"{_most(tokens)} tokens after {_most(context + prompt)} are too many: {error}"
            ) from error
    return Request(
        model=prefill.model,
        device=prefill.device,
        prompt=prompt,
        generate=tokens,
        prefill=prefill,
        decode=decode,
        steps=steps,
    )


def _parted(sizes: Mapping[str, Any], overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sizes of the model, and settings of device, stack and coefficients."""
    settings = {path: value for path, value in overrides.items() if "." in path}
    given = {name: value for name, value in sizes.items() if value is not None}
    return given | {name: value for name, value in overrides.items() if name not in settings}, settings


def _size_names(model: Any, phase: str) -> set[str]:
    try:
        return {symbol.name for symbol in trace(model, phase=phase).symbols}
    except (GraphError, HwsimError) as error:
        if "no phase" not in str(error):
            raise
        raise HwsimError(f"{error}; a whole request needs prefill and decode") from error


def _whole(name: str, value: Any, *, least: int) -> Any:
    array = np.asarray(value, dtype=np.float64)
    if not np.all((array == np.floor(array)) & (array >= least)):
        raise HwsimError(f"{name}={value} is not possible; give a whole number of at least {least}")
    return array if array.ndim else float(array)


def _contexts(first: Any, tokens: Any, axes: int) -> tuple[Any, Any]:
    """Cached tokens at each step, steps on a new leading axis, and which steps belong to the request."""
    count = np.asarray(tokens) - 1
    axes = max(axes, np.ndim(count))
    step = np.arange(int(np.max(count)), dtype=np.float64).reshape((-1,) + (1,) * axes)
    # a shorter request repeats its last step, which then has no weight
    return first + np.clip(step, 0, np.maximum(count - 1, 0)), (step < count).astype(np.float64)


def _most(value: Any) -> str:
    return f"{float(np.max(value)):g}"
