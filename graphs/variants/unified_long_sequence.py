"""One template, many ways to mix tokens, and exact attention over four cards: long sequences in one view.

"A Unified View of Long-Sequence Models towards Modeling Million-Scale Dependencies", arXiv:2302.06218,
2023. Every model is a token mixer and an MLP, each with residual sum and LayerNorm; the choice of one mixer
per category and all sizes are our own (6 layers of 512, 8 heads, 2048 inside; token MLP of 256,
convolutions of 127, 256 random features, Linformer rank 256, windows of 512 and one global token, chunks of
64 with 2 hashes, blocks of 128 locally and for Sinkhorn, of 64 with 3 random ones for BigBird, 64 states a
channel). FNet-Base, MLP-Mixer-B/16 and an S4 of the arena are from memory,
unverified. The token MLP of the family lives at one length, 4096. Distributed attention is our own reading,
as the source gives no algorithm: a device owns a quarter of the queries, has gathered all keys and values,
and walks its rows in chunks of 1024 whose scores and probabilities are stored; `distributed-mha-vanilla` is
one card that stores all of them. No projections, no mask, fp16, D = 512, 8 heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from graphs.inputs import Example, Input
from graphs.mixers.encoder import MixerBlock
from graphs.mixers.kinds import mixer

FAMILY = "encoder"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "mixer-family-softmax": {
        "kind": "family", "mixer": "softmax",
        "layers": 6, "hidden": 512, "heads": 8, "intermediate": 2048,
        "max_position": 65536, "length": 4096, "least": 2, "post_norm": True, "dtype": "float16",
    },
    "mixer-family-fourier": {
        "kind": "family", "mixer": "fourier",
        "layers": 6, "hidden": 512, "heads": 8, "intermediate": 2048,
        "max_position": 65536, "length": 4096, "least": 2, "post_norm": True, "dtype": "float16",
    },
    "mixer-family-fourier-dense": {
        "kind": "family", "mixer": "fourier_dense",
        "layers": 6, "hidden": 512, "heads": 8, "intermediate": 2048,
        "max_position": 65536, "length": 4096, "least": 2, "post_norm": True, "dtype": "float16",
    },
    "mixer-family-convolution": {
        "kind": "family", "mixer": "convolution", "conv_kernel": 127,
        "layers": 6, "hidden": 512, "heads": 8, "intermediate": 2048,
        "max_position": 65536, "length": 4096, "least": 2, "post_norm": True, "dtype": "float16",
    },
    "mixer-family-linear": {
        "kind": "family", "mixer": "linear",
        "layers": 6, "hidden": 512, "heads": 8, "intermediate": 2048,
        "max_position": 65536, "length": 4096, "least": 2, "post_norm": True, "dtype": "float16",
    },
    "mixer-family-performer": {
        "kind": "family", "mixer": "performer", "features": 256, "kernel": "relu",
        "layers": 6, "hidden": 512, "heads": 8, "intermediate": 2048,
        "max_position": 65536, "length": 4096, "least": 2, "post_norm": True, "dtype": "float16",
    },
    "mixer-family-linformer": {
        "kind": "family", "mixer": "linformer", "rank": 256, "shared": True,
        "layers": 6, "hidden": 512, "heads": 8, "intermediate": 2048,
        "max_position": 65536, "length": 4096, "least": 2, "post_norm": True, "dtype": "float16",
    },
    "mixer-family-window": {
        "kind": "family", "mixer": "longformer", "window": 512, "global_tokens": 1,
        "layers": 6, "hidden": 512, "heads": 8, "intermediate": 2048,
        "max_position": 65536, "length": 4096, "least": 768, "post_norm": True, "dtype": "float16",
    },
    "mixer-family-local": {
        "kind": "family", "mixer": "local", "block": 128,
        "layers": 6, "hidden": 512, "heads": 8, "intermediate": 2048,
        "max_position": 65536, "length": 4096, "least": 2, "post_norm": True, "dtype": "float16",
    },
    "mixer-family-bigbird": {
        "kind": "family", "mixer": "bigbird", "block": 64, "random_blocks": 3,
        "layers": 6, "hidden": 512, "heads": 8, "intermediate": 2048,
        "max_position": 65536, "length": 4096, "least": 512, "post_norm": True, "dtype": "float16",
    },
    "mixer-family-sinkhorn": {
        "kind": "family", "mixer": "sinkhorn", "block": 128, "max_blocks": 512,
        "layers": 6, "hidden": 512, "heads": 8, "intermediate": 2048,
        "max_position": 65536, "length": 4096, "least": 2, "post_norm": True, "dtype": "float16",
    },
    "mixer-family-hashing": {
        "kind": "family", "mixer": "reformer", "rounds": 2, "buckets": 32, "chunk": 64,
        "layers": 6, "hidden": 512, "heads": 8, "intermediate": 2048,
        "max_position": 65536, "length": 4096, "least": 192, "post_norm": True, "dtype": "float16",
    },
    "mixer-family-state-space": {
        "kind": "family", "mixer": "state_space", "states": 64,
        "layers": 6, "hidden": 512, "heads": 8, "intermediate": 2048,
        "max_position": 65536, "length": 4096, "least": 2, "post_norm": True, "dtype": "float16",
    },
    "mixer-family-token-mlp": {
        "kind": "family", "mixer": "token_mlp", "token_hidden": 256, "layers": 6, "hidden": 512, "heads": 8,
        "intermediate": 2048, "max_position": 4096, "length": 4096, "least": 4096, "post_norm": True,
        "dtype": "float16",
    },
    "fnet-base": {
        "kind": "family", "mixer": "fourier", "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072,
        "max_position": 512, "length": 512, "least": 2, "post_norm": True, "dtype": "float32",
    },
    "mlp-mixer-b-16": {
        "kind": "family", "mixer": "token_mlp", "token_hidden": 384, "layers": 12, "hidden": 768, "heads": 12,
        "intermediate": 3072, "max_position": 196, "length": 196, "least": 196, "post_norm": False,
        "dtype": "float32",
    },
    "s4-lra": {
        "kind": "family", "mixer": "state_space", "states": 64, "layers": 6, "hidden": 256, "heads": 4,
        "intermediate": 1024, "max_position": 16384, "length": 4096, "least": 2, "post_norm": False,
        "dtype": "float32",
    },
    "distributed-mha": {
        "kind": "chunk", "hidden": 512, "heads": 8, "cards": 4, "chunk": 1024, "max_position": 4194304,
        "length": 131072, "least": 4096, "dtype": "float16",
    },
    "distributed-mha-vanilla": {
        "kind": "stored", "hidden": 512, "heads": 8, "cards": 1, "chunk": 0, "max_position": 4194304,
        "length": 16384, "least": 2, "dtype": "float16",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "seq": {
        "default": "length",
        "min": "least",
        "max": "max_position",
        "meaning": "tokens per sequence, over all cards",
    },
}
BASELINES = {"vanilla MHA": "distributed-mha-vanilla", "softmax": "mixer-family-softmax"}


class Family(nn.Module):
    """Token states [batch, tokens, width] through mixers and MLPs; no embedding and no head."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            MixerBlock(
                c["hidden"],
                c["intermediate"],
                mixer(c["mixer"], c["hidden"], c["heads"], c),
                post_norm=c["post_norm"],
            )
            for _ in range(c["layers"])
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Stored(nn.Module):
    """Scores and probabilities of the given queries over all keys, both kept in memory."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        scores = query @ key.transpose(-1, -2)
        weight = scores.softmax(-1)
        mixed = weight @ value
        del scores
        return mixed


class Chunk(nn.Module):
    """One chunk of a card's query rows over the gathered keys and values, its result put into their place."""

    def __init__(self) -> None:
        super().__init__()
        self.stored = Stored()

    def forward(self, query: Tensor, key: Tensor, value: Tensor, out: Tensor) -> Tensor:
        out[:, :, : query.shape[2]] = self.stored(query, key, value)
        return out


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    kinds = {"family": lambda: Family(config), "chunk": Chunk, "stored": Stored}
    return kinds[config["kind"]]()


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase; a card's step holds its quarter of the queries and of the output beside it."""
    if config["kind"] == "family":
        length = config["length"] if config["mixer"] == "token_mlp" else "seq"
        return Example((Input(("batch", length, config["hidden"]), "model"),))
    heads, head_dim = config["heads"], config["hidden"] // config["heads"]
    whole = Input(("batch", heads, "seq", head_dim), "model")
    if config["kind"] == "stored":
        return Example((whole, whole, whole))
    chunk = Input(("batch", heads, config["chunk"], head_dim), "model")
    share = Input(("batch", heads, f"seq // {config['cards']}", head_dim), "model")
    return Example((chunk, whole, whole, share))
