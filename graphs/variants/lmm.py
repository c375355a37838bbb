"""Diffusion transformer over body parts with linear attention and experts: Large Motion Model.

"Large Motion Model for Unified Multi-Modal Motion Generation", 2024; sizes as in the released demo
configurations, whose parameter counts disagree with those remembered of the paper. Frames are ten part
vectors. A layer's attention has two linear halves, over the parts of a frame and over frames with memory
rows and condition tokens of text (music, speech and video have encoders too); a template per part, refined
by four residual MLPs, gives frames back through Gaussian weights over anchors. Before it a mixture of
experts widens every part token. `text` condition tokens; one forward is one denoising step, guidance
doubles `batch`. Experts run at a capacity of 1.5 x top_k x tokens / experts, as released. Every data set
and source has its own linears, of which one of each runs. The gate's inner width is approximated, and where
the description is silent (no output linear in the condition encoders) it is an own reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, Input, SymbolValue
from graphs.layers import MLP
from graphs.variants.dit import sinusoids

FAMILY = "diffusion"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "lmm-tiny": {
        "part_width": 64, "parts": 10, "layers": 4, "condition_layers": 2, "experts": 16, "top_k": 4,
        "pose": 669, "time_width": 2048, "sources": [1024, 768, 768, 1024], "positions": 300,
        "most_frames": 200, "data_sets": 27, "dtype": "float32",
    },
    "lmm-small": {
        "part_width": 64, "parts": 10, "layers": 8, "condition_layers": 2, "experts": 16, "top_k": 4,
        "pose": 669, "time_width": 2048, "sources": [1024, 768, 768, 1024], "positions": 300,
        "most_frames": 200, "data_sets": 27, "dtype": "float32",
    },
    "lmm-base": {
        "part_width": 128, "parts": 10, "layers": 12, "condition_layers": 4, "experts": 16, "top_k": 4,
        "pose": 669, "time_width": 2048, "sources": [1024, 768, 768, 1024], "positions": 300,
        "most_frames": 200, "data_sets": 27, "dtype": "float32",
    },
    "lmm-large": {
        "part_width": 128, "parts": 10, "layers": 20, "condition_layers": 4, "experts": 32, "top_k": 8,
        "pose": 669, "time_width": 2048, "sources": [1024, 768, 768, 1024], "positions": 300,
        "most_frames": 200, "data_sets": 27, "dtype": "float32",
    },
    "lmm-tiny-one-expert": {
        "part_width": 64, "parts": 10, "layers": 4, "condition_layers": 2, "experts": 1, "top_k": 1,
        "pose": 669, "time_width": 2048, "sources": [1024, 768, 768, 1024], "positions": 300,
        "most_frames": 200, "data_sets": 27, "dtype": "float32",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 2, "min": 1, "max": None, "meaning": "motions, twice that under guidance"},
    "frames": {"default": "most_frames", "min": 1, "max": "most_frames", "meaning": "frames of motion"},
    "text": {"default": 77, "min": 1, "max": "positions", "meaning": "condition tokens"},
    "capacity": {
        "default": "ceil(3*top_k*batch*frames*parts/(2*experts))",
        "min": 1,
        "max": None,
        "meaning": "part tokens that each expert takes",
    },
}
GUARDS: dict[str, list[str]] = {}
BASELINES = {"lmm-tiny": ["lmm-tiny-one-expert"]}
MEMORY_ROWS, ROTATION_ROWS = 48, 16  # of the data set and of the rotation


class Experts(nn.Module):
    """Tokens to `capacity` places of each expert by a cosine gate, through its MLP, and back."""

    def __init__(self, width: int, experts: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.gate, self.centres = nn.Linear(width, width), nn.Parameter(torch.randn(experts, width))
        self.up = nn.Parameter(torch.randn(experts, width, 4 * width) * width**-0.5)
        self.down = nn.Parameter(torch.randn(experts, 4 * width, width) * width**-0.5)

    def forward(self, x: Tensor, capacity: int) -> Tensor:
        """Tokens [tokens, width]; each expert takes the tokens that score highest with it."""
        scores = F.normalize(self.gate(x), dim=-1) @ F.normalize(self.centres, dim=-1).t()
        weights = scores.softmax(-1)
        chosen = weights.topk(self.top_k, dim=-1)
        kept = torch.zeros_like(weights).scatter(1, chosen.indices, chosen.values)
        share, token = kept.t().topk(capacity, dim=1)
        taken = x[token.flatten()].unflatten(0, (-1, capacity))
        found = torch.bmm(F.gelu(torch.bmm(taken, self.up)), self.down) * share[..., None]
        return torch.zeros_like(x).index_add(0, token.flatten(), found.flatten(0, 1))


class Styling(nn.Module):
    """Scale and shift by the time step, an activation and a linear, as a residual branch."""

    def __init__(self, width: int, time_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.modulation, self.out = nn.Linear(time_width, 2 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.modulation(F.silu(time))[:, None].chunk(2, dim=-1)
        out: Tensor = self.out(F.silu(self.norm(x) * (1 + scale) + shift))
        return out


class ArtAttention(nn.Module):
    """Linear attention over the parts of each frame and over the frames of each part."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.parts, self.width = c["parts"], c["part_width"]
        whole, width = self.parts * self.width, self.width
        self.norm = nn.LayerNorm(whole)
        self.places = nn.Parameter(torch.zeros(c["most_frames"], self.parts, width))
        self.experts, self.project = Experts(width, c["experts"], c["top_k"]), nn.Linear(width, 5 * width)
        self.condition_norm, self.condition = nn.LayerNorm(whole), nn.Linear(whole, 2 * whole)
        self.memory = nn.Parameter(torch.zeros(c["data_sets"], MEMORY_ROWS, 2 * whole))
        self.rotation = nn.Parameter(torch.zeros(ROTATION_ROWS, 2 * whole))
        self.refine = nn.ModuleList(MLP(width, 4 * width, "gelu") for _ in range(4))
        self.time = MLP(width, 4 * width, "gelu", out=1)
        self.styling = Styling(whole, c["time_width"])

    def forward(self, x: Tensor, condition: Tensor, time: Tensor, capacity: int) -> Tensor:
        batch, frames = x.shape[:2]
        tokens = self.norm(x).unflatten(2, (self.parts, self.width)) + self.places[:frames]
        wide = F.gelu(self.experts(tokens.flatten(0, 2), capacity)).unflatten(0, (batch, frames, self.parts))
        value, key, query, time_key, time_value = self.project(wide).chunk(5, dim=-1)
        context = torch.einsum("btpd,btpe->btde", key.softmax(2), value)
        spatial = torch.einsum("btpd,btde->btpe", query.softmax(-1), context)
        template = self._template(time_key, time_value, condition)
        temporal = self._frames(template, frames, x.device)
        mixed = (spatial + temporal).flatten(2)
        out: Tensor = x + self.styling(mixed, time)
        return out

    def _template(self, key: Tensor, value: Tensor, condition: Tensor) -> Tensor:
        """[batch, parts, width, width]: keys and values of frames, memory and condition as one matrix."""
        batch = key.shape[0]
        rows = [self.memory[0].expand(batch, -1, -1), self.rotation.expand(batch, -1, -1)]
        others = torch.cat([*rows, self.condition(self.condition_norm(condition))], dim=1)
        other_key, other_value = others.unflatten(2, (2, self.parts, self.width)).unbind(2)
        keys = torch.cat([key, other_key], dim=1).softmax(1)
        values = torch.cat([value, other_value], dim=1)
        return torch.einsum("bnpd,bnpe->bpde", keys, values)

    def _frames(self, template: Tensor, frames: int, device: torch.device) -> Tensor:
        """Frames as sums over anchors of state, velocity, acceleration and jerk."""
        anchor = torch.sigmoid(self.time(template)).squeeze(-1)[:, None]  # [batch, 1, parts, width]
        place = torch.arange(frames, device=device, dtype=template.dtype) / self.places.shape[0]
        apart = place[:, None, None] - anchor
        weights = (-(apart**2)).softmax(-1)
        total = torch.zeros_like(apart)
        for power, mlp in enumerate(self.refine):
            part = template + mlp(template)
            total = total + torch.einsum("btpd,bpde->btpe", weights * apart**power, part)
        return total


