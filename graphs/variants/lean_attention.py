"""One decode step of cached attention, alone and inside a decoder: the subject of LeanAttention.

"Lean Attention: Hardware-Aware Scalable Attention Mechanism for the Decode-Phase of Transformers",
arXiv:2405.10480, 2024. Arithmetic and bytes are those of any cached attention; what differs is the kernel,
and that is the stack's to choose: `flash` gives a block to every head and sequence, `flash_split_kv` cuts
the keys of all into equally many parts and adds a second kernel that sums them, `stream_k` is
LeanAttention: the tiles of all heads in one line, dealt evenly to two blocks a multiprocessor, with the
sums inside the kernel. Tiles hold 256 keys of 64 numbers or 128 of 128 (public implementation; the paper's
own sizes from memory, unverified). Heads of 16 to 56 and contexts up to 512k as in the sweep, whose exact
points are not known. `lean-decoder-7b` puts the step in the layout of LLaMA-7B (own choice).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input
from graphs.layers import Attention, GatedMLP, RMSNorm, Rotary

FAMILY = "decoder"
PHASES = ("decode",)
# fmt: off
CONFIGS = {
    "lean-attention-dh64-h16": {"layers": 0, "heads": 16, "kv_heads": 16, "head_dim": 64, "hidden": 1024,
                                "intermediate": 0, "dtype": "float16"},
    "lean-attention-dh64-h32": {"layers": 0, "heads": 32, "kv_heads": 32, "head_dim": 64, "hidden": 2048,
                                "intermediate": 0, "dtype": "float16"},
    "lean-attention-dh64-h56": {"layers": 0, "heads": 56, "kv_heads": 56, "head_dim": 64, "hidden": 3584,
                                "intermediate": 0, "dtype": "float16"},
    "lean-attention-dh64-h8": {"layers": 0, "heads": 8, "kv_heads": 8, "head_dim": 64, "hidden": 512,
                               "intermediate": 0, "dtype": "float16"},
    "lean-attention-dh128-h32": {"layers": 0, "heads": 32, "kv_heads": 32, "head_dim": 128, "hidden": 4096,
                                 "intermediate": 0, "dtype": "float16"},
    "lean-attention-gqa": {"layers": 0, "heads": 32, "kv_heads": 8, "head_dim": 128, "hidden": 4096,
                           "intermediate": 0, "dtype": "float16"},
    "lean-decoder-7b": {"layers": 32, "heads": 32, "kv_heads": 32, "head_dim": 128, "hidden": 4096,
                        "intermediate": 11008, "dtype": "float16"},
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "context": {"default": 65536, "min": 1, "max": None, "meaning": "cached tokens"},
}
BASELINES: dict[str, Any] = {}


class Step(nn.Module):
    """softmax(q k^T) v of one new query a head over the cache."""

    def __init__(self, *, grouped: bool) -> None:
        super().__init__()
        self.grouped = grouped

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, enable_gqa=self.grouped)


class Layer(nn.Module):
    """RMS norm and attention, RMS norm and gated MLP."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = (RMSNorm(c["hidden"], 1e-5) for _ in range(2))
        self.attention = Attention(c["hidden"], c["heads"], kv_heads=c["kv_heads"], bias=False)
        self.mlp = GatedMLP(c["hidden"], c["intermediate"], "silu")

    def forward(
        self, x: Tensor, past: tuple[Tensor, Tensor], rotary: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        mixed, pair = self.attention(self.attention_norm(x), past=past, rotary=rotary)
        x = x + mixed
        return x + self.mlp(self.mlp_norm(x)), pair


class Decoder(nn.Module):
    """Hidden states of one new token through all layers; no embedding and no head."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["layers"]))
        self.rotary = Rotary(c["head_dim"], 10000.0)

    def forward(self, x: Tensor, cache: list[tuple[Tensor, Tensor]]) -> Tensor:
        past = cache[0][0].shape[2]
        rotary = self.rotary(past, past + x.shape[1], x)
        for layer, pair in zip(self.layers, cache, strict=True):
            x, _ = layer(x, pair, rotary)
        return x


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return Decoder(config) if config["layers"] else Step(grouped=config["heads"] != config["kv_heads"])


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    keys = Input(("batch", config["kv_heads"], "context", config["head_dim"]), "model", role="kv")
    if not config["layers"]:
        return Example((Input(("batch", config["heads"], 1, config["head_dim"]), "model"), keys, keys))
    token = Input(("batch", 1, config["hidden"]), "model")
    return Example((token, [(keys, keys) for _ in range(config["layers"])]))
