"""Decoders that MaxText's TPU configurations train: RMS norms, rotary attention, wide MLPs, no biases.

AI-Hypercomputer, MaxText, `configs/v4` and `configs/v5e`: widths are those of the scripts and of the
defaults of their time (head width 256 and a plain ReLU MLP for v4, 128 and a gated one for v5e; which of
these is meant follows from the size that each script names). Learned positions are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from graphs.inputs import Example, token_ids
from graphs.layers import MLP
from graphs.variants.llama import Llama

FAMILY = "decoder"
PHASES = ("forward",)
LOSS = "cross_entropy"
# fmt: off
CONFIGS = {
    "maxtext-16b": {
        "hidden": 4096, "layers": 32, "heads": 64, "kv_heads": 64, "head_dim": 128, "intermediate": 28672,
        "gated": True, "vocab": 32000, "max_position": 2048, "rope_theta": 10000.0, "norm_eps": 1e-6,
        "activation": "silu", "qkv_bias": False, "tied": False, "head_norm": False, "scale_embedding": False,
        "dtype": "bfloat16",
    },
    "maxtext-22b": {
        "hidden": 6144, "layers": 48, "heads": 24, "kv_heads": 24, "head_dim": 256, "intermediate": 24576,
        "gated": False, "vocab": 32000, "max_position": 2048, "rope_theta": 10000.0, "norm_eps": 1e-6,
        "activation": "relu", "qkv_bias": False, "tied": False, "head_norm": False, "scale_embedding": False,
        "dtype": "bfloat16",
    },
    "maxtext-32b": {
        "hidden": 8192, "layers": 32, "heads": 64, "kv_heads": 64, "head_dim": 128, "intermediate": 28672,
        "gated": True, "vocab": 32000, "max_position": 2048, "rope_theta": 10000.0, "norm_eps": 1e-6,
        "activation": "silu", "qkv_bias": False, "tied": False, "head_norm": False, "scale_embedding": False,
        "dtype": "bfloat16",
    },
    "maxtext-52b": {
        "hidden": 12288, "layers": 32, "heads": 32, "kv_heads": 32, "head_dim": 256, "intermediate": 49152,
        "gated": False, "vocab": 32000, "max_position": 2048, "rope_theta": 10000.0, "norm_eps": 1e-6,
        "activation": "relu", "qkv_bias": False, "tied": False, "head_norm": False, "scale_embedding": False,
        "dtype": "bfloat16",
    },
    "maxtext-64b": {
        "hidden": 8192, "layers": 64, "heads": 64, "kv_heads": 64, "head_dim": 128, "intermediate": 28672,
        "gated": True, "vocab": 32000, "max_position": 2048, "rope_theta": 10000.0, "norm_eps": 1e-6,
        "activation": "silu", "qkv_bias": False, "tied": False, "head_norm": False, "scale_embedding": False,
        "dtype": "bfloat16",
    },
    "maxtext-128b": {
        "hidden": 8192, "layers": 64, "heads": 128, "kv_heads": 128, "head_dim": 128, "intermediate": 57344,
        "gated": True, "vocab": 32000, "max_position": 2048, "rope_theta": 10000.0, "norm_eps": 1e-6,
        "activation": "silu", "qkv_bias": False, "tied": False, "head_norm": False, "scale_embedding": False,
        "dtype": "bfloat16",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "seq": {"default": 2048, "min": 1, "max": "max_position", "meaning": "tokens per sequence"},
}
GUARDS = {"forward": ["seq <= max_position"]}
BASELINES: dict[str, Any] = {}


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS: a Llama, where the MLP is plain with that in its place."""
    model = Llama(config)
    if not config["gated"]:
        for layer in model.layers:
            layer.mlp = MLP(config["hidden"], config["intermediate"], config["activation"], bias=False)
    return model


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((token_ids("batch", "seq", config["vocab"]),))
