"""Time series with variates as tokens, and the forecasters it was measured against: iTransformer.

Liu et al., "iTransformer: Inverted Transformers Are Effective for Time Series Forecasting",
arXiv:2310.06625, 2023. Every variate's look-back window is one token (a linear from 96 steps), four time
marks are tokens more, attention runs over variates, a linear gives the forecast; standardised over time
before and after. Sizes are those of the official scripts. `-efficient` trains on a random fifth of the
variates (the share is from memory, unverified). Baselines: iFlowformer (Flow-Attention), an Informer-style
encoder-decoder over time steps, PatchTST (channel-independent, patches of 16 at stride 8, 3 layers of 128,
16 heads, 256 inside; all but the patching from memory, unverified) and DLinear (two linears on trend and
remainder; from memory, unverified).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input
from graphs.layers import MLP, Attention
from graphs.mixers.encoder import MixerBlock, sinusoids
from graphs.mixers.kinds import mixer

FAMILY = "time-series"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "itransformer-traffic": {
        "kind": "inverted", "mixer": "softmax", "variates": 862, "look_back": 96, "horizon": 96, "layers": 4,
        "hidden": 512, "intermediate": 512, "heads": 8, "dropout": 0.1, "dtype": "float32",
    },
    "itransformer-efficient": {
        "kind": "inverted", "mixer": "softmax", "variates": 172, "look_back": 96, "horizon": 96, "layers": 4,
        "hidden": 512, "intermediate": 512, "heads": 8, "dropout": 0.1, "dtype": "float32",
    },
    "itransformer-ecl": {
        "kind": "inverted", "mixer": "softmax", "variates": 321, "look_back": 96, "horizon": 96, "layers": 3,
        "hidden": 512, "intermediate": 512, "heads": 8, "dropout": 0.1, "dtype": "float32",
    },
    "itransformer-weather": {
        "kind": "inverted", "mixer": "softmax", "variates": 21, "look_back": 96, "horizon": 96, "layers": 3,
        "hidden": 512, "intermediate": 512, "heads": 8, "dropout": 0.1, "dtype": "float32",
    },
    "itransformer-traffic-t720": {
        "kind": "inverted", "mixer": "softmax", "variates": 862, "look_back": 720, "horizon": 96, "layers": 4,
        "hidden": 512, "intermediate": 512, "heads": 8, "dropout": 0.1, "dtype": "float32",
    },
    "iflowformer-traffic": {
        "kind": "inverted", "mixer": "flow", "variates": 862, "look_back": 96, "horizon": 96, "layers": 4,
        "hidden": 512, "intermediate": 512, "heads": 8, "dropout": 0.1, "dtype": "float32",
    },
    "time-transformer-traffic": {
        "kind": "time steps", "variates": 862, "look_back": 96, "horizon": 96, "layers": 2,
        "decoder_layers": 1, "label": 48, "hidden": 512, "intermediate": 2048, "heads": 8, "dropout": 0.1,
        "dtype": "float32",
    },
    "time-transformer-weather": {
        "kind": "time steps", "variates": 21, "look_back": 96, "horizon": 96, "layers": 2,
        "decoder_layers": 1, "label": 48, "hidden": 512, "intermediate": 2048, "heads": 8, "dropout": 0.1,
        "dtype": "float32",
    },
    "patchtst-traffic": {
        "kind": "patches", "variates": 862, "look_back": 96, "horizon": 96, "layers": 3, "patch": 16,
        "stride": 8, "hidden": 128, "intermediate": 256, "heads": 16, "dropout": 0.1, "dtype": "float32",
    },
    "dlinear-traffic": {
        "kind": "linear", "variates": 862, "look_back": 96, "horizon": 96, "average": 25, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "series windows"}}
BASELINES = {
    "vanilla time-step Transformer": "time-transformer-traffic",
    "iFlowformer": "iflowformer-traffic",
    "PatchTST": "patchtst-traffic",
    "DLinear": "dlinear-traffic",
}
_MARKS = 4  # hour of day, day of week, day of month, day of year


def standardised(series: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The series with mean and deviation over time taken out, and these two."""
    mean = series.mean(1, keepdim=True).detach()
    centred = series - mean
    deviation = torch.sqrt(centred.var(dim=1, keepdim=True, unbiased=False) + 1e-5)
    return centred / deviation, mean, deviation


