"""A decoder in which every token uses some of the hidden dimensions only: MoHD.

"Mixture of Hidden-Dimensions Transformer", arXiv:2412.05644, 2024. The hidden width is cut into `groups`;
the first `shared` are always on, a router per sub-layer picks `routed` of the others per token. Every
linear has one side on the hidden width: queries, keys, values, gate and up gather active columns, output
and down compute active rows only, which a block-diagonal fusion mixes before they go back into the
residual. No official code was found: the group count 16, the shared share 3/4 and the active shares come
from a third-party reimplementation and the abstract, everything else (base shapes, block-diagonal fusion,
routers reading the normalised full-width input) is our own choice. Routing is balanced here: every routed
group takes its `routed / (groups - shared)` of all tokens, those that score highest. `masked`
configurations compute everything and multiply by the gates, as a plain torch module would.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.inputs import Example, token_ids
from graphs.layers import RMSNorm, Rotary, rotate

FAMILY = "decoder"
PHASES = ("forward",)
# fmt: off
CONFIGS = {
    "mohd-355m-base": {
        "layers": 24, "hidden": 1024, "heads": 16, "head_dim": 64, "intermediate": 2560, "groups": 1,
        "shared": 1, "routed": 0, "masked": False, "vocab": 32000, "max_position": 2048, "dtype": "bfloat16",
    },
    "mohd-495m-base": {
        "layers": 24, "hidden": 1280, "heads": 20, "head_dim": 64, "intermediate": 2784, "groups": 1,
        "shared": 1, "routed": 0, "masked": False, "vocab": 32000, "max_position": 2048, "dtype": "bfloat16",
    },
    "mohd-1.13b-base": {
        "layers": 24, "hidden": 2048, "heads": 32, "head_dim": 64, "intermediate": 4032, "groups": 1,
        "shared": 1, "routed": 0, "masked": False, "vocab": 32000, "max_position": 2048, "dtype": "bfloat16",
    },
    "mohd-355m-half": {
        "layers": 24, "hidden": 1024, "heads": 16, "head_dim": 64, "intermediate": 2560, "groups": 16,
        "shared": 6, "routed": 2, "masked": False, "vocab": 32000, "max_position": 2048, "dtype": "bfloat16",
    },
    "mohd-355m-half-masked": {
        "layers": 24, "hidden": 1024, "heads": 16, "head_dim": 64, "intermediate": 2560, "groups": 16,
        "shared": 6, "routed": 2, "masked": True, "vocab": 32000, "max_position": 2048, "dtype": "bfloat16",
    },
    "mohd-355m-three-quarters": {
        "layers": 24, "hidden": 1024, "heads": 16, "head_dim": 64, "intermediate": 2560, "groups": 16,
        "shared": 9, "routed": 3, "masked": False, "vocab": 32000, "max_position": 2048, "dtype": "bfloat16",
    },
    "mohd-355m-x2": {
        "layers": 24, "hidden": 2048, "heads": 16, "head_dim": 64, "intermediate": 2560, "groups": 16,
        "shared": 6, "routed": 2, "masked": False, "vocab": 32000, "max_position": 2048, "dtype": "bfloat16",
    },
    "mohd-355m-x3": {
        "layers": 24, "hidden": 3072, "heads": 16, "head_dim": 64, "intermediate": 2560, "groups": 24,
        "shared": 6, "routed": 2, "masked": False, "vocab": 32000, "max_position": 2048, "dtype": "bfloat16",
    },
    "mohd-355m-x4": {
        "layers": 24, "hidden": 4096, "heads": 16, "head_dim": 64, "intermediate": 2560, "groups": 32,
        "shared": 6, "routed": 2, "masked": False, "vocab": 32000, "max_position": 2048, "dtype": "bfloat16",
    },
}
# fmt: on
SYMBOLS = {
    "batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
    "seq": {"default": 512, "min": 1, "max": "max_position", "meaning": "tokens per sequence"},
}
GUARDS = {"forward": ["seq <= max_position"]}
BASELINES = {
    "mohd-355m-half": ["mohd-355m-base"],
    "mohd-355m-half-masked": ["mohd-355m-base"],
    "mohd-355m-three-quarters": ["mohd-355m-base"],
    "mohd-355m-x2": ["mohd-355m-base"],
    "mohd-355m-x3": ["mohd-355m-base"],
    "mohd-355m-x4": ["mohd-355m-base"],
}


class Route:
    """Which tokens a routed group takes: places [groups, room] in all tokens; gates [tokens, groups]."""

    def __init__(self, gates: Tensor, place: Tensor | None) -> None:
        self.gates, self.place = gates, place


class Router(nn.Module):
    """Scores of all groups against their centroids."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.groups, self.shared, self.routed, self.masked = (
            c["groups"],
            c["shared"],
            c["routed"],
            c["masked"],
        )
        self.centroids = nn.Linear(c["hidden"], self.groups, bias=False)

    def forward(self, x: Tensor) -> Route:
        scores = self.centroids(x).softmax(dim=-1)
        free = scores[:, self.shared :]
        if self.masked:
            value, index = free.topk(self.routed, dim=-1)
            chosen = torch.zeros_like(free).scatter(1, index, value)
            return Route(torch.cat([scores[:, : self.shared], chosen], dim=-1), None)
        room = x.shape[0] * self.routed // (self.groups - self.shared)
        # sorted, not topk: its bounds check would tie the number of tokens to the room in a trace
        order = free.t().argsort(dim=1, descending=True)
        first = torch.arange(room, device=x.device)
        return Route(scores, order.index_select(1, first))


