"""Speech encoder-decoder: Whisper.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", arXiv:2212.04356, 2022.
Log-mel frames pass two convolutions (the second halves their number), get fixed sinusoidal positions and
run through a pre-norm encoder; a decoder with learned positions attends to them. Keys have no bias; the
head is tied to the token embedding; the fixed positions count as parameters, as in the released
checkpoints. The released code always pads audio to 3000 frames (30 s); `frames` may be less here. Phases:
forward is teacher forcing; prefill runs the encoder, every layer's cross keys and values, and `seq` prompt
tokens; decode runs one token and no encoder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input, key_value_cache, token_ids
from graphs.layers import MLP, Attention, KeyValue, step_mask

FAMILY = "audio"
PHASES = ("forward", "prefill", "decode")
LOSS = "cross_entropy"
# fmt: off
CONFIGS = {
    "whisper-tiny": {
        "mels": 80, "hidden": 384, "layers": 4, "decoder_layers": 4, "heads": 6, "intermediate": 1536,
        "vocab": 51865, "audio_positions": 1500, "max_position": 448, "dtype": "float32",
    },
    "whisper-base": {
        "mels": 80, "hidden": 512, "layers": 6, "decoder_layers": 6, "heads": 8, "intermediate": 2048,
        "vocab": 51865, "audio_positions": 1500, "max_position": 448, "dtype": "float32",
    },
    "whisper-small": {
        "mels": 80, "hidden": 768, "layers": 12, "decoder_layers": 12, "heads": 12, "intermediate": 3072,
        "vocab": 51865, "audio_positions": 1500, "max_position": 448, "dtype": "float32",
    },
    "whisper-medium": {
        "mels": 80, "hidden": 1024, "layers": 24, "decoder_layers": 24, "heads": 16, "intermediate": 4096,
        "vocab": 51865, "audio_positions": 1500, "max_position": 448, "dtype": "float32",
    },
    "whisper-large-v2": {
        "mels": 80, "hidden": 1280, "layers": 32, "decoder_layers": 32, "heads": 20, "intermediate": 5120,
        "vocab": 51865, "audio_positions": 1500, "max_position": 448, "dtype": "float16",
    },
    "whisper-large-v3": {
        "mels": 128, "hidden": 1280, "layers": 32, "decoder_layers": 32, "heads": 20, "intermediate": 5120,
        "vocab": 51866, "audio_positions": 1500, "max_position": 448, "dtype": "float16",
    },
    "whisper-large-v3-turbo": {
        "mels": 128, "hidden": 1280, "layers": 32, "decoder_layers": 4, "heads": 20, "intermediate": 5120,
        "vocab": 51866, "audio_positions": 1500, "max_position": 448, "dtype": "float16",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "utterances"},
    "frames": {
        "default": 3000,
        "min": 3,
        "max": "2*audio_positions",
        "meaning": "mel frames, 100 per second",
    },
    "seq": {
        "default": {"forward": "max_position", "prefill": 4},
        "min": 1,
        "max": "max_position",
        "meaning": "new text tokens per utterance",
    },
    "context": {
        "default": {"prefill": 0, "decode": "min(128, max_position - 1)"},
        "min": 0,
        "max": "max_position",
        "meaning": "text tokens already cached per utterance",
    },
}
GUARDS = {
    "forward": ["frames <= 2*audio_positions", "seq <= max_position"],
    "prefill": ["frames <= 2*audio_positions", "context + seq <= max_position"],
    "decode": ["frames <= 2*audio_positions", "context + 1 <= max_position"],
}
BASELINES: dict[str, Any] = {}


class Block(nn.Module):
    """Self-attention, in a decoder cross-attention, and MLP, each behind a LayerNorm inside a residual."""

    def __init__(self, c: Mapping[str, Any], *, decoder: bool) -> None:
        super().__init__()
        hidden, heads = c["hidden"], c["heads"]
        self.attention_norm = nn.LayerNorm(hidden)
        self.attention = Attention(hidden, heads, key_bias=False)
        self.cross_norm = nn.LayerNorm(hidden) if decoder else None
        self.cross_attention = Attention(hidden, heads, key_bias=False) if decoder else None
        self.mlp_norm = nn.LayerNorm(hidden)
        self.mlp = MLP(hidden, c["intermediate"], "gelu")

    def forward(
        self,
        x: Tensor,
        *,
        past: KeyValue | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        encoded: Tensor | None = None,
        memory: KeyValue | None = None,
    ) -> tuple[Tensor, KeyValue, KeyValue | None]:
        """Hidden states, self-attention cache, cross keys and values (made of `encoded` unless given)."""
        mixed, pair = self.attention(self.attention_norm(x), past=past, mask=mask, causal=causal)
        x = x + mixed
        if self.cross_attention is not None and self.cross_norm is not None:
            if memory is None and encoded is not None:
                memory = self.cross_attention.keys_values(encoded)
            if memory is not None:
                x = x + self.cross_attention.cross(self.cross_norm(x), memory)
        return x + self.mlp(self.mlp_norm(x)), pair, memory


class Encoder(nn.Module):
    """Mel frames [batch, mels, frames] to hidden states [batch, positions, hidden]."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.widen = nn.Conv1d(c["mels"], c["hidden"], 3, padding=1)
        self.halve = nn.Conv1d(c["hidden"], c["hidden"], 3, stride=2, padding=1)
        table = _sinusoids(c["audio_positions"], c["hidden"]).to(self.widen.weight.dtype)
        self.positions = nn.Parameter(table, requires_grad=False)
        self.blocks = nn.ModuleList(Block(c, decoder=False) for _ in range(c["layers"]))
        self.norm = nn.LayerNorm(c["hidden"])

    def forward(self, features: Tensor) -> Tensor:
        x = F.gelu(self.halve(F.gelu(self.widen(features)))).transpose(1, 2).contiguous()
        x = x + self.positions[: x.shape[1]]
        for block in self.blocks:
            x, _, _ = block(x)
        out: Tensor = self.norm(x)
        return out


