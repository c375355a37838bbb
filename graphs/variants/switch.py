"""T5 with every second MLP a top-1 mixture of experts: Switch.

Fedus et al., "Switch Transformers: Scaling to Trillion Parameter Models with Simple and Efficient
Sparsity", arXiv:2101.03961, 2022. Each token goes to the one expert its router likes best and the expert's
output is scaled by that probability. Encoder and decoder see different token counts, so each has its own
expected number of active experts and of tokens per expert (see `mixtral`); a capacity limit is a smaller
`expert_tokens`, and drops the tokens of least probability. `switch-xl-4` is the four-expert model that
public fp32 latency tables were measured with (its experts' capacity is 64).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from graphs.inputs import Example, SymbolValue
from graphs.variants.t5 import T5
from graphs.variants.t5 import example as dense_example

FAMILY = "moe"
PHASES = ("forward", "prefill", "decode")
LOSS = "cross_entropy"
# fmt: off
CONFIGS = {
    "switch-base-8": {
        "hidden": 768, "layers": 12, "heads": 12, "head_dim": 64, "intermediate": 3072, "experts": 8,
        "top_k": 1, "vocab": 32128, "buckets": 32, "max_distance": 128, "activation": "relu",
        "norm_eps": 1e-6, "dropout": 0.1, "dtype": "bfloat16",
    },
    "switch-xl-4": {
        "hidden": 1024, "layers": 24, "heads": 32, "head_dim": 64, "intermediate": 16384, "experts": 4,
        "top_k": 1, "vocab": 32128, "buckets": 32, "max_distance": 128, "activation": "relu",
        "norm_eps": 1e-6, "dropout": 0.1, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "source": {"default": 512, "min": 1, "max": None, "meaning": "encoder tokens per sequence"},
    "seq": {
        "default": {"forward": 512, "prefill": 1},
        "min": 1,
        "max": None,
        "meaning": "new decoder tokens per sequence",
    },
    "context": {
        "default": {"prefill": 0, "decode": 128},
        "min": 0,
        "max": None,
        "meaning": "decoder tokens already cached per sequence",
    },
    "source_active_experts": {
        "default": {
            "forward": "max(1, experts*(1 - pow(1 - 1/experts, batch*source)))",
            "prefill": "max(1, experts*(1 - pow(1 - 1/experts, batch*source)))",
        },
        "min": 1,
        "max": "experts",
        "meaning": "experts per encoder layer that get any token",
    },
    "source_expert_tokens": {
        "default": {
            "forward": "min(batch*source, batch*source/source_active_experts)",
            "prefill": "min(batch*source, batch*source/source_active_experts)",
        },
        "min": 1,
        "max": None,
        "meaning": "tokens per active expert of an encoder layer",
    },
    "active_experts": {
        "default": {
            "forward": "max(1, experts*(1 - pow(1 - 1/experts, batch*seq)))",
            "prefill": "max(1, experts*(1 - pow(1 - 1/experts, batch*seq)))",
            "decode": "max(1, experts*(1 - pow(1 - 1/experts, batch)))",
        },
        "min": 1,
        "max": "experts",
        "meaning": "experts per decoder layer that get any token",
    },
    "expert_tokens": {
        "default": {
            "forward": "min(batch*seq, batch*seq/active_experts)",
            "prefill": "min(batch*seq, batch*seq/active_experts)",
            "decode": "min(batch, batch/active_experts)",
        },
        "min": 1,
        "max": None,
        "meaning": "tokens per active expert of a decoder layer",
    },
}
GUARDS = {
    "forward": [
        "source_active_experts <= experts",
        "source_expert_tokens <= batch*source",
        "active_experts <= experts",
        "expert_tokens <= batch*seq",
    ],
    "prefill": [
        "source_active_experts <= experts",
        "source_expert_tokens <= batch*source",
        "active_experts <= experts",
        "expert_tokens <= batch*seq",
    ],
    "decode": ["active_experts <= experts", "expert_tokens <= batch"],
}
BASELINES: dict[str, Any] = {}


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return T5(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    dense = dense_example(config, phase)
    kwargs = {**(dense.kwargs or {}), "counts": _counts("")}
    if phase != "decode":
        kwargs["encoder_counts"] = _counts("source_")
    return Example(dense.args, kwargs)


def _counts(side: str) -> tuple[SymbolValue, SymbolValue]:
    return SymbolValue(f"{side}active_experts"), SymbolValue(f"{side}expert_tokens")