class Gathering(nn.Module):
    """A linear from active columns of the hidden width: [tokens, hidden] to [tokens, out]."""

    def __init__(self, c: Mapping[str, Any], out: int) -> None:
        super().__init__()
        self.groups, self.shared = c["groups"], c["shared"]
        self.size = c["hidden"] // c["groups"]
        self.always = nn.Linear(self.shared * self.size, out, bias=False)
        free = self.groups - self.shared
        self.some = nn.Parameter(torch.randn(free, self.size, out) * self.size**-0.5) if free else None

    def forward(self, x: Tensor, route: Route | None) -> Tensor:
        split = self.shared * self.size
        y: Tensor = self.always(x[:, :split])
        if self.some is None or route is None:
            return y
        parts = x[:, split:].unflatten(-1, (-1, self.size))
        if route.place is None:
            gated = parts * route.gates[:, self.shared :, None]
            y = y + gated.flatten(1) @ self.some.flatten(0, 1)
            return y
        place = route.place
        mine = parts.transpose(0, 1).gather(1, place[..., None].expand(-1, -1, self.size))
        added = torch.bmm(mine, self.some)
        return y.index_add(0, place.flatten(), added.flatten(0, 1))


class Scattering(nn.Module):
    """A linear to active rows of the hidden width, mixed in each group: [tokens, inner] to [.., hidden]."""

    def __init__(self, c: Mapping[str, Any], inner: int) -> None:
        super().__init__()
        self.groups, self.shared = c["groups"], c["shared"]
        self.size = c["hidden"] // c["groups"]
        self.always = nn.Linear(inner, self.shared * self.size, bias=False)
        free = self.groups - self.shared
        self.some = nn.Parameter(torch.randn(free, inner, self.size) * inner**-0.5) if free else None
        if free:
            self.fusion = nn.Parameter(torch.eye(self.size).repeat(self.groups, 1, 1))

    def forward(self, x: Tensor, route: Route | None) -> Tensor:
        y: Tensor = self.always(x)
        if self.some is None or route is None:
            return y
        gates, place = route.gates, route.place
        alpha = self.groups * gates.sum(dim=-1, keepdim=True)
        fixed = torch.bmm(y.unflatten(-1, (-1, self.size)).transpose(0, 1), self.fusion[: self.shared])
        fixed = fixed.transpose(0, 1) * gates[:, : self.shared, None]
        if place is None:
            rest = (x @ self.some.transpose(0, 1).flatten(1)).unflatten(-1, (-1, self.size))
            rest = torch.bmm(rest.transpose(0, 1), self.fusion[self.shared :]).transpose(0, 1)
            rest = rest * gates[:, self.shared :, None]
        else:
            mine = x.index_select(0, place.flatten()).unflatten(0, place.shape)
            part = torch.bmm(torch.bmm(mine, self.some), self.fusion[self.shared :])
            part = part * gates[:, self.shared :].t().gather(1, place)[..., None]
            empty = part.new_zeros(place.shape[0], x.shape[0], self.size)
            rest = empty.scatter(1, place[..., None].expand(-1, -1, self.size), part).transpose(0, 1)
        mixed: Tensor = alpha * torch.cat([fixed, rest], dim=1).flatten(1)
        return mixed


