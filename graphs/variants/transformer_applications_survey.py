"""Detection, speech and biosignals: the domains of a survey that no other built-in model stands for.

"A Comprehensive Survey on Applications of Transformers for Deep Learning Tasks", arXiv:2306.07303, 2023,
prints no cost of its own, so one canonical model per domain is our choice: BERT-Base, ViT-B/16, CLIP and
the spectrogram transformer (`ast-speech`) stand elsewhere; here are DETR with a ResNet-50 (6 encoder and 6
decoder post-norm layers, 8 heads, 100 queries; positions added to queries and keys in every layer), wav2vec
2.0 base (seven strided convolutions, a grouped position convolution of 128; from memory, unverified) and an
EEG transformer (22 channels, 1000 samples, 61 tokens, 6 layers of 40, 10 heads; from memory, unverified).
The LSTM beside them is our own reference of equal width: 4 layers of 768.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input
from graphs.layers import MLP, Attention, PreNormBlock

FAMILY = "multi-domain"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "detr-r50": {"kind": "detection", "stages": [3, 4, 6, 3], "hidden": 256, "heads": 8, "intermediate": 2048,
                 "encoder_layers": 6, "decoder_layers": 6, "queries": 100, "classes": 92, "height": 800,
                 "width": 1066, "dtype": "float32"},
    "wav2vec2-base": {"kind": "speech", "hidden": 768, "heads": 12, "intermediate": 3072, "layers": 12,
                      "channels": 512, "samples": 16000, "dtype": "float32"},
    "wav2vec2-base-10s": {"kind": "speech", "hidden": 768, "heads": 12, "intermediate": 3072, "layers": 12,
                          "channels": 512, "samples": 160000, "dtype": "float32"},
    "eeg-transformer": {"kind": "biosignal", "hidden": 40, "heads": 10, "intermediate": 160, "layers": 6,
                        "electrodes": 22, "samples": 1000, "classes": 4, "dtype": "float32"},
    "lstm-4x768": {"kind": "recurrent", "hidden": 768, "layers": 4, "length": 32,
                   "dtype": "float32"},
}
# fmt: on
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "images, recordings or sequences"}}
BASELINES = {"LSTM of equal width": "lstm-4x768"}


class FrozenNorm(nn.Module):
    """A batch norm that is a fixed scale and shift."""

    scale: Tensor
    shift: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(channels, 1, 1))
        self.register_buffer("shift", torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions around a residual sum."""

    def __init__(self, inner: int, width: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inner, width, 1, bias=False), FrozenNorm(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False), FrozenNorm(width), nn.ReLU(),
            nn.Conv2d(width, 4 * width, 1, bias=False), FrozenNorm(4 * width),
        )  # fmt: skip
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or inner != 4 * width:
            shortcut = nn.Conv2d(inner, 4 * width, 1, stride=stride, bias=False)
            self.skip = nn.Sequential(shortcut, FrozenNorm(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layers(x) + self.skip(x))


def resnet(stages: list[int]) -> nn.Sequential:
    """A ResNet of bottlenecks to a 32nd of the side, without pooling and head."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), FrozenNorm(64), nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
    ]  # fmt: skip
    inner = 64
    for index, count in enumerate(stages):
        width = 64 * 2**index
        for block in range(count):
            layers.append(Bottleneck(inner, width, 2 if index and not block else 1))
            inner = 4 * width
    return nn.Sequential(*layers)


class Asking(nn.Module):
    """Attention whose queries and keys carry positions that values do not."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.inner = Attention(hidden, heads)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        inner = self.inner
        parts = (inner.query(query), inner.key(key), inner.value(value))
        split = [part.unflatten(-1, (inner.heads, -1)).transpose(1, 2) for part in parts]
        mixed = F.scaled_dot_product_attention(*split)
        out: Tensor = inner.out(mixed.transpose(1, 2).flatten(2))
        return out


class DetectionLayer(nn.Module):
    """Self-attention, in the decoder cross-attention, MLP; LayerNorm after each residual sum."""

    def __init__(self, c: Mapping[str, Any], *, crosses: bool) -> None:
        super().__init__()
        hidden = c["hidden"]
        self.own = Asking(hidden, c["heads"])
        self.cross = Asking(hidden, c["heads"]) if crosses else None
        self.mlp = MLP(hidden, c["intermediate"], "relu")
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(3 if crosses else 2))

    def forward(
        self, x: Tensor, place: Tensor, memory: Tensor | None = None, at: Tensor | None = None
    ) -> Tensor:
        asked = x + place
        x = self.norms[0](x + self.own(asked, asked, x))
        if self.cross is not None and memory is not None and at is not None:
            x = self.norms[1](x + self.cross(x + place, memory + at, memory))
        out: Tensor = self.norms[-1](x + self.mlp(x))
        return out


