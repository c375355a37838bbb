"""One attention layer and one wide ReLU network: a universal approximator as a family of widths.

"Universal Approximation Theorem for a Single-Layer Transformer", arXiv:2507.10581, 2025. Self-attention
with a residual sum, then Linear, ReLU, Linear with a residual sum; no normalisation unless `norm` asks for
it. The theorem names no size, so every size is our own choice. Weights without biases: 4 d h dk + 2 d m;
multiply-adds n (4 d h dk + 2 d m) + 2 n^2 h dk. The baseline `uat-deep` spends the weights of `uat-wide` on
six layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from graphs.inputs import Example, Input
from graphs.layers import MLP
from graphs.mixers.heads import Projected, Softmax

FAMILY = "encoder"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "uat-tiny": {"width": 64, "heads": 4, "head_dim": 16, "inner": 256, "layers": 1, "length": 32,
                 "norm": False, "dtype": "float32"},
    "uat-base": {"width": 512, "heads": 8, "head_dim": 64, "inner": 2048, "layers": 1, "length": 128,
                 "norm": False, "dtype": "float32"},
    "uat-wide": {"width": 512, "heads": 48, "head_dim": 64, "inner": 12288, "layers": 1, "length": 128,
                 "norm": False, "dtype": "float32"},
    "uat-deep": {"width": 512, "heads": 8, "head_dim": 64, "inner": 2048, "layers": 6, "length": 128,
                 "norm": False, "dtype": "float32"},
    "uat-width-h1": {"width": 64, "heads": 1, "head_dim": 16, "inner": 256, "layers": 1, "length": 128,
                     "norm": False, "dtype": "float32"},
    "uat-width-h64": {"width": 64, "heads": 64, "head_dim": 16, "inner": 65536, "layers": 1, "length": 128,
                      "norm": False, "dtype": "float32"},
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "seq": {"default": "length", "min": 2, "max": None, "meaning": "vectors per sequence"},
}
BASELINES = {"multi-layer transformer of equal weight count": "uat-deep"}


class Layer(nn.Module):
    """Attention and the ReLU network, each added to its input."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width = c["width"]
        self.attention = Projected(width, c["heads"], c["head_dim"], Softmax(), bias=False)
        self.network = MLP(width, c["inner"], "relu", bias=False)
        self.norms = nn.ModuleList(nn.LayerNorm(width) if c["norm"] else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norms[0](x))
        out: Tensor = x + self.network(self.norms[1](x))
        return out


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return nn.Sequential(*(Layer(config) for _ in range(config["layers"])))


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((Input(("batch", "seq", config["width"]), "model"),))