class Attend(nn.Module):
    """Causal attention over full-width heads, its linears gathered and scattered."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        inner, self.heads = c["heads"] * c["head_dim"], c["heads"]
        self.query, self.key, self.value = (Gathering(c, inner) for _ in range(3))
        self.out = Scattering(c, inner)

    def forward(self, x: Tensor, route: Route | None, rotary: tuple[Tensor, Tensor]) -> Tensor:
        flat = x.flatten(0, 1)
        query, key, value = (
            linear(flat, route).unflatten(0, x.shape[:2]).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(
            rotate(query, rotary), rotate(key, rotary), value, is_causal=True
        )
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2).flatten(0, 1), route).unflatten(
            0, x.shape[:2]
        )
        return out


class Feed(nn.Module):
    """SwiGLU, its linears gathered and scattered."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.gate, self.up = Gathering(c, c["intermediate"]), Gathering(c, c["intermediate"])
        self.down = Scattering(c, c["intermediate"])

    def forward(self, x: Tensor, route: Route | None) -> Tensor:
        flat = x.flatten(0, 1)
        inner = F.silu(self.gate(flat, route)) * self.up(flat, route)
        out: Tensor = self.down(inner, route).unflatten(0, x.shape[:2])
        return out


class Layer(nn.Module):
    """Both sub-layers, each behind a norm, with a router of its own and inside a residual."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = RMSNorm(c["hidden"], 1e-5), RMSNorm(c["hidden"], 1e-5)
        self.attention, self.mlp = Attend(c), Feed(c)
        routed = c["routed"] > 0
        self.attention_router = Router(c) if routed else None
        self.mlp_router = Router(c) if routed else None

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        normed = self.attention_norm(x)
        x = x + self.attention(normed, _route(self.attention_router, normed), rotary)
        normed = self.mlp_norm(x)
        out: Tensor = x + self.mlp(normed, _route(self.mlp_router, normed))
        return out


def _route(router: Router | None, x: Tensor) -> Route | None:
    return None if router is None else router(x.flatten(0, 1))


class MoHD(nn.Module):
    """Token ids to logits."""

    def __init__(self, c: Mapping[str, Any]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(c["vocab"], c["hidden"])
        self.rotary = Rotary(c["head_dim"], 10000.0)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["layers"]))
        self.norm = RMSNorm(c["hidden"], 1e-5)
        self.head = nn.Linear(c["hidden"], c["vocab"], bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embedding(input_ids)
        rotary = self.rotary(0, input_ids.shape[1], x)
        for layer in self.layers:
            x = layer(x, rotary)
        logits: Tensor = self.head(self.norm(x))
        return logits


def build(config: Mapping[str, Any]) -> nn.Module:
    """The model of one entry of CONFIGS."""
    return MoHD(config)


def example(config: Mapping[str, Any], phase: str) -> Example:
    """The call of one phase."""
    return Example((token_ids("batch", "seq", config["vocab"]),))
