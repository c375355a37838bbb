"""Collective operations of several devices: op, num_gpus, message bytes; or a table of bus bandwidths.

A row names a device, or a node of Vidur's. Message bytes are those of the whole buffer. Engines' own kernels
(custom all-reduces) are timed in a captured graph or eagerly: an eager call adds what its host needs.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphs import kernels
from graphs.parallel import Parallel
from hwsim.measurements.nodes import no_ranks, node_of, ranks_of
from hwsim.measurements.question import Answerable, Part, Protocol, Question, Refusal, dtype_name
from hwsim.measurements.table import Table

TITLE = "collective operations: op, num_gpus, message_bytes or size_bytes; or busbw_gbs, algbw_gbs"
NEEDS = (
    frozenset(("op", "num_gpus", "message_bytes")),
    frozenset(("op", "num_gpus", "size_bytes", "devices_per_node")),
    frozenset(("message_bytes", "busbw_gbs", "algbw_gbs")),
)
OPS = {"alltoall": "all_to_all", "send_recv": "send"}
ALIASES = {"4x NVIDIA A100 NVLink3": "4x-a100-nvlink"}
LIBRARIES = ("nccl", "oneccl", "rccl", "")
REPLAYED = Protocol(
    timing="graph replay",
    statistic="mean",
    warm=True,
    source="replays of a captured graph between two events",
)
ENGINE = Protocol(
    timing="graph replay", statistic="mean", warm=True,
    source="the engine's own all-reduce in a captured graph",
)  # fmt: skip
EAGER_S = 20e-6  # what an eager call of a custom all-reduce adds; the smallest of four hosts, from the file
EAGER = Protocol(
    timing="event", statistic="mean", warm=True, added_s=EAGER_S,
    source="the engine's own all-reduce, eager: the host's part is 20 to 45 us, 20 us taken",
)  # fmt: skip
PROFILED = Protocol(timing="kernel", statistic="median of three", warm=True, source="profiler of torch")


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, backend, op and number of ranks."""
    if not table.has("op", "num_gpus"):
        for rows in table.groups("op").values():
            yield Refusal(rows, "no device is named, and no number of ranks", "all_reduce")
        return
    byte = table.number("message_bytes" if table.has("message_bytes") else "size_bytes")
    where = "node" if table.has("node") and not table.has("device") else "device"
    keys = (where, "backend", "op", "dtype", "num_gpus", "devices_per_node")
    for (device, backend, op, dtype, count, per_node), rows in table.groups(*keys).items():
        name = OPS.get(op, op)
        label, ranks, held = f"{name} of {count}", ranks_of(count), ranks_of(per_node)
        if ranks is None or ranks < 2 or (per_node and held is None):
            note = "one device exchanges nothing" if ranks == 1 else no_ranks(per_node if ranks else count)
            yield Refusal(rows, note, name)
            continue
        if held is not None and held < ranks:
            yield Refusal(rows, "crosses nodes, and the table does not say what joins them", label)
            continue
        kind = dtype_name(dtype) or "int8"
        width = {"fp32": 4, "bf16": 2, "fp16": 2}.get(kind, 1)
        part = Part(graph=kernels.collective(name, kind), sizes={"elements": byte[rows] / width})
        yield Question(
            rows=rows, device=ALIASES.get(device) or node_of(device, ranks), op=label, parts=(part,),
            protocol=_protocol(backend, per_node), parallel=Parallel(tp=ranks),
            settings={} if backend in LIBRARIES else {"stack.direct_all_reduce": True},
        )  # fmt: skip


def _protocol(backend: str, per_node: str) -> Protocol:
    if per_node:
        return PROFILED
    if backend in LIBRARIES:
        return REPLAYED
    return EAGER if backend.endswith("eager") else ENGINE
