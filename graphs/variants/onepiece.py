"""Ranking with context tokens and a block of them thought over several times: OnePiece.

"OnePiece: Bringing Context Engineering and Reasoning to Industrial Cascade Ranking System",
arXiv:2509.18091, 2025. One bidirectional transformer of two layers and four heads over history, preference
anchors (three groups, each between a beginning and an end), a user and a query token and, for ranking,
`block` candidates. Then the last `block` states (retrieval: the user and query tokens) go through the same
weights `steps` times: their queries see the base tokens and all blocks so far, whose keys and values are
kept. Width 256, 1024 inside, a history of 100, item features of 8 x 32 numbers and their MLP are our own
choice (not published); embedding look-ups of eight features an item stand before it. A ranking batch is
`batch` groups. `onepiece-rerun` runs the base again at every step instead of keeping keys and values. The
search over item vectors stays outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input
from graphs.layers import MLP, KeyValue

FAMILY = "recommendation"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "onepiece-retrieval": {"layers": 2, "heads": 4, "hidden": 256, "intermediate": 1024, "block": 2,
                           "steps": 2,
                           "anchors": 30, "candidates": 0, "history_default": 100, "rerun": False,
                           "dtype": "float16"},
    "onepiece-retrieval-w1024": {"layers": 2, "heads": 4, "hidden": 1024, "intermediate": 4096, "block": 2,
                                 "steps": 2, "anchors": 30, "candidates": 0, "history_default": 100,
                                 "rerun": False, "dtype": "float16"},
    "onepiece-retrieval-w2048": {"layers": 2, "heads": 4, "hidden": 2048, "intermediate": 8192, "block": 2,
                                 "steps": 2, "anchors": 30, "candidates": 0, "history_default": 100,
                                 "rerun": False, "dtype": "float16"},
    "onepiece-ranking-m1": {"layers": 2, "heads": 4, "hidden": 256, "intermediate": 1024, "block": 1,
                            "steps": 3,
                            "anchors": 30, "candidates": 1, "history_default": 100, "rerun": False,
                            "dtype": "float16"},
    "onepiece-ranking-m4": {"layers": 2, "heads": 4, "hidden": 256, "intermediate": 1024, "block": 4,
                            "steps": 3,
                            "anchors": 30, "candidates": 4, "history_default": 100, "rerun": False,
                            "dtype": "float16"},
    "onepiece-ranking-m8": {"layers": 2, "heads": 4, "hidden": 256, "intermediate": 1024, "block": 8,
                            "steps": 3,
                            "anchors": 30, "candidates": 8, "history_default": 100, "rerun": False,
                            "dtype": "float16"},
    "onepiece-ranking-m12": {"layers": 2, "heads": 4, "hidden": 256, "intermediate": 1024, "block": 12,
                             "steps": 3, "anchors": 30, "candidates": 12, "history_default": 100,
                             "rerun": False,
                             "dtype": "float16"},
    "onepiece-m12-no-thought": {"layers": 2, "heads": 4, "hidden": 256, "intermediate": 1024,
                                        "block": 12, "steps": 0, "anchors": 30, "candidates": 12,
                                        "history_default": 100, "rerun": False, "dtype": "float16"},
    "onepiece-ranking-m12-rerun": {"layers": 2, "heads": 4, "hidden": 256, "intermediate": 1024, "block": 12,
                                   "steps": 3, "anchors": 30, "candidates": 12, "history_default": 100,
                                   "rerun": True, "dtype": "float16"},
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 128, "min": 1, "max": None, "meaning": "requests, or groups of candidates"},
    "history": {"default": "history_default", "min": 2, "max": 1024, "meaning": "items interacted with"},
}
BASELINES = {
    "ranking without thought": "onepiece-m12-no-thought",
    "no cache": "onepiece-ranking-m12-rerun",
}
_GROUPS, _FEATURES, _FEATURE_WIDTH, _VOCABULARY = 3, 8, 32, 100_000
_TASKS = 3  # click, add to cart, order


class Items(nn.Module):
    """Feature ids [batch, items, 8] to item tokens."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.table = nn.Embedding(_VOCABULARY, _FEATURE_WIDTH)
        self.mlp = MLP(_FEATURES * _FEATURE_WIDTH, hidden, "relu", out=hidden)

    def forward(self, features: Tensor) -> Tensor:
        tokens: Tensor = self.mlp(self.table(features).flatten(2))
        return tokens