def _sinusoids(length: int, width: int) -> Tensor:
    """Sines then cosines over a geometric range of periods, float32 [length, width]."""
    step = math.log(10_000) / (width // 2 - 1)
    frequency = torch.exp(-step * torch.arange(width // 2, dtype=torch.float32))
    angle = torch.arange(length)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Whisper(nn.Module):
    """Mel frames and text token ids to next-token logits, with or without caches."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.encoder = Encoder(c)
        self.embedding = nn.Embedding(c["vocab"], c["hidden"])
        self.positions = nn.Embedding(c["max_position"], c["hidden"])
        self.blocks = nn.ModuleList(Block(c, decoder=True) for _ in range(c["decoder_layers"]))
        self.norm = nn.LayerNorm(c["hidden"])
        self.head = nn.Linear(c["hidden"], c["vocab"], bias=False)
        self.head.weight = self.embedding.weight

    def forward(
        self,
        features: Tensor | None,
        input_ids: Tensor,
        cache: list[KeyValue] | None = None,
        memory: list[KeyValue] | None = None,
        last_only: bool = False,
    ) -> tuple[Tensor, list[KeyValue], list[KeyValue]]:
        """Logits, the longer self-attention cache and the cross keys and values (both empty without `cache`).

        `memory` holds the cross keys and values of an earlier call and replaces `features`.
        """
        encoded = self.encoder(features) if features is not None else None
        length = input_ids.shape[1]
        start = 0 if cache is None else cache[0][0].shape[2]
        positions = torch.arange(start, start + length, device=input_ids.device)
        x = self.embedding(input_ids) + self.positions(positions)
        mask = None if cache is None else step_mask(length, start, last_only, x.device)
        grown: list[KeyValue] = []
        crossed: list[KeyValue] = []
        for index, block in enumerate(self.blocks):
            past = None if cache is None else cache[index]
            known = None if memory is None else memory[index]
            x, pair, cross = block(
                x, past=past, mask=mask, causal=cache is None, encoded=encoded, memory=known
            )
            if cache is not None:
                grown.append(pair)
                crossed.append(cross)
        if last_only:
            x = x[:, -1:]
        return self.head(self.norm(x)), grown, crossed


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return Whisper(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    features = Input(("batch", config["mels"], "frames"), "model")
    ids = token_ids("batch", 1 if phase == "decode" else "seq", config["vocab"])
    if phase == "forward":
        return Example((features, ids))
    layers, heads, head_dim = config["decoder_layers"], config["heads"], config["hidden"] // config["heads"]
    cache = key_value_cache(layers, "batch", heads, "context", head_dim)
    if phase == "prefill":
        return Example((features, ids), {"cache": cache, "last_only": True})
    memory = key_value_cache(layers, "batch", heads, "(frames + 1)//2", head_dim)
    return Example((None, ids), {"cache": cache, "memory": memory})