class Layer(nn.Module):
    """Attention, then an MLP on whole frames, both styled by the time step."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        whole = c["parts"] * c["part_width"]
        self.attention = ArtAttention(c)
        self.mlp, self.styling = MLP(whole, 4 * whole, "gelu"), Styling(whole, c["time_width"])

    def forward(self, x: Tensor, condition: Tensor, time: Tensor, capacity: int) -> Tensor:
        x = self.attention(x, condition, time, capacity)
        out: Tensor = x + self.styling(self.mlp(x), time)
        return out


class EfficientBlock(nn.Module):
    """Attention linear in the tokens (softmax of queries and of keys apart) and MLP, pre-normed."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.mlp = MLP(width, 4 * width, "gelu")

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norms[0](x)
        query = self.query(normed).unflatten(-1, (self.heads, -1)).softmax(-1)
        key = self.key(normed).unflatten(-1, (self.heads, -1)).softmax(1)
        value = self.value(normed).unflatten(-1, (self.heads, -1))
        mixed = torch.einsum("bnhd,bhde->bnhe", query, torch.einsum("bnhd,bnhe->bhde", key, value))
        x = x + mixed.flatten(2)
        out: Tensor = x + self.mlp(self.norms[1](x))
        return out


class ConditionEncoder(nn.Module):
    """Features of one source to condition tokens."""

    def __init__(self, c: Mapping[str, Any], source: int) -> None:
        super().__init__()
        whole = c["parts"] * c["part_width"]
        self.enter = nn.Linear(source, whole)
        self.positions = nn.Parameter(torch.zeros(c["positions"], whole))
        self.blocks = nn.ModuleList(EfficientBlock(whole, c["parts"]) for _ in range(c["condition_layers"]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x) + self.positions[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return x


class PartLinears(nn.Module):
    """Ten linears, one per body part, of equal shares of a pose; into parts or out of them."""

    def __init__(self, c: Mapping[str, Any], *, enter: bool) -> None:
        super().__init__()
        self.shares = [c["pose"] // c["parts"]] * (c["parts"] - 1)
        self.shares.append(c["pose"] - sum(self.shares))
        width, self.enter = c["part_width"], enter
        self.linears = nn.ModuleList(
            nn.Linear(share, width) if enter else nn.Linear(width, share) for share in self.shares
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split(self.shares, dim=-1) if self.enter else x.chunk(len(self.shares), dim=-1)
        return torch.cat([linear(part) for linear, part in zip(self.linears, parts, strict=True)], dim=-1)


class LMM(nn.Module):
    """Noisy motion [batch, frames, pose], time steps and text features to the clean motion."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.whole = c["parts"] * c["part_width"]
        self.time = MLP(self.whole, c["time_width"], "silu", out=c["time_width"])
        # every data set and source has its own linears; one of each runs
        self.enters = nn.ModuleList(PartLinears(c, enter=True) for _ in range(c["data_sets"]))
        self.leaves = nn.ModuleList(PartLinears(c, enter=False) for _ in range(c["data_sets"]))
        self.conditions = nn.ModuleList(ConditionEncoder(c, source) for source in c["sources"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["layers"]))

    def forward(self, motion: Tensor, step: Tensor, text: Tensor, capacity: int) -> Tensor:
        time = self.time(sinusoids(step, self.whole).to(motion.dtype))
        condition = self.conditions[0](text)
        x = self.enters[0](motion)
        for layer in self.layers:
            x = layer(x, condition, time, capacity)
        out: Tensor = self.leaves[0](x)
        return out


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return LMM(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    motion = Input(("batch", "frames", config["pose"]), "model")
    text = Input(("batch", "text", config["sources"][0]), "model")
    return Example((motion, Input(("batch",), "int64", high=1000), text, SymbolValue("capacity")))
