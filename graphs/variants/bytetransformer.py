"""BERT layers over a ragged batch without padding: ByteTransformer, and the padded layers compared with.

Zhai et al., "ByteTransformer: A High-Performance Transformer Boosted for Variable-Length Inputs",
arXiv:2210.03052 (number from memory, unverified), 2022; layers and benchmark as in the released code
(bytedance/ByteTransformer): 12 post-norm layers over hidden states and a mask, no embedding. Linear layers,
norms and GELU see the `valid` tokens of all sequences in one line; attention sees each sequence, here all
of one `length` whose square is the mean square of the real ones, and rows are gathered on the way in and out.
The released attention kernel reads the line itself at up to 384 tokens. `bytetransformer-padded` is what
frameworks run, with an additive mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input
from graphs.layers import MLP

FAMILY = "encoder"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "bytetransformer-bert": {"packed": True, "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072,
                             "dtype": "float16"},
    "bytetransformer-padded": {"packed": False, "layers": 12, "hidden": 768, "heads": 12,
                               "intermediate": 3072, "dtype": "float16"},
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 16, "min": 1, "max": None, "meaning": "sequences"},
    "length": {"default": 658, "min": 1, "max": None, "meaning": "tokens that attention sees per sequence"},
    "valid": {"default": 9824, "min": 1, "max": None, "meaning": "tokens of all sequences without padding"},
}
BASELINES = {"padded BERT layers": "bytetransformer-padded"}


class Layer(nn.Module):
    """Attention, then an MLP, each with residual sum and LayerNorm behind it.

    Padded: x [batch, length, hidden] and a mask that is added to scores. Packed: x [valid, hidden], places
    [batch, length] of tokens and back [valid] the other way; sequences are unpacked for attention alone.
    """

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden = c["hidden"]
        self.heads, self.is_packed = c["heads"], c["packed"]
        self.qkv, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.attention_norm, self.mlp_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.mlp = MLP(hidden, c["intermediate"], "gelu")

    def forward(self, x: Tensor, *where: Tensor) -> Tensor:
        qkv = self.qkv(x)
        if self.is_packed:
            places, back = where
            mixed = self._attended(qkv[places], None).flatten(0, 1)[back]
        else:
            mixed = self._attended(qkv, where[0])
        x = self.attention_norm(x + self.out(mixed))
        found: Tensor = self.mlp_norm(x + self.mlp(x))
        return found

    def _attended(self, qkv: Tensor, mask: Tensor | None) -> Tensor:
        batch, tokens, width = qkv.shape
        parts = qkv.view(batch, tokens, 3, self.heads, width // (3 * self.heads)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return mixed.transpose(1, 2).reshape(batch, tokens, width // 3)


class Encoder(nn.Module):
    """All layers."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["layers"]))

    def forward(self, x: Tensor, *where: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, *where)
        return x


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return Encoder(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    if not config["packed"]:
        mask = Input(("batch", 1, "length", "length"), "model")
        return Example((Input(("batch", "length", config["hidden"]), "model"), mask))
    places = Input(
        ("batch", "length"), "int64", high=1
    )  # a real run gathers the first token, at the same cost
    back = Input(("valid",), "int64", high=1)
    return Example((Input(("valid", config["hidden"]), "model"), places, back))