class Inverted(nn.Module):
    """Series [batch, time, variates] and marks to a forecast; a token per variate."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.embed = nn.Linear(c["look_back"], c["hidden"])
        self.dropout = nn.Dropout(c["dropout"])
        settings = {**c, "attention_dropout": c["dropout"]}
        self.layers = nn.ModuleList(
            MixerBlock(
                c["hidden"],
                c["intermediate"],
                mixer(c["mixer"], c["hidden"], c["heads"], settings),
                dropout=c["dropout"],
                post_norm=True,
                eps=1e-5,
            )
            for _ in range(c["layers"])
        )
        self.norm, self.head = nn.LayerNorm(c["hidden"]), nn.Linear(c["hidden"], c["horizon"])

    def forward(self, series: Tensor, marks: Tensor) -> Tensor:
        variates = series.shape[2]
        series, mean, deviation = standardised(series)
        tokens = torch.cat([series, marks], dim=2).transpose(1, 2).contiguous()
        x = self.dropout(self.embed(tokens))
        for layer in self.layers:
            x = layer(x)
        forecast = self.head(self.norm(x)).transpose(1, 2)[:, :, :variates]
        restored: Tensor = forecast * deviation + mean
        return restored


class TimeEmbedding(nn.Module):
    """A convolution of three steps over the variates, fixed positions, and a linear of the marks."""

    positions: Tensor

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.token = nn.Conv1d(c["variates"], c["hidden"], 3, padding=1, padding_mode="circular", bias=False)
        self.mark = nn.Linear(_MARKS, c["hidden"], bias=False)
        self.register_buffer("positions", sinusoids(1024, c["hidden"]), persistent=False)
        self.dropout = nn.Dropout(c["dropout"])

    def forward(self, series: Tensor, marks: Tensor) -> Tensor:
        token = self.token(series.transpose(1, 2).contiguous()).transpose(1, 2)
        x: Tensor = self.dropout(token + self.mark(marks) + self.positions[: series.shape[1]])
        return x


class TimeDecoderLayer(nn.Module):
    """Causal self-attention, cross-attention and MLP, each with LayerNorm over its residual sum."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width = c["hidden"]
        self.own, self.cross = (Attention(width, c["heads"], dropout=c["dropout"]) for _ in range(2))
        self.mlp = MLP(width, c["intermediate"], "gelu", dropout=c["dropout"])
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(c["dropout"])

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        mixed, _ = self.own(x, causal=True)
        x = self.norms[0](x + self.dropout(mixed))
        x = self.norms[1](x + self.dropout(self.cross.cross(x, self.cross.keys_values(memory))))
        out: Tensor = self.norms[2](x + self.dropout(self.mlp(x)))
        return out


class TimeSteps(nn.Module):
    """Encoder-decoder over time steps: the last `label` steps and zeros ask for the horizon."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.label, self.horizon = c["label"], c["horizon"]
        self.encoder_embedding, self.decoder_embedding = TimeEmbedding(c), TimeEmbedding(c)
        settings = {**c, "attention_dropout": c["dropout"]}
        self.layers = nn.ModuleList(
            MixerBlock(
                c["hidden"],
                c["intermediate"],
                mixer("softmax", c["hidden"], c["heads"], settings),
                dropout=c["dropout"],
                post_norm=True,
                eps=1e-5,
            )
            for _ in range(c["layers"])
        )
        self.decoder = nn.ModuleList(TimeDecoderLayer(c) for _ in range(c["decoder_layers"]))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(c["hidden"]), nn.LayerNorm(c["hidden"])
        self.head = nn.Linear(c["hidden"], c["variates"])

    def forward(self, series: Tensor, marks: Tensor, future_marks: Tensor) -> Tensor:
        x = self.encoder_embedding(series, marks)
        for layer in self.layers:
            x = layer(x)
        memory = self.encoder_norm(x)
        asked = F.pad(series[:, -self.label :], (0, 0, 0, self.horizon))
        x = self.decoder_embedding(asked, future_marks)
        for layer in self.decoder:
            x = layer(x, memory)
        forecast: Tensor = self.head(self.decoder_norm(x))
        return forecast[:, -self.horizon :]


class Patches(nn.Module):
    """PatchTST: every variate alone, patches of its window as tokens, a linear over all of them."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.patch, self.stride = c["patch"], c["stride"]
        count = (c["look_back"] - self.patch) // self.stride + 2
        self.embed = nn.Linear(self.patch, c["hidden"])
        self.positions = nn.Parameter(torch.zeros(count, c["hidden"]))
        self.dropout = nn.Dropout(c["dropout"])
        self.layers = nn.ModuleList(
            MixerBlock(
                c["hidden"],
                c["intermediate"],
                mixer("softmax", c["hidden"], c["heads"], {**c, "attention_dropout": c["dropout"]}),
                dropout=c["dropout"],
                post_norm=True,
                eps=1e-5,
            )
            for _ in range(c["layers"])
        )
        self.head = nn.Linear(count * c["hidden"], c["horizon"])

    def forward(self, series: Tensor) -> Tensor:
        series, mean, deviation = standardised(series)
        alone = F.pad(
            series.transpose(1, 2).contiguous().flatten(0, 1).unsqueeze(1), (0, self.stride), mode="replicate"
        )
        x = self.embed(alone.squeeze(1).unfold(-1, self.patch, self.stride).contiguous()) + self.positions
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x)
        forecast = self.head(x.flatten(1)).unflatten(0, (-1, mean.shape[2])).transpose(1, 2)
        restored: Tensor = forecast * deviation + mean
        return restored


class DLinear(nn.Module):
    """A moving average and what it leaves, each through one linear over time."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.average = c["average"]
        self.trend, self.rest = (nn.Linear(c["look_back"], c["horizon"]) for _ in range(2))

    def forward(self, series: Tensor) -> Tensor:
        across = series.transpose(1, 2).contiguous()
        side = (self.average - 1) // 2
        trend = F.avg_pool1d(F.pad(across, (side, side), mode="replicate"), self.average, stride=1)
        forecast: Tensor = self.trend(trend) + self.rest(across - trend)
        return forecast.transpose(1, 2)


_KINDS = {"inverted": Inverted, "time steps": TimeSteps, "patches": Patches, "linear": DLinear}


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return _KINDS[config["kind"]](config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    series = Input(("batch", config["look_back"], config["variates"]), "model")
    marks = Input(("batch", config["look_back"], _MARKS), "model")
    if config["kind"] == "inverted":
        return Example((series, marks))
    if config["kind"] == "time steps":
        asked = config["label"] + config["horizon"]
        return Example((series, marks, Input(("batch", asked, _MARKS), "model")))
    return Example((series,))
