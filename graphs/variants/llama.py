"""Rotary, RMS-normalised decoders with gated MLPs: Llama 2 and 3, Mistral, Qwen 2.5 and 3, Gemma.

Touvron et al., "Llama 2: Open Foundation and Fine-Tuned Chat Models", arXiv:2307.09288, 2023; Grattafiori
et al., "The Llama 3 Herd of Models", arXiv:2407.21783, 2024; Jiang et al., "Mistral 7B", arXiv:2310.06825,
2023; Qwen Team, "Qwen2.5 Technical Report", arXiv:2412.15115, 2024; Qwen Team, "Qwen3 Technical Report",
arXiv:2505.09388, 2025; Gemma Team, "Gemma: Open Models Based on Gemini Research and Technology",
arXiv:2403.08295, 2024. Sizes are those of each published config.json. Query heads share fewer key-value
heads (grouped queries), which is what makes the KV cache of Llama 3 a quarter as large as that of Llama 2.
Gemma's gain of 1 + w is folded into one weight; the frequency scaling of Llama 3.1 changes angles, not
work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from graphs.inputs import Example, key_value_cache, token_ids
from graphs.layers import Attention, GatedMLP, KeyValue, RMSNorm, Rotary, step_mask

FAMILY = "decoder"
PHASES = ("forward", "prefill", "decode")
LOSS = "cross_entropy"
# fmt: off
CONFIGS = {
    "llama-2-7b": {
        "hidden": 4096, "layers": 32, "heads": 32, "kv_heads": 32, "head_dim": 128, "intermediate": 11008,
        "vocab": 32000, "max_position": 4096, "rope_theta": 10000.0, "norm_eps": 1e-5, "activation": "silu",
        "qkv_bias": False, "tied": False, "head_norm": False, "scale_embedding": False, "dtype": "float16",
    },
    "llama-2-13b": {
        "hidden": 5120, "layers": 40, "heads": 40, "kv_heads": 40, "head_dim": 128, "intermediate": 13824,
        "vocab": 32000, "max_position": 4096, "rope_theta": 10000.0, "norm_eps": 1e-5, "activation": "silu",
        "qkv_bias": False, "tied": False, "head_norm": False, "scale_embedding": False, "dtype": "float16",
    },
    "llama-2-70b": {
        "hidden": 8192, "layers": 80, "heads": 64, "kv_heads": 8, "head_dim": 128, "intermediate": 28672,
        "vocab": 32000, "max_position": 4096, "rope_theta": 10000.0, "norm_eps": 1e-5, "activation": "silu",
        "qkv_bias": False, "tied": False, "head_norm": False, "scale_embedding": False, "dtype": "float16",
    },
    "llama-3-8b": {
        "hidden": 4096, "layers": 32, "heads": 32, "kv_heads": 8, "head_dim": 128, "intermediate": 14336,
        "vocab": 128256, "max_position": 8192, "rope_theta": 500000.0, "norm_eps": 1e-5,
        "activation": "silu", "qkv_bias": False, "tied": False, "head_norm": False,
        "scale_embedding": False, "dtype": "bfloat16",
    },
    "llama-3-70b": {
        "hidden": 8192, "layers": 80, "heads": 64, "kv_heads": 8, "head_dim": 128, "intermediate": 28672,
        "vocab": 128256, "max_position": 8192, "rope_theta": 500000.0, "norm_eps": 1e-5,
        "activation": "silu", "qkv_bias": False, "tied": False, "head_norm": False,
        "scale_embedding": False, "dtype": "bfloat16",
    },
    "llama-3.1-8b": {
        "hidden": 4096, "layers": 32, "heads": 32, "kv_heads": 8, "head_dim": 128, "intermediate": 14336,
        "vocab": 128256, "max_position": 131072, "rope_theta": 500000.0, "norm_eps": 1e-5,
        "activation": "silu", "qkv_bias": False, "tied": False, "head_norm": False,
        "scale_embedding": False, "dtype": "bfloat16",
    },
    "llama-3.1-70b": {
        "hidden": 8192, "layers": 80, "heads": 64, "kv_heads": 8, "head_dim": 128, "intermediate": 28672,
        "vocab": 128256, "max_position": 131072, "rope_theta": 500000.0, "norm_eps": 1e-5,
        "activation": "silu", "qkv_bias": False, "tied": False, "head_norm": False,
        "scale_embedding": False, "dtype": "bfloat16",
    },
    "llama-3.1-405b": {
        "hidden": 16384, "layers": 126, "heads": 128, "kv_heads": 8, "head_dim": 128, "intermediate": 53248,
        "vocab": 128256, "max_position": 131072, "rope_theta": 500000.0, "norm_eps": 1e-5,
        "activation": "silu", "qkv_bias": False, "tied": False, "head_norm": False,
        "scale_embedding": False, "dtype": "bfloat16",
    },
    "llama-3.2-1b": {
        "hidden": 2048, "layers": 16, "heads": 32, "kv_heads": 8, "head_dim": 64, "intermediate": 8192,
        "vocab": 128256, "max_position": 131072, "rope_theta": 500000.0, "norm_eps": 1e-5,
        "activation": "silu", "qkv_bias": False, "tied": True, "head_norm": False, "scale_embedding": False,
        "dtype": "bfloat16",
    },
    "llama-3.2-3b": {
        "hidden": 3072, "layers": 28, "heads": 24, "kv_heads": 8, "head_dim": 128, "intermediate": 8192,
        "vocab": 128256, "max_position": 131072, "rope_theta": 500000.0, "norm_eps": 1e-5,
        "activation": "silu", "qkv_bias": False, "tied": True, "head_norm": False, "scale_embedding": False,
        "dtype": "bfloat16",
    },
    "llama-3.3-70b": {
        "hidden": 8192, "layers": 80, "heads": 64, "kv_heads": 8, "head_dim": 128, "intermediate": 28672,
        "vocab": 128256, "max_position": 131072, "rope_theta": 500000.0, "norm_eps": 1e-5,
        "activation": "silu", "qkv_bias": False, "tied": False, "head_norm": False,
        "scale_embedding": False, "dtype": "bfloat16",
    },
    "smollm-135m": {
        "hidden": 576, "layers": 30, "heads": 9, "kv_heads": 3, "head_dim": 64, "intermediate": 1536,
        "vocab": 49152, "max_position": 2048, "rope_theta": 10000.0, "norm_eps": 1e-5,
        "activation": "silu", "qkv_bias": False, "tied": True, "head_norm": False, "scale_embedding": False,
        "dtype": "bfloat16",
    },
    "mistral-7b": {
        "hidden": 4096, "layers": 32, "heads": 32, "kv_heads": 8, "head_dim": 128, "intermediate": 14336,
        "vocab": 32768, "max_position": 32768, "rope_theta": 1000000.0, "norm_eps": 1e-5,
        "activation": "silu", "qkv_bias": False, "tied": False, "head_norm": False,
        "scale_embedding": False, "dtype": "bfloat16",
    },
    "qwen2.5-7b": {
        "hidden": 3584, "layers": 28, "heads": 28, "kv_heads": 4, "head_dim": 128, "intermediate": 18944,
        "vocab": 152064, "max_position": 131072, "rope_theta": 1000000.0, "norm_eps": 1e-6,
        "activation": "silu", "qkv_bias": True, "tied": False, "head_norm": False, "scale_embedding": False,
        "dtype": "bfloat16",
    },
    "qwen2.5-14b": {
        "hidden": 5120, "layers": 48, "heads": 40, "kv_heads": 8, "head_dim": 128, "intermediate": 13824,
        "vocab": 152064, "max_position": 131072, "rope_theta": 1000000.0, "norm_eps": 1e-6,
        "activation": "silu", "qkv_bias": True, "tied": False, "head_norm": False, "scale_embedding": False,
        "dtype": "bfloat16",
    },
    "qwen3-8b": {
        "hidden": 4096, "layers": 36, "heads": 32, "kv_heads": 8, "head_dim": 128, "intermediate": 12288,
        "vocab": 151936, "max_position": 40960, "rope_theta": 1000000.0, "norm_eps": 1e-6,
        "activation": "silu", "qkv_bias": False, "tied": False, "head_norm": True, "scale_embedding": False,
        "dtype": "bfloat16",
    },
    "qwen3-32b": {
        "hidden": 5120, "layers": 64, "heads": 64, "kv_heads": 8, "head_dim": 128, "intermediate": 25600,
        "vocab": 151936, "max_position": 40960, "rope_theta": 1000000.0, "norm_eps": 1e-6,
        "activation": "silu", "qkv_bias": False, "tied": False, "head_norm": True, "scale_embedding": False,
        "dtype": "bfloat16",
    },
    "gemma-2b": {
        "hidden": 2048, "layers": 18, "heads": 8, "kv_heads": 1, "head_dim": 256, "intermediate": 16384,
        "vocab": 256000, "max_position": 8192, "rope_theta": 10000.0, "norm_eps": 1e-6,
        "activation": "gelu_tanh", "qkv_bias": False, "tied": True, "head_norm": False,
        "scale_embedding": True, "dtype": "bfloat16",
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


class Block(nn.Module):
    """Attention and MLP, each behind an RMS norm and inside a residual."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(c["hidden"], c["norm_eps"])
        self.attention = Attention(
            c["hidden"],
            c["heads"],
            kv_heads=c["kv_heads"],
            head_dim=c["head_dim"],
            bias=c["qkv_bias"],
            out_bias=False,
            head_norm_eps=c["norm_eps"] if c["head_norm"] else None,
        )
        self.mlp_norm = RMSNorm(c["hidden"], c["norm_eps"])
        self.mlp = GatedMLP(c["hidden"], c["intermediate"], c["activation"])

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], past: KeyValue | None, mask: Tensor | None
    ) -> tuple[Tensor, KeyValue]:
        mixed, pair = self.attention(
            self.attention_norm(x), past=past, rotary=rotary, mask=mask, causal=past is None
        )
        x = x + mixed
        return x + self.mlp(self.mlp_norm(x)), pair


