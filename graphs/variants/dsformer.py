"""BERT whose linears are products of a small dense and a column-sparse factor: DSFormer.

"DSFormer: Effective Compression of Text-Transformers by Dense-Sparse Weight Factorization",
arXiv:2312.13211, 2023. A weight [m, n] is cut along its outputs into blocks of `rows`; each block is a
dense [rows, basis] times a [basis, n] that has exactly `nonzeros` values in every column. The input is
gathered and accumulated into `basis` numbers per block, which the dense factor multiplies. Embeddings,
norms, biases and the pooler stay. No official code was found; orientation and sizes are our own choice,
made to hit the three printed compressions, so these agree by construction. Indices are bytes here; the
printed compressions are met with ceil(log2 basis) bits for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphs.inputs import Example, token_ids
from graphs.lookups import column_sparse
from graphs.variants.bert import Bert

FAMILY = "encoder"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "dsformer-2.0x": {
        "rows": 256, "basis": 128, "nonzeros": 48, "layers": 12, "hidden": 768, "heads": 12,
        "intermediate": 3072, "vocab": 30522, "max_position": 512, "segments": 2, "activation": "gelu",
        "norm_eps": 1e-12, "dropout": 0.1, "dtype": "float32",
    },
    "dsformer-2.8x": {
        "rows": 256, "basis": 128, "nonzeros": 10, "layers": 12, "hidden": 768, "heads": 12,
        "intermediate": 3072, "vocab": 30522, "max_position": 512, "segments": 2, "activation": "gelu",
        "norm_eps": 1e-12, "dropout": 0.1, "dtype": "float32",
    },
    "dsformer-3.57x": {
        "rows": 256, "basis": 32, "nonzeros": 9, "layers": 12, "hidden": 768, "heads": 12,
        "intermediate": 3072, "vocab": 30522, "max_position": 512, "segments": 2, "activation": "gelu",
        "norm_eps": 1e-12, "dropout": 0.1, "dtype": "float32",
    },
    "dsformer-distil-2.8x": {
        "rows": 256, "basis": 128, "nonzeros": 10, "layers": 6, "hidden": 768, "heads": 12,
        "intermediate": 3072, "vocab": 30522, "max_position": 512, "segments": 2, "activation": "gelu",
        "norm_eps": 1e-12, "dropout": 0.1, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "seq": {"default": 128, "min": 1, "max": "max_position", "meaning": "tokens per sequence"},
}
GUARDS = {"forward": ["seq <= max_position"]}
BASELINES = {
    "dsformer-2.0x": ["bert-base"],
    "dsformer-2.8x": ["bert-base"],
    "dsformer-3.57x": ["bert-base"],
    "dsformer-distil-2.8x": ["distilbert-base"],
}


class Factored(nn.Module):
    """A linear of a sparse and a dense factor per block of outputs."""

    index: Tensor

    def __init__(self, inner: int, out: int, rows: int, basis: int, nonzeros: int) -> None:
        super().__init__()
        blocks = out // rows
        self.basis = basis
        self.values = nn.Parameter(torch.randn(blocks, inner, nonzeros) * (inner * nonzeros / basis) ** -0.5)
        self.dense = nn.Parameter(torch.randn(blocks, basis, rows) * basis**-0.5)
        self.bias = nn.Parameter(torch.zeros(out))
        places = torch.arange(blocks * inner * nonzeros).view(blocks, inner, nonzeros) % basis
        self.register_buffer("index", places.to(torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, -2)
        folded = column_sparse(tokens, self.values, self.index, self.basis)
        spread = torch.bmm(folded, self.dense).transpose(0, 1).flatten(1)
        out: Tensor = spread.unflatten(0, x.shape[:-1]) + self.bias
        return out


def factored(model: nn.Module, c: Mapping[str, Any]) -> nn.Module:
    """The model with every linear below its layers factored."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and name.startswith("layers."):
            parent, _, own = name.rpartition(".")
            sizes = c["rows"], c["basis"], c["nonzeros"]
            setattr(
                model.get_submodule(parent), own, Factored(module.in_features, module.out_features, *sizes)
            )
    return model


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return factored(Bert(config), config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((token_ids("batch", "seq", config["vocab"]),))
