"""A Legendre memory in place of attention, as one long convolution, step by step, or with spikes: LMUFormer.

Liu et al., "LMUFormer: Low Complexity Yet Powerful Spiking Model With Legendre Memory Units",
arXiv:2402.04882, 2024. Log-mel frames [128 steps, 128 bins] pass five convolutions of width 3 (the fifth a
relative position code), then one block: a scalar drives a fixed linear state space whose memory is read
together with the input, and a channel mixer of two width-1 convolutions; a linear at every step, averaged.
In training the state space is a Fourier convolution with its impulse response; streamed,
`lmuformer-streaming` computes one step with its state (convolutions keep two frames each). The spiking form
doubles the memory and puts leaky neurons (tau 2, hard reset) before each weight layer, whose products then
only accumulate: `percent` of the activations are spikes, our own choice of 15 as the source prints none.
Matrices A, B and H are buffers. `ast-speech` is the spectrogram transformer of the comparison (12 layers of
768, 146 tokens, distilled head), without the two unused 1000-class heads of its body; `-with-heads` counts
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input, SymbolValue
from graphs.layers import PreNormBlock
from graphs.mixers.codes import accumulate, leaky

FAMILY = "audio"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "lmuformer": {"form": "parallel", "width": 256, "memory": 256, "ratio": 4, "steps": 128, "bins": 128,
                  "classes": 35, "norm_eps": 1e-5, "dtype": "float32"},
    "lmuformer-streaming": {"form": "streaming", "width": 256, "memory": 256, "ratio": 4, "steps": 1,
                            "bins": 128, "classes": 35, "norm_eps": 1e-5, "dtype": "float32"},
    "lmuformer-spiking": {"form": "spiking", "width": 256, "memory": 512, "ratio": 4, "steps": 128,
                          "bins": 128, "classes": 35, "norm_eps": 1e-5, "dtype": "float32"},
    "ast-speech": {"form": "ast", "width": 768, "layers": 12, "heads": 12, "image": 128, "bins": 128,
                   "classes": 35, "unused_heads": 0, "norm_eps": 1e-6, "dtype": "float32"},
    "ast-speech-with-heads": {"form": "ast", "width": 768, "layers": 12, "heads": 12, "image": 128,
                              "bins": 128, "classes": 35, "unused_heads": 2, "norm_eps": 1e-6,
                              "dtype": "float32"},
    "ast-audioset": {"form": "ast", "width": 768, "layers": 12, "heads": 12, "image": 1024, "bins": 128,
                     "classes": 527, "unused_heads": 0, "norm_eps": 1e-6, "dtype": "float32"},
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "utterances"},
    "percent": {
        "default": 15,
        "min": 0,
        "max": 100,
        "meaning": "percent of activations that are spikes (spiking form)",
    },
}
BASELINES = {"AST": "ast-speech", "AST as its body is released": "ast-speech-with-heads"}
_HEAD_CLASSES = 1000


class Memory(nn.Module):
    """The Legendre memory: a fixed A [memory, memory] and B [memory, 1], or their impulse response."""

    transition: Tensor
    drive: Tensor
    response: Tensor

    def __init__(self, memory: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("transition", torch.eye(memory) * 0.9)
        self.register_buffer("drive", torch.ones(memory, 1) / memory)
        self.register_buffer("response", torch.ones(memory, steps) / memory)

    def forward(self, u: Tensor) -> Tensor:
        """Memories of all steps [batch, steps, memory] from scalars [batch, steps, 1], by transforms."""
        points = 2 * self.steps
        signal = torch.fft.rfft(u.transpose(1, 2), n=points, dim=-1)
        kernel = torch.fft.rfft(self.response, n=points, dim=-1)
        memory: Tensor = torch.fft.irfft(signal * kernel, n=points, dim=-1)
        return memory[..., : self.steps].transpose(1, 2)

    def step(self, state: Tensor, u: Tensor) -> Tensor:
        """The next memory [batch, memory] from the last one and one scalar [batch, 1]."""
        return state @ self.transition.transpose(0, 1) + u @ self.drive.transpose(0, 1)


class Tokenizer(nn.Module):
    """Four convolutions with ReLU and batch norm, and a fifth that is added to its input."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width = c["width"]
        sizes = [c["bins"], width, width, width]
        self.layers = nn.ModuleList(nn.Conv1d(size, width, 3, padding=1, bias=False) for size in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in sizes)
        self.place = nn.Conv1d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, bins, steps] to [batch, width, steps]."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(F.relu(layer(x)))
        out: Tensor = x + self.place(x)
        return out

    def step(self, x: Tensor, past: list[Tensor]) -> Tensor:
        """One new frame [batch, bins] over two kept frames of every convolution's input."""
        for layer, norm, kept in zip(self.layers, self.norms, past[:-1], strict=True):
            x = norm(F.relu(_newest(layer, kept, x))).squeeze(-1)
        return x + _newest(self.place, past[-1], x).squeeze(-1)


