"""Fused mixture-of-experts MLPs of serving engines: num_tokens, hidden_size, inter_size, topk, experts.

One device holds num_experts / moe_ep_size experts of width inter_size / moe_tp_size; the benchmark measures
the rank with the most tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphs import kernels
from graphs.ir import OperatorGraph
from hwsim.measurements.gemm import REPLAY
from hwsim.measurements.question import Answerable, Part, Question, Refusal, dtype_name
from hwsim.measurements.routing import active_experts
from hwsim.measurements.table import Rows, Table

TITLE = "fused expert MLPs: moe_dtype, num_tokens, hidden_size, inter_size, topk, num_experts"
NEEDS = frozenset(("moe_dtype", "num_tokens", "hidden_size", "inter_size", "topk", "num_experts"))
# dtype column -> (activations, weights); block formats carry one scale byte per 16 (nvfp4) or 32 (mxfp4)
# weights, written as a 16-bit scale per twice as many
FORMATS: Mapping[str, tuple[str, str]] = {
    "nvfp4": ("fp4", "fp4:g32"), "w4a16_mxfp4": ("bf16", "fp4:g64"), "w4a8_mxfp4_mxfp8": ("fp8", "fp4:g64"),
    "w4a4_mxfp4": ("fp4", "fp4:g64"), "int4_wo": ("bf16", "int4:g128"), "int8_wo": ("bf16", "int8"),
}  # fmt: skip


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, dtype, routing and whether the MLP is gated."""
    numbers = {
        name: table.number(name)
        for name in ("num_tokens", "hidden_size", "inter_size", "topk", "num_experts")
    }
    split, ranks = table.number("moe_tp_size", 1.0), table.number("moe_ep_size", 1.0)
    plain = np.array(["nongated" in source for source in table.text("kernel_source")], dtype=bool)
    chosen = [(gated, key, rows) for gated in (True, False) for key, rows in _groups(table, plain != gated)]
    for gated, (device, dtype, routing), rows in chosen:
        label = f"moe {dtype}"
        graph = _graph(dtype, gated=gated)
        if graph is None or not (routing in ("", "balanced", "uniform") or _is_power_law(routing)):
            yield Refusal(rows, f"dtype {dtype!r} or distribution {routing!r} is unknown", label)
            continue
        active, tokens = active_experts(
            numbers["num_tokens"][rows],
            numbers["num_experts"][rows],
            numbers["topk"][rows],
            ranks[rows],
            routing,
        )
        sizes = {
            "active": active,
            "tokens": tokens,
            "hidden": numbers["hidden_size"][rows],
            "inter": numbers["inter_size"][rows] / split[rows],
        }
        parts = (Part(graph=graph, sizes=sizes), *_routing({k: v[rows] for k, v in numbers.items()}, sizes))
        yield Question(rows=rows, device=device, op=label, parts=parts, protocol=REPLAY)


def _routing(numbers: Mapping[str, NDArray[np.float64]], sizes: Mapping[str, Any]) -> Iterator[Part]:
    """The kernels round the products: choosing experts, gathering their rows, adding up their results."""
    rows, hidden = numbers["num_tokens"], numbers["hidden_size"]
    routed = sizes["active"] * sizes["tokens"]
    passes = (
        (rows * numbers["num_experts"], rows * numbers["topk"]),
        (rows * hidden, routed * hidden),
        (routed * hidden, rows * hidden),
    )
    for read, written in passes:
        yield Part(graph=kernels.stream("bf16"), sizes={"read": read, "written": written})


def _groups(table: Table, where: NDArray[np.bool_]) -> Iterable[tuple[tuple[str, ...], Rows]]:
    return table.groups("device", "moe_dtype", "distribution", where=where).items()


def _is_power_law(routing: str) -> bool:
    try:
        return routing.startswith("power_law_") and float(routing.removeprefix("power_law_")) != 1
    except ValueError:
        return False


def _graph(dtype: str, *, gated: bool) -> OperatorGraph | None:
    data, weights = FORMATS.get(dtype, (dtype_name(dtype), ""))
    return None if data is None else kernels.expert_mlp(data, weights, gated=gated)
