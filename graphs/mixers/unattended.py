"""Mixing without attention: Fourier transforms, linears over the length, convolutions, state spaces."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Fourier(nn.Module):
    """Real part of the transform over tokens and channels (FNet); no weights."""

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = torch.fft.fft(torch.fft.fft(x.float(), dim=-1), dim=-2).real
        return mixed.to(x.dtype)


class DenseFourier(nn.Module):
    """The same as products with matrices of cosines and sines, as TPUs prefer: length squared times width."""

    def forward(self, x: Tensor) -> Tensor:
        tokens, width = x.shape[-2:]
        cos_channel, sin_channel = _wave(width, x)
        cos_token, sin_token = _wave(tokens, x)
        return cos_token @ (x @ cos_channel) - sin_token @ (x @ sin_channel)


def _wave(size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    place = torch.arange(size, device=like.device)
    angle = (place[:, None] * place[None]).to(like.dtype) * (-2 * math.pi / size)
    return angle.cos(), angle.sin()


class TokenMLP(nn.Module):
    """MLP-Mixer: two linears over the tokens, the same for every channel; only at its own length."""

    def __init__(self, length: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(length, hidden), nn.Linear(hidden, length)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.down(F.gelu(self.up(x.transpose(-1, -2).contiguous())))
        return mixed.transpose(-1, -2)


class Convolution(nn.Module):
    """Depth-wise convolution of `kernel` tokens, gated by a linear of the input."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.gate, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mix(x.transpose(-1, -2).contiguous()).transpose(-1, -2)
        out: Tensor = self.out(mixed * self.gate(x).sigmoid())
        return out


class StateSpace(nn.Module):
    """A diagonal state space of `states` a channel, as one long convolution through Fourier transforms.

    The impulse response of length `tokens` is made from the states' decays at every call, as in training.
    """

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.full((width,), math.log(0.01)))
        self.decay = nn.Parameter(torch.zeros(width, states // 2))
        turn = math.pi * torch.arange(states // 2)
        self.turn = nn.Parameter(turn.repeat(width, 1).to(self.step.dtype))
        self.weight = nn.Parameter(torch.randn(width, states // 2, 2) * 0.5**0.5)
        self.skip = nn.Parameter(torch.ones(width))
        self.out = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.shape[1]
        signal = x.transpose(-1, -2).contiguous().float()
        spectrum = torch.fft.rfft(self._response(tokens), n=2 * tokens)
        mixed = torch.fft.irfft(torch.fft.rfft(signal, n=2 * tokens) * spectrum, n=2 * tokens)[..., :tokens]
        mixed = (mixed + signal * self.skip.unsqueeze(-1)).transpose(-1, -2).to(x.dtype)
        return F.glu(self.out(F.gelu(mixed)), dim=-1)

    def _response(self, tokens: int) -> Tensor:
        """[width, tokens]: the sum over states of weight x exp(decay x place), real part."""
        place = torch.arange(tokens, device=self.step.device)
        step = self.step.exp().unsqueeze(-1)
        rate = torch.complex(-self.decay.exp().float() * step.float(), self.turn.float() * step.float())
        weight = torch.complex(self.weight[..., 0].float(), self.weight[..., 1].float())
        wave = torch.exp(rate.unsqueeze(-1) * place)
        return 2 * (weight.unsqueeze(1) @ wave).squeeze(1).real
