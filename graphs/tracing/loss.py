"""The scalar that a training step derives, made of whatever the module returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as functional

from graphs.errors import GraphError
from graphs.losses import CROSS_ENTROPY


def loss_of(out: Any, loss: str, targets_of: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """The module's own loss where it returns one (a scalar), else `loss` of its outputs.

    `cross_entropy` is that of the first output in float32 against one target index per row, which
    `targets_of` gives, as language models and classifiers are trained; `sum` adds up all elements of all
    outputs.
    """
    outputs = [tensor for tensor in _floats(out) if tensor.requires_grad]
    if not outputs:
        raise GraphError("no output depends on a parameter that is trained; set requires_grad or use forward")
    scalar = next((tensor for tensor in outputs if tensor.dim() == 0), None)
    if scalar is not None:
        return scalar
    if loss == CROSS_ENTROPY:
        logits = outputs[0]
        targets = targets_of(logits)
        rows = logits.flatten(0, -2) if logits.dim() > 2 else logits
        return functional.cross_entropy(rows.float(), targets.flatten())
    total = outputs[0].sum()
    for output in outputs[1:]:
        total = total + output.sum()
    return total


def _floats(value: Any) -> Iterator[torch.Tensor]:
    """Floating-point tensors of a nested value, in order; those of a record before its attributes."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _floats(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _floats(item)
