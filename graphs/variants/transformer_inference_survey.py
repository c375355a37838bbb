"""One technique per way to make inference cheaper: distilled, integer and token-pruned transformers.

"A Survey of Techniques for Optimizing Transformer Inference", 2023; the categories are the survey's, the
choice of a technique for each is ours. Distillation: TinyBERT with 4 layers of 312 and with 6 of 768 (model
cards), DistilBERT is in axformer.py. Quantisation: I-BERT is `roberta-base` computed in int8, whose
attention, softmax and GELU stay in integers too. Pruning: heads and blocks as in axformer.py, tokens as in
DynamicViT, which after blocks 3, 6 and 9 keeps 0.7 of what is left (ratios from memory, unverified) and
whose predictor is our own small reading of it: LayerNorm, a linear to half the width, the mean over tokens
beside every token, two more linears. SpAtten's cascade pruning needs keep ratios per benchmark that no
source at hand gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input, token_ids
from graphs.layers import PreNormBlock
from graphs.variants.axformer import AxFormer

FAMILY = "encoder"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "tinybert-4": {
        "heads": [12, 12, 12, 12], "hard": [], "keep": 0, "neurons": [1200, 1200, 1200, 1200],
        "hidden": 312, "head_dim": 26, "vocab": 30522, "max_position": 512, "segments": 2, "classes": 2,
        "norm_eps": 1e-12, "dtype": "float32",
    },
    "tinybert-6": {
        "heads": [12, 12, 12, 12, 12, 12], "hard": [], "keep": 0,
        "neurons": [3072, 3072, 3072, 3072, 3072, 3072], "hidden": 768, "head_dim": 64, "vocab": 30522,
        "max_position": 512, "segments": 2, "classes": 2, "norm_eps": 1e-12, "dtype": "float32",
    },
    "roberta-base": {
        "heads": [12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12], "hard": [], "keep": 0,
        "neurons": [3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072], "hidden": 768,
        "head_dim": 64, "vocab": 50265, "max_position": 514, "segments": 1, "classes": 2, "norm_eps": 1e-5,
        "dtype": "float32",
    },
    "dynamic-deit-s": {
        "layers": 12, "hidden": 384, "heads": 6, "side": 224, "patch": 16, "after": [3, 6, 9], "keep": 0.7,
        "classes": 1000, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences or images"},
    "seq": {"default": 128, "min": 1, "max": 512, "meaning": "tokens per sequence"},
}
GUARDS: dict[str, list[str]] = {}
BASELINES = {
    "tinybert-4": ["bert-base"],
    "tinybert-6": ["bert-base"],
    "roberta-base": ["bert-base"],
    "dynamic-deit-s": ["deit-s"],
}
CHANNELS = 3


class Predictor(nn.Module):
    """A score per token, from the token and the mean of all."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        half = hidden // 2
        self.norm, self.down = nn.LayerNorm(hidden), nn.Linear(hidden, half)
        self.mix, self.score = nn.Linear(2 * half, half), nn.Linear(half, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, tokens] of [batch, tokens, hidden]."""
        local = F.gelu(self.down(self.norm(x)))
        both = torch.cat([local, local.mean(1, keepdim=True).expand_as(local)], dim=-1)
        scores: Tensor = self.score(F.gelu(self.mix(both)))[..., 0]
        return scores


class DynamicViT(nn.Module):
    """Images to class logits, with fewer patches after some blocks."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        patches = (c["side"] // c["patch"]) ** 2
        self.kept = {at: int(patches * c["keep"] ** (step + 1)) for step, at in enumerate(c["after"])}
        self.patches = nn.Conv2d(CHANNELS, c["hidden"], c["patch"], stride=c["patch"])
        self.class_token = nn.Parameter(torch.zeros(1, 1, c["hidden"]))
        self.positions = nn.Parameter(torch.zeros(1, patches + 1, c["hidden"]))
        self.predictors = nn.ModuleList(Predictor(c["hidden"]) for _ in c["after"])
        self.layers = nn.ModuleList(
            PreNormBlock(c["hidden"], c["heads"], 4 * c["hidden"], "gelu", eps=1e-6)
            for _ in range(c["layers"])
        )
        self.norm = nn.LayerNorm(c["hidden"], eps=1e-6)
        self.head = nn.Linear(c["hidden"], c["classes"])

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        predictors = iter(self.predictors)
        for index, layer in enumerate(self.layers):
            if index in self.kept:
                x = _best(x, next(predictors)(x[:, 1:]), self.kept[index])
            x, _ = layer(x)
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits


def _best(x: Tensor, scores: Tensor, kept: int) -> Tensor:
    """The class token and the patches of highest score, weighted so that the predictor learns."""
    value, place = scores.topk(kept, dim=-1)
    picked = x[:, 1:].gather(1, place[..., None].expand(-1, -1, x.shape[-1]))
    return torch.cat([x[:, :1], picked * torch.sigmoid(value)[..., None]], dim=1)


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return AxFormer(config) if "vocab" in config else DynamicViT(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    if "vocab" in config:
        return Example((token_ids("batch", "seq", config["vocab"]),))
    return Example((Input(("batch", CHANNELS, config["side"], config["side"]), "model"),))
