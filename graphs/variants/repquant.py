"""Image transformers whose products all take codes: RepQuant's inference graph.

Li et al., "RepQuant: Towards Accurate Post-Training Quantization of Large Transformer Models via Scale
Reparameterization", 2024; the graph as in its predecessor RepQ-ViT's released code
(zkkli/RepQ-ViT). Folding the scales leaves one uniform quantiser a tensor before every linear layer and
before both attention products, and for softmax a log2 quantiser with one multiplication by parity. Norms,
softmax, GELU and sums stay floating point. The widths are DeiT's. Quantisers are written out in floating
point, as the code simulates them; 4-bit arithmetic and traffic are the precision's to choose (`dtype` int4
narrows norms and softmax, too, and so is a lower bound). `log_codes: False` is plain quantisation with
uniform codes of the probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input

FAMILY = "vision"
PHASES = ("forward",)
LOSS = "cross_entropy"
# fmt: off
CONFIGS = {
    "repquant-deit-ti": {
        "bits": 4, "log_codes": True, "layers": 12, "hidden": 192, "heads": 3, "intermediate": 768,
        "side": 224, "patch": 16, "channels": 3, "classes": 1000, "norm_eps": 1e-6, "dtype": "float32",
    },
    "repquant-deit-s": {
        "bits": 4, "log_codes": True, "layers": 12, "hidden": 384, "heads": 6, "intermediate": 1536,
        "side": 224, "patch": 16, "channels": 3, "classes": 1000, "norm_eps": 1e-6, "dtype": "float32",
    },
    "repquant-deit-b": {
        "bits": 4, "log_codes": True, "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072,
        "side": 224, "patch": 16, "channels": 3, "classes": 1000, "norm_eps": 1e-6, "dtype": "float32",
    },
    "repquant-deit-s-uniform": {
        "bits": 4, "log_codes": False, "layers": 12, "hidden": 384, "heads": 6, "intermediate": 1536,
        "side": 224, "patch": 16, "channels": 3, "classes": 1000, "norm_eps": 1e-6, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "images"}}
BASELINES = {"fp32": "deit-s", "plain per-tensor quantisation": "repquant-deit-s-uniform"}
SQRT_2 = 2.0**0.5


class Codes(nn.Module):
    """One scale and zero point for the whole tensor; the numbers that its codes stand for."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.most = 2**bits - 1

    def forward(self, x: Tensor) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(x, 1.0 / self.most, self.most // 2, 0, self.most)


class LogCodes(nn.Module):
    """Codes of half powers of two: a shift by half the code, and sqrt(2) where the code is odd."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.most = 2**bits - 1

    def forward(self, x: Tensor) -> Tensor:
        code = torch.round(-2 * torch.log2(x)).clamp(0, self.most)
        shifted = torch.exp2(-torch.ceil(code / 2))
        return shifted * torch.where(torch.remainder(code, 2) == 1, SQRT_2, 1.0)


class Coded(nn.Module):
    """A linear layer that takes codes."""

    def __init__(self, width: int, out: int, bits: int) -> None:
        super().__init__()
        self.codes, self.linear = Codes(bits), nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.linear(self.codes(x))
        return found


class Block(nn.Module):
    """Pre-norm attention and MLP; scores are written out, as their probabilities are coded."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden, bits = c["hidden"], c["bits"]
        self.heads = c["heads"]
        self.attention_norm, self.mlp_norm = (nn.LayerNorm(hidden, eps=c["norm_eps"]) for _ in range(2))
        self.qkv, self.out = Coded(hidden, 3 * hidden, bits), Coded(hidden, hidden, bits)
        self.query, self.key, self.value = (Codes(bits) for _ in range(3))
        self.probabilities = LogCodes(bits) if c["log_codes"] else Codes(bits)
        self.up, self.down = Coded(hidden, c["intermediate"], bits), Coded(c["intermediate"], hidden, bits)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.out(self._mixed(self.attention_norm(x)))
        found: Tensor = x + self.down(F.gelu(self.up(self.mlp_norm(x))))
        return found

    def _mixed(self, x: Tensor) -> Tensor:
        batch, tokens, hidden = x.shape
        parts = self.qkv(x).view(batch, tokens, 3, self.heads, hidden // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        scores = self.query(query) @ self.key(key).transpose(-1, -2) * (hidden // self.heads) ** -0.5
        mixed: Tensor = self.probabilities(torch.softmax(scores, dim=-1)) @ self.value(value)
        return mixed.transpose(1, 2).reshape(batch, tokens, hidden)


class QuantisedViT(nn.Module):
    """Images [batch, channels, side, side] to class logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        tokens = (c["side"] // c["patch"]) ** 2 + 1
        self.pixels = Codes(c["bits"])
        self.patches = nn.Conv2d(c["channels"], c["hidden"], c["patch"], stride=c["patch"])
        self.class_token = nn.Parameter(torch.zeros(1, 1, c["hidden"]))
        self.positions = nn.Parameter(torch.zeros(1, tokens, c["hidden"]))
        self.layers = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.norm = nn.LayerNorm(c["hidden"], eps=c["norm_eps"])
        self.head = Coded(c["hidden"], c["classes"], c["bits"])

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patches(self.pixels(pixels)).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return QuantisedViT(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((Input(("batch", config["channels"], config["side"], config["side"]), "model"),))
