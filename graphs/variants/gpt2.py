"""Pre-norm decoders with learned positions: GPT-2, GPT-3, OPT.

Radford et al., "Language Models are Unsupervised Multitask Learners", 2019; Brown et al., "Language Models
are Few-Shot Learners", arXiv:2005.14165, 2020; Zhang et al., "OPT: Open Pre-trained Transformer Language
Models", arXiv:2205.01068, 2022. LayerNorm before attention and MLP, biases everywhere, head tied to the
token embedding. GPT-2 projects queries, keys and values in one linear and spells its GELU out; OPT has
three linears, ReLU and two unused position rows. GPT-3 is built dense (the paper alternates dense and
banded attention without giving the band). Table 2.1 of the GPT-3 paper gives "XL" 24 heads of 128 beside a
width of 2048; `gpt3-xl` has 16 heads of 128, which is what its 1.3 B parameters need, and `gpt3-xl-3072` is
the 3072-wide reading that public fp32 latency tables were measured with; `megatron-*` are the models of
Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models", arXiv:2205.05198, 2022
(Table 3; the fused GELU of Megatron). The 5140 printed for 13B is read
as 5120 = 40 x 128.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphs.inputs import Example, key_value_cache, token_ids
from graphs.layers import KeyValue, PreNormBlock, step_mask

FAMILY = "decoder"
PHASES = ("forward", "prefill", "decode")
LOSS = "cross_entropy"
# fmt: off
CONFIGS = {
    "gpt2": {
        "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072, "vocab": 50257,
        "max_position": 1024, "position_offset": 0, "activation": "gelu_new", "fused_qkv": True,
        "dropout": 0.1, "attention_dropout": 0.1, "dtype": "float32",
    },
    "gpt2-medium": {
        "layers": 24, "hidden": 1024, "heads": 16, "intermediate": 4096, "vocab": 50257,
        "max_position": 1024, "position_offset": 0, "activation": "gelu_new", "fused_qkv": True,
        "dropout": 0.1, "attention_dropout": 0.1, "dtype": "float32",
    },
    "gpt2-large": {
        "layers": 36, "hidden": 1280, "heads": 20, "intermediate": 5120, "vocab": 50257,
        "max_position": 1024, "position_offset": 0, "activation": "gelu_new", "fused_qkv": True,
        "dropout": 0.1, "attention_dropout": 0.1, "dtype": "float32",
    },
    "gpt2-xl": {
        "layers": 48, "hidden": 1600, "heads": 25, "intermediate": 6400, "vocab": 50257,
        "max_position": 1024, "position_offset": 0, "activation": "gelu_new", "fused_qkv": True,
        "dropout": 0.1, "attention_dropout": 0.1, "dtype": "float32",
    },
    "gpt3-xl": {
        "layers": 24, "hidden": 2048, "heads": 16, "intermediate": 8192, "vocab": 50257,
        "max_position": 2048, "position_offset": 0, "activation": "gelu_new", "fused_qkv": True,
        "dropout": 0.1, "attention_dropout": 0.1, "dtype": "float16",
    },
    "gpt3-xl-3072": {
        "layers": 24, "hidden": 3072, "heads": 24, "intermediate": 12288, "vocab": 50257,
        "max_position": 2048, "position_offset": 0, "activation": "gelu_new", "fused_qkv": True,
        "dropout": 0.1, "attention_dropout": 0.1, "dtype": "float32",
    },
    "gpt3-2.7b": {
        "layers": 32, "hidden": 2560, "heads": 32, "intermediate": 10240, "vocab": 50257,
        "max_position": 2048, "position_offset": 0, "activation": "gelu_new", "fused_qkv": True,
        "dropout": 0.1, "attention_dropout": 0.1, "dtype": "float16",
    },
    "gpt3-6.7b": {
        "layers": 32, "hidden": 4096, "heads": 32, "intermediate": 16384, "vocab": 50257,
        "max_position": 2048, "position_offset": 0, "activation": "gelu_new", "fused_qkv": True,
        "dropout": 0.1, "attention_dropout": 0.1, "dtype": "float16",
    },
    "gpt3-13b": {
        "layers": 40, "hidden": 5120, "heads": 40, "intermediate": 20480, "vocab": 50257,
        "max_position": 2048, "position_offset": 0, "activation": "gelu_new", "fused_qkv": True,
        "dropout": 0.1, "attention_dropout": 0.1, "dtype": "float16",
    },
    "gpt3-175b": {
        "layers": 96, "hidden": 12288, "heads": 96, "intermediate": 49152, "vocab": 50257,
        "max_position": 2048, "position_offset": 0, "activation": "gelu_new", "fused_qkv": True,
        "dropout": 0.1, "attention_dropout": 0.1, "dtype": "float16",
    },
    "megatron-22b": {
        "layers": 48, "hidden": 6144, "heads": 64, "intermediate": 24576, "vocab": 51200,
        "max_position": 2048, "position_offset": 0, "activation": "gelu_tanh", "fused_qkv": True,
        "dropout": 0.1, "attention_dropout": 0.1, "dtype": "float16",
    },
    "megatron-175b": {
        "layers": 96, "hidden": 12288, "heads": 96, "intermediate": 49152, "vocab": 51200,
        "max_position": 2048, "position_offset": 0, "activation": "gelu_tanh", "fused_qkv": True,
        "dropout": 0.1, "attention_dropout": 0.1, "dtype": "float16",
    },
    "megatron-530b": {
        "layers": 105, "hidden": 20480, "heads": 128, "intermediate": 81920, "vocab": 51200,
        "max_position": 2048, "position_offset": 0, "activation": "gelu_tanh", "fused_qkv": True,
        "dropout": 0.1, "attention_dropout": 0.1, "dtype": "float16",
    },
    "megatron-1t": {
        "layers": 128, "hidden": 25600, "heads": 160, "intermediate": 102400, "vocab": 51200,
        "max_position": 2048, "position_offset": 0, "activation": "gelu_tanh", "fused_qkv": True,
        "dropout": 0.1, "attention_dropout": 0.1, "dtype": "float16",
    },
    "opt-125m": {
        "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072, "vocab": 50272,
        "max_position": 2048, "position_offset": 2, "activation": "relu", "fused_qkv": False,
        "dropout": 0.1, "attention_dropout": 0.0, "dtype": "float16",
    },
    "opt-1.3b": {
        "layers": 24, "hidden": 2048, "heads": 32, "intermediate": 8192, "vocab": 50272,
        "max_position": 2048, "position_offset": 2, "activation": "relu", "fused_qkv": False,
        "dropout": 0.1, "attention_dropout": 0.0, "dtype": "float16",
    },
    "opt-6.7b": {
        "layers": 32, "hidden": 4096, "heads": 32, "intermediate": 16384, "vocab": 50272,
        "max_position": 2048, "position_offset": 2, "activation": "relu", "fused_qkv": False,
        "dropout": 0.1, "attention_dropout": 0.0, "dtype": "float16",
    },
    "opt-13b": {
        "layers": 40, "hidden": 5120, "heads": 40, "intermediate": 20480, "vocab": 50272,
        "max_position": 2048, "position_offset": 2, "activation": "relu", "fused_qkv": False,
        "dropout": 0.1, "attention_dropout": 0.0, "dtype": "float16",
    },
    "opt-30b": {
        "layers": 48, "hidden": 7168, "heads": 56, "intermediate": 28672, "vocab": 50272,
        "max_position": 2048, "position_offset": 2, "activation": "relu", "fused_qkv": False,
        "dropout": 0.1, "attention_dropout": 0.0, "dtype": "float16",
    },
    "opt-66b": {
        "layers": 64, "hidden": 9216, "heads": 72, "intermediate": 36864, "vocab": 50272,
        "max_position": 2048, "position_offset": 2, "activation": "relu", "fused_qkv": False,
        "dropout": 0.1, "attention_dropout": 0.0, "dtype": "float16",
    },
    "opt-175b": {
        "layers": 96, "hidden": 12288, "heads": 96, "intermediate": 49152, "vocab": 50272,
        "max_position": 2048, "position_offset": 2, "activation": "relu", "fused_qkv": False,
        "dropout": 0.1, "attention_dropout": 0.0, "dtype": "float16",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "seq": {"default": 512, "min": 1, "max": "max_position", "meaning": "new tokens per sequence"},
    "context": {
        "default": {"prefill": 0, "decode": "min(1024, max_position - 1)"},
        "min": 0,
        "max": "max_position",
        "meaning": "tokens already cached per sequence",
    },
}
GUARDS = {
    "forward": ["seq <= max_position"],
    "prefill": ["context + seq <= max_position"],
    "decode": ["context + 1 <= max_position"],
}
BASELINES: dict[str, Any] = {}


class GPT(nn.Module):
    """Token ids to next-token logits, with or without a KV cache."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(c["vocab"], c["hidden"])
        self.position_offset = c["position_offset"]
        self.positions = nn.Embedding(c["max_position"] + c["position_offset"], c["hidden"])
        self.dropout = nn.Dropout(c["dropout"])
        self.layers = nn.ModuleList(
            PreNormBlock(
                c["hidden"],
                c["heads"],
                c["intermediate"],
                c["activation"],
                fused=c["fused_qkv"],
                dropout=c["dropout"],
                attention_dropout=c["attention_dropout"],
            )
            for _ in range(c["layers"])
        )
        self.norm = nn.LayerNorm(c["hidden"])
        self.head = nn.Linear(c["hidden"], c["vocab"], bias=False)
        self.head.weight = self.embedding.weight

    def forward(
        self, input_ids: Tensor, cache: list[KeyValue] | None = None, last_only: bool = False
    ) -> tuple[Tensor, list[KeyValue]]:
        """Logits and the longer cache (empty without one); `last_only` runs the head on the last position."""
        length = input_ids.shape[1]
        start = 0 if cache is None else cache[0][0].shape[2]
        first = start + self.position_offset
        positions = torch.arange(first, first + length, device=input_ids.device)
        x = self.dropout(self.embedding(input_ids) + self.positions(positions))
        mask = None if cache is None else step_mask(length, start, last_only, x.device)
        grown: list[KeyValue] = []
        for index, layer in enumerate(self.layers):
            past = None if cache is None else cache[index]
            x, pair = layer(x, past=past, mask=mask, causal=cache is None)
            if cache is not None:
                grown.append(pair)
        if last_only:
            x = x[:, -1:]
        return self.head(self.norm(x)), grown


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return GPT(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    if phase == "forward":
        return Example((token_ids("batch", "seq", config["vocab"]),))
    head_dim = config["hidden"] // config["heads"]
    cache = key_value_cache(config["layers"], "batch", config["heads"], "context", head_dim)
    length, last_only = ("seq", True) if phase == "prefill" else (1, False)
    return Example((token_ids("batch", length, config["vocab"]),), {"cache": cache, "last_only": last_only})