class DETR(nn.Module):
    """Images to class scores and boxes of 100 queries."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden = c["hidden"]
        self.backbone = resnet(c["stages"])
        self.project = nn.Conv2d(256 * 2 ** (len(c["stages"]) - 1), hidden, 1)
        tokens = -(-c["height"] // 32) * -(-c["width"] // 32)
        self.register_buffer("place", torch.zeros(1, tokens, hidden))
        self.queries = nn.Parameter(torch.randn(c["queries"], hidden))
        self.encoder = nn.ModuleList(DetectionLayer(c, crosses=False) for _ in range(c["encoder_layers"]))
        self.decoder = nn.ModuleList(DetectionLayer(c, crosses=True) for _ in range(c["decoder_layers"]))
        self.norm = nn.LayerNorm(hidden)
        self.classes = nn.Linear(hidden, c["classes"])
        self.boxes = nn.Sequential(
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 4)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        place = self.get_buffer("place")
        memory = self.project(self.backbone(image)).flatten(2).transpose(1, 2).contiguous()
        for layer in self.encoder:
            memory = layer(memory, place)
        asked = self.queries.expand(image.shape[0], -1, -1)
        x = torch.zeros_like(asked)
        for layer in self.decoder:
            x = layer(x, asked, memory, place)
        x = self.norm(x)
        return self.classes(x), self.boxes(x).sigmoid()


class Wav2Vec(nn.Module):
    """Samples [batch, samples] to hidden states at 49 frames a second."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        channels, hidden = c["channels"], c["hidden"]
        shapes = [(10, 5), *[(3, 2)] * 4, *[(2, 2)] * 2]
        self.features = nn.ModuleList(
            nn.Conv1d(1 if index == 0 else channels, channels, kernel, stride=stride, bias=False)
            for index, (kernel, stride) in enumerate(shapes)
        )
        self.first_norm, self.feature_norm = nn.GroupNorm(channels, channels), nn.LayerNorm(channels)
        self.project = nn.Linear(channels, hidden)
        self.place = nn.Conv1d(hidden, hidden, 128, padding=64, groups=16)
        self.norm = nn.LayerNorm(hidden)
        self.layers = nn.ModuleList(
            PreNormBlock(hidden, c["heads"], c["intermediate"], "gelu", fused=False)
            for _ in range(c["layers"])
        )

    def forward(self, samples: Tensor) -> Tensor:
        x = samples.unsqueeze(1)
        for index, layer in enumerate(self.features):
            x = layer(x)
            x = F.gelu(self.first_norm(x) if index == 0 else x)
        x = self.project(self.feature_norm(x.transpose(1, 2).contiguous()))
        place = F.gelu(self.place(x.transpose(1, 2).contiguous())[..., :-1]).transpose(1, 2)
        x = self.norm(x + place)
        for layer in self.layers:
            x, _ = layer(x)
        hidden: Tensor = x
        return hidden


class Biosignal(nn.Module):
    """Electrode recordings [batch, 1, electrodes, samples] to class scores."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden = c["hidden"]
        self.over_time = nn.Conv2d(1, hidden, (1, 25))
        self.over_electrodes = nn.Conv2d(hidden, hidden, (c["electrodes"], 1))
        self.norm, self.pool = nn.BatchNorm2d(hidden), nn.AvgPool2d((1, 75), stride=(1, 15))
        self.project = nn.Conv2d(hidden, hidden, 1)
        self.layers = nn.ModuleList(
            PreNormBlock(hidden, c["heads"], c["intermediate"], "gelu") for _ in range(c["layers"])
        )
        self.head = nn.Linear(hidden, c["classes"])

    def forward(self, recording: Tensor) -> Tensor:
        x = F.elu(self.norm(self.over_electrodes(self.over_time(recording))))
        x = self.project(self.pool(x)).flatten(2).transpose(1, 2).contiguous()
        for layer in self.layers:
            x, _ = layer(x)
        scores: Tensor = self.head(x.mean(dim=1))
        return scores


class Recurrent(nn.Module):
    """Long short-term memories step by step: products of one token, layer after layer."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        hidden = c["hidden"]
        self.cells = nn.ModuleList(nn.LSTMCell(hidden, hidden) for _ in range(c["layers"]))

    def forward(self, x: Tensor) -> Tensor:
        for cell in self.cells:
            hidden = torch.zeros_like(x[:, 0])
            carried, outputs = hidden, []
            for step in range(x.shape[1]):
                hidden, carried = cell(x[:, step], (hidden, carried))
                outputs.append(hidden)
            x = torch.stack(outputs, dim=1)
        return x


_KINDS = {"detection": DETR, "speech": Wav2Vec, "biosignal": Biosignal, "recurrent": Recurrent}


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return _KINDS[config["kind"]](config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    shapes: dict[str, tuple[Any, ...]] = {
        "detection": ("batch", 3, config.get("height"), config.get("width")),
        "speech": ("batch", config.get("samples")),
        "biosignal": ("batch", 1, config.get("electrodes"), config.get("samples")),
        "recurrent": ("batch", config.get("length"), config["hidden"]),
    }
    return Example((Input(shapes[config["kind"]], "model"),))
