"""A block applied again and again between a first and a last one: AlgoFormer and looped transformers.

"On the Expressive Power of a Variant of the Looped Transformer", arXiv:2402.13572, 2024. Weights are those
of three layers, work is that of `loops` + 2. In-context regression: points of 20 numbers and their labels
are two tokens each, read in by a linear of 20 x 256; GPT-2 blocks (256 wide, 8 heads, 1024 inside, 203
learned positions), causal; the readout is a linear at the points' places. One layer per part and 20 loops
are from memory, unverified; the input is added to the state at every loop as the looped baseline does. 80
tokens by default, the training curriculum ends at 82.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphs.inputs import Example, Input
from graphs.layers import PreNormBlock

FAMILY = "decoder"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "algoformer": {"pre": 1, "looped": 1, "loops": 20, "post": 1, "hidden": 256, "heads": 8,
                   "max_position": 203, "point": 20, "dtype": "float32"},
    "algoformer-t1": {"pre": 1, "looped": 1, "loops": 1, "post": 1, "hidden": 256, "heads": 8,
                      "max_position": 203, "point": 20, "dtype": "float32"},
    "algoformer-t10": {"pre": 1, "looped": 1, "loops": 10, "post": 1, "hidden": 256, "heads": 8,
                       "max_position": 203, "point": 20, "dtype": "float32"},
    "algoformer-t70": {"pre": 1, "looped": 1, "loops": 70, "post": 1, "hidden": 256, "heads": 8,
                       "max_position": 203, "point": 20, "dtype": "float32"},
    "looped-transformer": {"pre": 0, "looped": 1, "loops": 20, "post": 0, "hidden": 256, "heads": 8,
                           "max_position": 203, "point": 20, "dtype": "float32"},
    "algoformer-standard-12": {"pre": 12, "looped": 0, "loops": 0, "post": 0, "hidden": 256, "heads": 8,
                               "max_position": 203, "point": 20, "dtype": "float32"},
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "prompts"},
    "points": {
        "default": 40,
        "min": 2,
        "max": "max_position // 2",
        "meaning": "points in a prompt, two tokens each",
    },
}
BASELINES = {"standard": "algoformer-standard-12", "vanilla looped": "looped-transformer"}


class AlgoFormer(nn.Module):
    """Points [batch, points, 20] and labels [batch, points] to predictions at every point."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width = c["hidden"]
        self.loops = c["loops"]
        self.read = nn.Linear(c["point"], width)
        self.positions = nn.Embedding(c["max_position"], width)
        self.pre, self.looped, self.post = (
            nn.ModuleList(PreNormBlock(width, c["heads"], 4 * width, "gelu_tanh") for _ in range(c[part]))
            for part in ("pre", "looped", "post")
        )
        self.norm, self.readout = nn.LayerNorm(width), nn.Linear(width, 1)

    def forward(self, points: Tensor, labels: Tensor) -> Tensor:
        wide = torch.cat([labels.unsqueeze(-1), torch.zeros_like(points[..., 1:])], dim=-1)
        tokens = torch.stack([points, wide], dim=2).flatten(1, 2)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = _through(self.pre, self.read(tokens) + self.positions(places))
        state = x
        for loop in range(self.loops):
            state = _through(self.looped, state if loop == 0 else state + x)
        x = _through(self.post, state)
        predicted: Tensor = self.readout(self.norm(x))
        return predicted[:, ::2, 0]


def _through(blocks: nn.ModuleList, x: Tensor) -> Tensor:
    for block in blocks:
        x, _ = block(x, causal=True)
    return x


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return AlgoFormer(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    points = Input(("batch", "points", config["point"]), "model")
    return Example((points, Input(("batch", "points"), "model")))