class Llama(nn.Module):
    """Token ids to next-token logits, with or without a KV cache."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(c["vocab"], c["hidden"])
        self.rotary = Rotary(c["head_dim"], c["rope_theta"])
        self.layers = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.norm = RMSNorm(c["hidden"], c["norm_eps"])
        self.head = nn.Linear(c["hidden"], c["vocab"], bias=False)
        self.embedding_scale = c["hidden"] ** 0.5 if c["scale_embedding"] else None
        if c["tied"]:
            self.head.weight = self.embedding.weight

    def forward(
        self, input_ids: Tensor, cache: list[KeyValue] | None = None, last_only: bool = False
    ) -> tuple[Tensor, list[KeyValue]]:
        """Logits and the longer cache (empty without one); `last_only` runs the head on the last position."""
        x = self.embedding(input_ids)
        if self.embedding_scale is not None:
            x = x * self.embedding_scale
        length = input_ids.shape[1]
        start = 0 if cache is None else cache[0][0].shape[2]
        rotary = self.rotary(start, start + length, x)
        mask = None if cache is None else step_mask(length, start, last_only, x.device)
        grown: list[KeyValue] = []
        for index, layer in enumerate(self.layers):
            x, pair = layer(x, rotary, None if cache is None else cache[index], mask)
            if cache is not None:
                grown.append(pair)
        if last_only:
            x = x[:, -1:]
        return self.head(self.norm(x)), grown


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return Llama(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    if phase == "forward":
        return Example((token_ids("batch", "seq", config["vocab"]),))
    cache = key_value_cache(config["layers"], "batch", config["kv_heads"], "context", config["head_dim"])
    length, last_only = ("seq", True) if phase == "prefill" else (1, False)
    return Example((token_ids("batch", length, config["vocab"]),), {"cache": cache, "last_only": last_only})
