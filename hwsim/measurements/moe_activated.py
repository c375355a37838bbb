"""Fused expert MLPs with known active experts: tokens, activated_experts, moe_intermediate_size."""

from __future__ import annotations

from collections.abc import Iterator

from graphs import kernels
from hwsim.measurements.engine_ops import KERNELS
from hwsim.measurements.question import Answerable, Part, Question, Refusal, dtype_name
from hwsim.measurements.table import Table

TITLE = "expert MLPs with known active experts: tokens, activated_experts, moe_intermediate_size"
NEEDS = frozenset(
    ("dtype", "tokens", "activated_experts", "hidden_size", "moe_intermediate_size", "num_experts_per_tok")
)


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device and dtype."""
    tokens, active, hidden, inter, top_k = (
        table.number(name)
        for name in (
            "tokens",
            "activated_experts",
            "hidden_size",
            "moe_intermediate_size",
            "num_experts_per_tok",
        )
    )
    split = table.number("tp", 1.0)
    for (device, dtype), rows in table.groups("device", "dtype").items():
        name = dtype_name(dtype)
        if name is None:
            yield Refusal(rows, f"dtype {dtype!r} is unknown", "moe")
            continue
        sizes = {
            "active": active[rows],
            "tokens": tokens[rows] * top_k[rows] / active[rows],
            "hidden": hidden[rows],
            "inter": inter[rows] / split[rows],
        }
        part = Part(graph=kernels.expert_mlp(name), sizes=sizes)
        yield Question(rows=rows, device=device, op="moe", parts=(part,), protocol=KERNELS)
