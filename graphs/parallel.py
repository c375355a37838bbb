"""How a model is spread over devices: ranks per axis, the pipeline's schedule, what data ranks share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from graphs.errors import GraphError

Sequence = Literal["megatron", "ring", "ulysses"]
Schedule = Literal["gpipe", "1f1b", "interleaved"]
AXES = ("tp", "sp", "ep", "dp", "pp")  # from neighbours outwards: tensor ranks stand side by side
OFFLOADED = ("weights", "kv", "optimizer")  # what may lie outside of the devices
HOST, NVME = "host", "nvme"
NOWHERE = "none"
PLACES = (HOST, NVME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """Ranks of each axis and what they do; all ones is a single device.

    `sp` ranks split the tokens of a sequence: `megatron` uses the tensor ranks themselves (sp = tp), `ring`
    and `ulysses` ranks of their own. A step takes `micro_batches` batches one after the other, in a pipeline
    overlapped as `schedule` says, `interleave` chunks of layers to a stage. `zero` 1 shares optimizer states
    among data ranks, 2 gradients too, 3 weights too. `imbalance` is the load of the busiest expert rank over
    the mean. `offload` keeps weights, the kv cache or optimizer states in the memory of the host or on its
    drive: `weights`, `kv:nvme`, `weights:host+kv:host`.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    sp: int = 1
    ep: int = 1
    sequence: Sequence = "megatron"
    schedule: Schedule = "1f1b"
    micro_batches: int = 1
    interleave: int = 1
    zero: int = 0
    imbalance: float = 1.0
    offload: str = NOWHERE

    def __post_init__(self) -> None:
        for name in ("tp", "pp", "dp", "sp", "ep", "micro_batches", "interleave"):
            value = getattr(self, name)
            if isinstance(value, bool) or value != int(value) or value < 1:
                raise GraphError(f"{name}={value} is not possible; give a whole number of at least 1")
        for name, words in (("sequence", get_args(Sequence)), ("schedule", get_args(Schedule))):
            if getattr(self, name) not in words:
                raise GraphError(f"{name}={getattr(self, name)!r} is unknown; use one of {', '.join(words)}")
        if self.zero not in (0, 1, 2, 3):
            raise GraphError(f"zero={self.zero} is unknown; stages are 0, 1, 2 and 3")
        if not 1 <= self.imbalance < math.inf:
            raise GraphError(f"imbalance={self.imbalance} must be at least 1: the busiest rank over the mean")
        if self.sequence == "megatron" and self.sp not in (1, self.tp):
            raise GraphError(
                f"sp={self.sp} with tp={self.tp}: the tensor ranks split the tokens, so sp is 1 or "
                f"{self.tp}; sequence 'ring' or 'ulysses' has ranks of its own"
            )
        if self.interleave > 1 and (self.schedule != "interleaved" or self.pp == 1):
            raise GraphError(f"interleave={self.interleave} needs pp > 1 and schedule 'interleaved'")
        _ = self.offloaded

    @property
    def offloaded(self) -> Mapping[str, str]:
        """What lies outside of the devices, and where."""
        found: dict[str, str] = {}
        for part in self.offload.split("+") if self.offload != NOWHERE else ():
            what, _, place = part.partition(":")
            if what not in OFFLOADED or (place or HOST) not in PLACES or what in found:
                raise GraphError(
                    f"offload={self.offload!r} is not possible; name each of {', '.join(OFFLOADED)} at most "
                    f"once, as weights, kv:{NVME} or weights:{HOST}+kv:{HOST}"
                )
            found[what] = place or HOST
        return found

    @property
    def own_sp(self) -> int:
        """Ranks of the sequence axis that are devices of their own."""
        return 1 if self.sequence == "megatron" else self.sp

    @property
    def devices(self) -> int:
        return self.tp * self.pp * self.dp * self.ep * self.own_sp

    @property
    def replicas(self) -> int:
        """Ranks that see other samples: each has a batch of its own."""
        return self.dp * self.ep

    @property
    def sharded(self) -> bool:
        """Whether one graph becomes several (and not only its step repeated)."""
        return self.devices > 1

    def ranks(self, axis: str) -> int:
        return self.own_sp if axis == "sp" else int(getattr(self, axis))

    def with_ranks(self, **ranks: int) -> Parallel:
        """The layout with other ranks of some axes; tokens stay split over the tensor ranks if they are."""
        changes: dict[str, Any] = dict(ranks)
        if self.sequence == "megatron" and self.sp > 1 and "tp" in ranks:
            changes["sp"] = ranks["tp"]
        if ranks.get("pp", self.pp) == 1:
            changes["interleave"] = 1
        return replace(self, **changes)

    def stride(self, axis: str) -> int:
        """Devices between neighbours of an axis."""
        return math.prod(self.ranks(inner) for inner in AXES[: AXES.index(axis)])

    def in_flight(self, stage: int) -> float:
        """Micro-batches whose activations a stage keeps at a time, those of the one at hand among them."""
        if self.schedule == "gpipe" or self.pp == 1:
            return float(self.micro_batches if self.pp > 1 else 1)
        held = min(self.micro_batches, self.pp - stage)
        chunks = 1 + (self.pp - 1) / (self.pp * self.interleave) if self.interleave > 1 else 1
        return float(held * chunks)

    def record(self) -> dict[str, int | float | str]:
        """What differs from one device with one batch."""
        plain = {one.name: one.default for one in fields(self)}
        return {name: getattr(self, name) for name in plain if getattr(self, name) != plain[name]}

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.record().items()) or "one device"


ONE = Parallel()
