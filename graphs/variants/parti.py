"""Text to image tokens by an encoder-decoder, and the tokenizer that turns them into pixels: Parti.

Yu et al., "Scaling Autoregressive Models for Content-Rich Text-to-Image Generation", 2022. The 20B row is
quoted second-hand, the other sizes, the vocabulary, the sparse attention and the tokenizer are from memory,
unverified (the parameter formula confirms the names). Pre-norm layers without biases, an FFN of two
matrices, 1024 image tokens of an 8192-entry codebook after at most 128 text tokens. Decoder self-attention
is causal and dense here; the 3B and 20B models are remembered to mask it in a convolution shape. Guidance
doubles `batch`. The activation (GELU) is an own choice. The tokenizer is `vit_vqgan`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphs.inputs import Example, key_value_cache, token_ids
from graphs.layers import MLP, Attention, KeyValue, step_mask

FAMILY = "multimodal"
PHASES = ("forward", "prefill", "decode")
# fmt: off
CONFIGS = {
    "parti-350m": {
        "encoder_layers": 12, "decoder_layers": 12, "hidden": 1024, "heads": 16, "intermediate": 4096,
        "vocab": 16000, "codes": 8192, "text": 128, "max_position": 1024, "dtype": "bfloat16",
    },
    "parti-750m": {
        "encoder_layers": 12, "decoder_layers": 36, "hidden": 1024, "heads": 16, "intermediate": 4096,
        "vocab": 16000, "codes": 8192, "text": 128, "max_position": 1024, "dtype": "bfloat16",
    },
    "parti-3b": {
        "encoder_layers": 12, "decoder_layers": 36, "hidden": 2048, "heads": 32, "intermediate": 8192,
        "vocab": 16000, "codes": 8192, "text": 128, "max_position": 1024, "dtype": "bfloat16",
    },
    "parti-20b": {
        "encoder_layers": 16, "decoder_layers": 64, "hidden": 4096, "heads": 64, "intermediate": 16384,
        "vocab": 16000, "codes": 8192, "text": 128, "max_position": 1024, "dtype": "bfloat16",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "images, twice that under guidance"},
    "source": {"default": "text", "min": 1, "max": "text", "meaning": "text tokens"},
    "seq": {
        "default": {"forward": "max_position", "prefill": 1},
        "min": 1,
        "max": "max_position",
        "meaning": "image tokens, the first a start token",
    },
    "context": {
        "default": {"prefill": 0, "decode": "max_position//2"},
        "min": 0,
        "max": "max_position",
        "meaning": "image tokens already cached",
    },
}
GUARDS = {
    "forward": ["source <= text", "seq <= max_position"],
    "prefill": ["source <= text", "context + seq <= max_position"],
    "decode": ["source <= text", "context + 1 <= max_position"],
}
BASELINES = {"parti-20b": ["parti-3b", "parti-750m"]}


class Block(nn.Module):
    """Self-attention, cross-attention and MLP, each pre-normed in a residual."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden, heads = c["hidden"], c["heads"]
        self.norms = nn.ModuleList(nn.LayerNorm(hidden, bias=False) for _ in range(3))
        self.attention, self.cross_attention = (Attention(hidden, heads, bias=False) for _ in range(2))
        self.mlp = MLP(hidden, c["intermediate"], "gelu", bias=False)

    def forward(
        self, x: Tensor, memory: KeyValue, past: KeyValue | None, mask: Tensor | None
    ) -> tuple[Tensor, KeyValue]:
        """Hidden states and the longer self-attention cache; without a cache the whole image at once."""
        normed = self.norms[0](x)
        mixed, pair = self.attention(normed, past=past, mask=mask, causal=past is None)
        x = x + mixed
        x = x + self.cross_attention.cross(self.norms[1](x), memory)
        return x + self.mlp(self.norms[2](x)), pair


class EncoderBlock(nn.Module):
    """Full self-attention and MLP, each pre-normed in a residual."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(c["hidden"], bias=False) for _ in range(2))
        self.attention = Attention(c["hidden"], c["heads"], bias=False)
        self.mlp = MLP(c["hidden"], c["intermediate"], "gelu", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mixed, _ = self.attention(self.norms[0](x))
        x = x + mixed
        out: Tensor = x + self.mlp(self.norms[1](x))
        return out


class Parti(nn.Module):
    """Text ids and image token ids to logits over the codebook."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden = c["hidden"]
        self.text_embedding, self.text_positions = (
            nn.Embedding(count, hidden) for count in (c["vocab"], c["text"])
        )
        self.encoder = nn.ModuleList(EncoderBlock(c) for _ in range(c["encoder_layers"]))
        self.image_embedding, self.image_positions = (
            nn.Embedding(count, hidden) for count in (c["codes"] + 1, c["max_position"])
        )
        self.decoder = nn.ModuleList(Block(c) for _ in range(c["decoder_layers"]))
        self.encoder_norm, self.norm = (nn.LayerNorm(hidden, bias=False) for _ in range(2))
        self.head = nn.Linear(hidden, c["codes"], bias=False)

    def forward(
        self,
        text: Tensor | None,
        image: Tensor,
        cache: list[KeyValue] | None = None,
        memory: list[KeyValue] | None = None,
        last_only: bool = False,
    ) -> tuple[Tensor, list[KeyValue], list[KeyValue]]:
        """Logits, the longer cache and the cross keys and values (both empty without `cache`)."""
        known = memory if text is None else self._encoded(text)
        assert known is not None  # text or memory is given
        length = image.shape[1]
        start = 0 if cache is None else cache[0][0].shape[2]
        place = torch.arange(start, start + length, device=image.device)
        x = self.image_embedding(image) + self.image_positions(place)
        mask = None if cache is None else step_mask(length, start, last_only, x.device)
        grown: list[KeyValue] = []
        for index, block in enumerate(self.decoder):
            x, pair = block(x, known[index], None if cache is None else cache[index], mask)
            if cache is not None:
                grown.append(pair)
        if last_only:
            x = x[:, -1:]
        return self.head(self.norm(x)), grown, [] if cache is None else known

    def _encoded(self, text: Tensor) -> list[KeyValue]:
        """Cross keys and values of every decoder layer."""
        place = torch.arange(text.shape[1], device=text.device)
        x = self.text_embedding(text) + self.text_positions(place)
        for block in self.encoder:
            x = block(x)
        x = self.encoder_norm(x)
        return [block.cross_attention.keys_values(x) for block in self.decoder]  # type: ignore[operator,union-attr]


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return Parti(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    text = token_ids("batch", "source", config["vocab"])
    image = token_ids("batch", 1 if phase == "decode" else "seq", config["codes"])
    if phase == "forward":
        return Example((text, image))
    layers, heads, head_dim = config["decoder_layers"], config["heads"], config["hidden"] // config["heads"]
    cache = key_value_cache(layers, "batch", heads, "context", head_dim)
    if phase == "prefill":
        return Example((text, image), {"cache": cache, "last_only": True})
    memory = key_value_cache(layers, "batch", heads, "source", head_dim)
    return Example((None, image), {"cache": cache, "memory": memory})