def _newest(layer: nn.Module, kept: Tensor, x: Tensor) -> Tensor:
    """A convolution's output over two kept frames and the newest one."""
    return F.conv1d(torch.cat([kept, x.unsqueeze(-1)], dim=-1), layer.get_parameter("weight"))


class Mixer(nn.Module):
    """Width-1 convolutions up and down, with batch norms."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.up, self.down = nn.Conv1d(width, ratio * width, 1), nn.Conv1d(ratio * width, width, 1)
        self.up_norm, self.down_norm = nn.BatchNorm1d(ratio * width), nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.down_norm(self.down(F.gelu(self.up_norm(self.up(x))))))


class LMUFormer(nn.Module):
    """Frames [batch, steps, bins] to class scores."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width, memory = c["width"], c["memory"]
        self.tokenizer = Tokenizer(c)
        self.memory = Memory(memory, c["steps"])
        self.drive, self.read = nn.Linear(width, 1), nn.Linear(memory + width, width)
        self.project, self.norm = nn.Conv1d(width, width, 1), nn.BatchNorm1d(width)
        self.mixer = Mixer(width, c["ratio"])
        self.head = nn.Linear(width, c["classes"])

    def forward(self, frames: Tensor) -> Tensor:
        x = self.tokenizer(frames.transpose(1, 2).contiguous()).transpose(1, 2).contiguous()
        memory = self.memory(F.relu(self.drive(x)))
        hidden = F.relu(self.read(torch.cat([memory, x], dim=-1)))
        x = x.transpose(1, 2) + self.norm(self.project(hidden.transpose(1, 2).contiguous()))
        x = x + self.mixer(x)
        scores: Tensor = self.head(x.transpose(1, 2).contiguous()).mean(dim=1)
        return scores


class Streaming(nn.Module):
    """One frame, the kept frames and the memory to scores and the next memory."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.whole = LMUFormer(c)

    def forward(self, frame: Tensor, past: list[Tensor], state: Tensor) -> tuple[Tensor, Tensor]:
        whole = self.whole
        x = whole.tokenizer.step(frame, past)
        state = whole.memory.step(state, F.relu(whole.drive(x)))
        hidden = F.relu(whole.read(torch.cat([state, x], dim=-1)))
        x = x.unsqueeze(-1) + whole.norm(whole.project(hidden.unsqueeze(-1)))
        x = x + whole.mixer(x)
        return whole.head(x.squeeze(-1)), state


class Leaky(nn.Module):
    """Batch norm, then leaky neurons along the steps: half the potential leaks, a spike resets it."""

    def __init__(self, width: int, *, normed: bool = True) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width) if normed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[batch, steps, width] to spikes of the same shape."""
        fired: Tensor = leaky(self.norm(x.transpose(1, 2).contiguous()))
        return fired.transpose(1, 2).contiguous()


class Accumulating(nn.Module):
    """A convolution of `kernel` steps over spikes, as sums of the weights that they pick."""

    def __init__(self, inner: int, outer: int, kernel: int, *, bias: bool) -> None:
        super().__init__()
        self.kernel = kernel
        self.weight = nn.Parameter(torch.randn(kernel * inner, outer) * (kernel * inner) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(outer)) if bias else None

    def forward(self, x: Tensor, percent: int) -> Tensor:
        side = self.kernel // 2
        if side:
            x = F.pad(x, (0, 0, side, side)).unfold(1, self.kernel, 1).transpose(2, 3).flatten(2)
        out: Tensor = accumulate(x, self.weight, percent)
        return out if self.bias is None else out + self.bias


