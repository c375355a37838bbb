"""Prefill and decode of stock models: the recorded call continues from a cache that the model filled itself.

The model runs, unrecorded, over one and over two tokens; whatever cache it made (keys and values, windows of
them, convolution and state-space states) is stretched to `context` tokens, in memory of its own, and passed
to the recorded call. So every kind of cache a model may have is served by its own code.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput

from graphs.errors import GraphError
from graphs.tracing.state import replace_tensors, tensors_of
from graphs.tracing.symbolic import Arguments, Prepared

_CACHES = ("cache", "past_key_values", "cache_params", "state")
_ENCODER = ("input_ids", "input_features", "input_values", "pixel_values")
Sizes = Mapping[str, "int | torch.SymInt"]


def cache_argument(model_class: Any) -> str | None:
    """The argument of the forward that takes the cache; None for models without one."""
    known = inspect.signature(model_class.forward).parameters
    return next((name for name in _CACHES if name in known), None)


def first_tokens(module: nn.Module, call: Arguments, sizes: Sizes) -> Prepared:
    """The call that fills an empty cache, with a head on the last position only."""
    return Prepared({**call, "use_cache": True, **_last_only(module)})


def next_tokens(module: nn.Module, call: Arguments, sizes: Sizes) -> Prepared:
    """The call that puts the example's tokens behind `context` cached ones."""
    argument = cache_argument(type(module))
    assert argument is not None  # such models are refused before
    tokens = "decoder_input_ids" if "decoder_input_ids" in call else "input_ids"
    context, new = sizes["context"], call[tokens]
    (cache, output), (longer, _) = (_filled(module, call, tokens, length) for length in (1, 2))
    grown = [a.shape != b.shape for a, b in zip(tensors_of(cache), tensors_of(longer), strict=True)]
    if isinstance(context, int) and context > 2 and any(grown):
        cache, output = _filled(module, call, tokens, context)
        replace_tensors(cache, _fresh)
    else:
        _extend(cache, longer, context)
    following = {tokens: new, argument: cache, "use_cache": True}
    if new.shape[-1] != 1:
        following |= _last_only(module)
    if tokens == "decoder_input_ids":
        states = output.encoder_last_hidden_state
        following["encoder_outputs"] = BaseModelOutput(last_hidden_state=_fresh(states))
    held = [(tensor, grows) for tensor, grows in zip(tensors_of(cache), grown, strict=True)]
    return Prepared(following, [t for t, grows in held if grows], [t for t, grows in held if not grows])


def _last_only(module: nn.Module) -> Arguments:
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(module.forward).parameters else {}


def _filled(module: nn.Module, call: Arguments, tokens: str, length: int | torch.SymInt) -> tuple[Any, Any]:
    """The cache after `length` tokens, and the output that came with it."""
    new = call[tokens]
    before = torch.empty((new.shape[0], length, *new.shape[2:]), dtype=new.dtype)
    output = module(**{**call, tokens: before, "use_cache": True})
    held = [value for key, value in output.items() if isinstance(value, Cache) or key in _CACHES]
    if not held or held[0] is None:
        raise GraphError(f"{type(module).__name__} returns no cache; only its forward can be traced")
    return held[0], output


def _fresh(tensor: torch.Tensor) -> torch.Tensor:
    """Memory of its own, as a cache has it; what the model computed it from is gone."""
    if not tensor.is_floating_point():
        return tensor
    return torch.empty(tensor.shape, dtype=tensor.dtype)


def _extend(one: Any, two: Any, context: int | torch.SymInt) -> None:
    """Make the cache after one token that after `context`: every size goes on as it did from one to two.

    Where a cache does otherwise, such as a full window, its own code compares lengths in the recorded call,
    which leaves a condition, and a trace at a plain number fills it for real.
    """
    longer = iter(tensors_of(two))

    def reached(after_one: int, after_two: int) -> int | torch.SymInt:
        grown = after_two - after_one
        return after_one if grown == 0 else after_one - grown + grown * context

    def extended(tensor: torch.Tensor) -> torch.Tensor:
        other = next(longer)
        if not tensor.is_floating_point():
            return tensor
        shape = [reached(a, b) for a, b in zip(tensor.shape, other.shape, strict=True)]
        return torch.empty(shape, dtype=tensor.dtype)

    replace_tensors(one, _each_once(extended))
    for mine, other in zip(getattr(one, "layers", ()), getattr(two, "layers", ()), strict=True):
        if isinstance(getattr(mine, "cumulative_length", None), int):
            mine.cumulative_length = reached(mine.cumulative_length, other.cumulative_length)


def _each_once(change: Any) -> Any:
    """`change`, called once per tensor in the order `tensors_of` lists them."""
    known: dict[int, torch.Tensor] = {}

    def once(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in known:
            known[id(tensor)] = change(tensor)
        return known[id(tensor)]

    return once
