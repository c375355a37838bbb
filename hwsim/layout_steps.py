"""The neighbours of a layout: ranks of an axis doubled, halved or moved, tokens split, states shared, parts
kept outside of the devices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from graphs.errors import GraphError
from graphs.parallel import NOWHERE, Parallel
from hwsim.result import Estimate

AXES = ("tp", "pp", "dp", "ep")
MOVES = (("tp", "pp"), ("pp", "tp"), ("tp", "dp"), ("dp", "tp"), ("pp", "dp"), ("dp", "pp"))


def ranks_changed(layout: Parallel, most: int, *, experts: bool = False) -> Iterator[Parallel]:
    """Twice and half the ranks of every axis, and half of one given to another; at most so many devices."""
    for axis in AXES if experts else AXES[:-1]:
        ranks = getattr(layout, axis)
        for wanted in (2 * ranks, ranks // 2 if ranks % 2 == 0 else ranks):
            yield from _possible(layout, {axis: wanted}, most)
    for source, target in MOVES:
        if getattr(layout, source) % 2 == 0:
            moved = {source: getattr(layout, source) // 2, target: 2 * getattr(layout, target)}
            yield from _possible(layout, moved, most)


def _possible(layout: Parallel, ranks: dict[str, int], most: int) -> Iterator[Parallel]:
    try:
        changed = layout.with_ranks(**ranks)
    except GraphError:
        return
    if changed != layout and changed.devices <= most:
        yield changed


def otherwise_dealt(layout: Parallel, training: bool, decoding: bool) -> Iterator[Parallel]:
    """As many devices, differently: tokens over the tensor ranks, more micro-batches, states shared."""
    if layout.tp > 1 and layout.sequence == "megatron" and not decoding:
        yield replace(layout, sp=1 if layout.sp > 1 else layout.tp)
    if layout.pp > 1:
        yield replace(layout, micro_batches=2 * layout.micro_batches)
    if training and layout.dp > 1:
        yield from (replace(layout, zero=stage) for stage in range(4) if stage != layout.zero)


def off_loaded(layout: Parallel, base: Estimate) -> Iterator[Parallel]:
    """One more part outside of the device, or all of it back; nothing where there is no host beside it."""
    if layout.offloaded:
        yield replace(layout, offload=NOWHERE)
    elif base.machine.host_link is not None or base.machine.memory.host is not None:
        roles = {"kv": "kv_cache", "weights": "weights", "optimizer": "optimizer"}
        yield from (replace(layout, offload=what) for what, role in roles.items() if base.memory_bytes[role])


def named(layout: Parallel, changed: Parallel) -> str:
    """What differs, as options write it: `tp 4 pp 1`."""
    names = [n for n in Parallel.__dataclass_fields__ if getattr(changed, n) != getattr(layout, n)]
    return " ".join(f"{name} {getattr(changed, name)}" for name in names)