class SpikingLMUFormer(nn.Module):
    """The same layout with spikes before every weight layer; residual sums stay real."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width, memory, wide = c["width"], c["memory"], c["ratio"] * c["width"]
        sizes = [c["bins"], width, width, width, width]
        self.neurons = nn.ModuleList(Leaky(size, normed=index > 0) for index, size in enumerate(sizes))
        self.layers = nn.ModuleList(Accumulating(size, width, 3, bias=False) for size in sizes)
        self.memory = Memory(memory, c["steps"])
        self.before_drive = Leaky(width)
        self.drive, self.read = (
            Accumulating(width, 1, 1, bias=True),
            Accumulating(memory + width, width, 1, bias=True),
        )
        self.of_drive, self.of_memory = Leaky(1), Leaky(memory)
        self.before_project, self.project = Leaky(width), Accumulating(width, width, 1, bias=True)
        self.before_up, self.up = Leaky(width), Accumulating(width, wide, 1, bias=True)
        self.before_down, self.down = Leaky(wide), Accumulating(wide, width, 1, bias=True)
        self.before_head, self.head = Leaky(width), Accumulating(width, c["classes"], 1, bias=True)

    def forward(self, frames: Tensor, percent: int | None = None) -> Tensor:
        percent = 100 if percent is None else percent
        x = frames
        for index, (neurons, layer) in enumerate(zip(self.neurons, self.layers, strict=True)):
            made = layer(neurons(x), percent)
            x = made if index < len(self.layers) - 1 else x + made
        fired = self.before_drive(x)
        memory = self.of_memory(self.memory(self.of_drive(self.drive(fired, percent))))
        hidden = self.read(torch.cat([memory, fired], dim=-1), percent)
        x = x + self.project(self.before_project(hidden), percent)
        x = x + self.down(self.before_down(self.up(self.before_up(x), percent)), percent)
        scores: Tensor = self.head(self.before_head(x), percent).mean(dim=1)
        return scores


class AST(nn.Module):
    """Spectrograms [batch, 1, bins, frames] through a distilled vision transformer body."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        width = c["width"]
        self.patches = nn.Conv2d(1, width, 16, stride=10)
        count = ((c["bins"] - 16) // 10 + 1) * ((c["image"] - 16) // 10 + 1)
        self.extra = nn.Parameter(torch.zeros(1, 2, width))
        self.positions = nn.Parameter(torch.zeros(1, count + 2, width))
        self.layers = nn.ModuleList(
            PreNormBlock(width, c["heads"], 4 * width, "gelu", eps=c["norm_eps"]) for _ in range(c["layers"])
        )
        self.norm = nn.LayerNorm(width, eps=c["norm_eps"])
        self.head_norm, self.head = nn.LayerNorm(width), nn.Linear(width, c["classes"])
        self.unused = nn.ModuleList(nn.Linear(width, _HEAD_CLASSES) for _ in range(c["unused_heads"]))

    def forward(self, spectrogram: Tensor) -> Tensor:
        x = self.patches(spectrogram).flatten(2).transpose(1, 2)
        x = torch.cat([self.extra.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        for layer in self.layers:
            x, _ = layer(x)
        x = self.norm(x)
        scores: Tensor = self.head(self.head_norm((x[:, 0] + x[:, 1]) / 2))
        return scores


_FORMS = {"parallel": LMUFormer, "streaming": Streaming, "spiking": SpikingLMUFormer, "ast": AST}


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return _FORMS[config["form"]](config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    if config["form"] == "ast":
        return Example((Input(("batch", 1, config["bins"], config["image"]), "model"),))
    if config["form"] == "streaming":
        sizes = [config["bins"], *[config["width"]] * 4]
        past = [Input(("batch", size, 2), "model") for size in sizes]
        state = Input(("batch", config["memory"]), "model")
        return Example((Input(("batch", config["bins"]), "model"), past, state))
    frames = Input(("batch", config["steps"], config["bins"]), "model")
    return Example((frames, SymbolValue("percent")) if config["form"] == "spiking" else (frames,))
