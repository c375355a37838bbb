"""BERT with positions for long sequences: what ring self-attention trains over many devices.

Li et al., "Sequence Parallelism: Long Sequence Training from System Perspective", arXiv:2105.13120, 2021.
The method is a layout, not a model: every rank holds all weights and a part of the tokens, keys and values
go round a ring (`--sp N --set parallel.sequence=ring`). BERT-Base and BERT-Large as published, with the
heads of pre-training; only the table of positions is longer (own choice, 4096).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from graphs.inputs import Example
from graphs.variants import bert

FAMILY = "encoder"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "ring-bert-base": {
        "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072, "vocab": 30522, "max_position": 4096,
        "segments": 2, "activation": "gelu", "norm_eps": 1e-12, "dropout": 0.1, "dtype": "float32",
        "loss": "cross_entropy",
    },
    "ring-bert-large": {
        "layers": 24, "hidden": 1024, "heads": 16, "intermediate": 4096, "vocab": 30522, "max_position": 4096,
        "segments": 2, "activation": "gelu", "norm_eps": 1e-12, "dropout": 0.1, "dtype": "float32",
        "loss": "cross_entropy",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "seq": {"default": 512, "min": 1, "max": "max_position", "meaning": "tokens per sequence"},
}
GUARDS = {"forward": ["seq <= max_position"]}
BASELINES: dict[str, Any] = {}


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return bert.build(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return bert.example(config, phase)