class Layer(nn.Module):
    """Pre-norm attention of new tokens to kept and new ones, and the MLP."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width = c["hidden"]
        self.heads = c["heads"]
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = MLP(width, c["intermediate"], "gelu")

    def forward(self, x: Tensor, kept: KeyValue | None) -> tuple[Tensor, KeyValue]:
        split = self.query_key_value(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)
        if kept is not None:
            key, value = torch.cat([kept[0], key], dim=2), torch.cat([kept[1], value], dim=2)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = x + self.out(mixed)
        return x + self.mlp(self.mlp_norm(x)), (key, value)


class OnePiece(nn.Module):
    """Histories, anchors, user and query features, candidates to scores or to a user vector."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width = c["hidden"]
        self.block, self.rerun = c["block"], c["rerun"]
        self.items, self.candidates = Items(width), Items(width) if c["candidates"] else None
        self.user, self.query = (MLP(width, width, "relu", out=width) for _ in range(2))
        self.positions = nn.Embedding(1024, width)
        self.anchor_positions = nn.Embedding(c["anchors"], width)
        self.ends = nn.Parameter(torch.zeros(_GROUPS, 2, width))
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["layers"]))
        self.steps = nn.Parameter(torch.zeros(c["steps"], width))
        self.norm = nn.LayerNorm(width)
        tasks = _TASKS if c["candidates"] else 0
        self.tasks = nn.ModuleList(MLP(width, width, "relu", out=1) for _ in range(tasks))

    def forward(
        self, history: Tensor, anchors: Tensor, user: Tensor, query: Tensor, candidates: Tensor | None = None
    ) -> Tensor:
        base = self._tokens(history, anchors, user, query, candidates)
        state, kept = self._pass(base, None)
        block = state[:, -self.block :]
        thoughts: list[Tensor] = []
        for index in range(self.steps.shape[0]):
            thought = block + self.steps[index]
            if self.rerun:
                thoughts.append(thought)
                state, _ = self._pass(torch.cat([base, *thoughts], dim=1), None)
                block = state[:, -self.block :]
            else:
                block, kept = self._pass(thought, kept)
        final = self.norm(block)
        if self.candidates is None:
            vector: Tensor = final.mean(dim=1)
            return vector
        return torch.cat([task(final) for task in self.tasks], dim=-1)

    def _tokens(
        self, history: Tensor, anchors: Tensor, user: Tensor, query: Tensor, candidates: Tensor | None
    ) -> Tensor:
        batch = history.shape[0]
        place = torch.arange(history.shape[1], device=history.device)
        parts = [self.items(history) + self.positions(place)]
        groups = self.items(anchors.flatten(1, 2)).unflatten(1, (_GROUPS, -1)) + self.anchor_positions.weight
        ends = self.ends.expand(batch, -1, -1, -1)
        parts.append(torch.cat([ends[:, :, :1], groups, ends[:, :, 1:]], dim=2).flatten(1, 2))
        parts += [self.user(user).unsqueeze(1), self.query(query).unsqueeze(1)]
        if self.candidates is not None and candidates is not None:
            parts.append(self.candidates(candidates))
        return torch.cat(parts, dim=1)

    def _pass(self, x: Tensor, kept: list[KeyValue] | None) -> tuple[Tensor, list[KeyValue]]:
        pairs = []
        for index, layer in enumerate(self.layers):
            x, pair = layer(x, None if kept is None else kept[index])
            pairs.append(pair)
        return x, pairs


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return OnePiece(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    history = Input(("batch", "history", _FEATURES), "int64", high=_VOCABULARY)
    anchors = Input(("batch", _GROUPS, config["anchors"], _FEATURES), "int64", high=_VOCABULARY)
    person = Input(("batch", config["hidden"]), "model")
    args: tuple[Any, ...] = (history, anchors, person, person)
    if config["candidates"]:
        args = (*args, Input(("batch", config["candidates"], _FEATURES), "int64", high=_VOCABULARY))
    return Example(args)
