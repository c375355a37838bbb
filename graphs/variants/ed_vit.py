"""A ViT split by classes into narrow sub-models for a cluster of edge devices: ED-ViT.

"ED-ViT: Splitting Vision Transformer for Distributed Inference on Edge Devices", arXiv:2410.11650, 2024. No
public code was found: the structure follows the abstract, sizes are inferred. Classes are dealt to N groups
with a sub-model each; a sub-model has all layers, with every width scaled by kept heads over heads, sees
every image and sends its class token. A small MLP over the N tokens decides (hidden half of the input: own
choice). Two kept heads of twelve reproduce both headline ratios and were chosen for that, so those claims
are met by construction. "-fusion" is the deciding MLP alone, "ed-vit-original" the unsplit ViT-B/16 with
ten classes. `hwsim team` prices the whole: sub-models at once, their tokens over a link, the fusion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from graphs.inputs import Example, Input
from graphs.layers import MLP
from graphs.variants.vit import ViT

FAMILY = "vision"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "ed-vit-original": {
        "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072, "side": 224, "patch": 16,
        "channels": 3, "classes": 10, "activation": "gelu", "norm_eps": 1e-6, "fusion": 0,
        "dtype": "float32",
    },
    "ed-vit-b-10": {
        "layers": 12, "hidden": 128, "heads": 2, "intermediate": 512, "side": 224, "patch": 16,
        "channels": 3, "classes": 0, "activation": "gelu", "norm_eps": 1e-6, "fusion": 0,
        "dtype": "float32",
    },
    "ed-vit-b-3-heads": {
        "layers": 12, "hidden": 192, "heads": 3, "intermediate": 768, "side": 224, "patch": 16,
        "channels": 3, "classes": 0, "activation": "gelu", "norm_eps": 1e-6, "fusion": 0,
        "dtype": "float32",
    },
    "ed-vit-b-6-heads": {
        "layers": 12, "hidden": 384, "heads": 6, "intermediate": 1536, "side": 224, "patch": 16,
        "channels": 3, "classes": 0, "activation": "gelu", "norm_eps": 1e-6, "fusion": 0,
        "dtype": "float32",
    },
    "ed-vit-b-10-fusion": {
        "layers": 0, "hidden": 128, "heads": 2, "intermediate": 640, "side": 224, "patch": 16,
        "channels": 3, "classes": 10, "activation": "gelu", "norm_eps": 1e-6, "fusion": 10,
        "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "images"}}
GUARDS: dict[str, list[str]] = {}
BASELINES = {"ed-vit-b-10": ["ed-vit-original"]}


class SubModel(nn.Module):
    """A narrow ViT whose answer is its class token: the head was dropped for fusion."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.whole = ViT({**c, "classes": 1})
        self.whole.head = nn.Identity()  # type: ignore[assignment]

    def forward(self, pixels: Tensor) -> Tensor:
        token: Tensor = self.whole(pixels)
        return token


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    if config["fusion"]:
        tokens = config["fusion"] * config["hidden"]
        return MLP(tokens, config["intermediate"], config["activation"], out=config["classes"])
    return ViT(config) if config["classes"] else SubModel(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    if config["fusion"]:
        return Example((Input(("batch", config["fusion"] * config["hidden"]), "model"),))
    return Example((Input(("batch", config["channels"], config["side"], config["side"]), "model"),))
