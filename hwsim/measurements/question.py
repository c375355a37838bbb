"""What a layout makes of a file: questions for the simulator, and rows it refuses with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphs.ir import OperatorGraph

from hwsim.measurements.table import Rows

DTYPES: Mapping[str, str] = {
    "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float": "fp32", "float8": "fp8",
    "fp8_block": "fp8", "nvfp4": "fp4", "mxfp4": "fp4", "sq": "int8", "bf16_or_fp16": "bf16", "fp16": "fp16",
    "bf16 (assumed)": "bf16", "bf16": "bf16", "fp32": "fp32", "tf32": "tf32", "fp8": "fp8", "int8": "int8",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a measurement was taken; nuisance terms belong here and to the host, never to a device.

    `timing` is kernel (device time alone), graph replay, event (a pair of events round one launch) or host (a wall
    clock); `warm` says that runs repeat on the same data; `floor_s` is the shortest time the method can show.
    """

    timing: str
    statistic: str
    warm: bool
    stack: str = "kernel"
    floor_s: float = 0.0
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Rows of one device and operator kind that one vectorised estimate answers.

    `sizes` are arrays aligned with `rows`; `target` the measured column, `unit` converts seconds to it: a factor
    (1e6 for microseconds), or with `amount` a rate, amount / seconds.
    """

    rows: Rows
    device: str
    op: str
    graph: OperatorGraph | str
    sizes: Mapping[str, Any]
    protocol: Protocol
    phase: str = "forward"
    dtype: str | None = None
    weights: str | None = None
    kv: str | None = None
    target: str = "latency_us"
    unit: float = 1e6
    amount: Any = None
    repeats: Any = 1.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Rows without a prediction, and why."""

    rows: Rows
    note: str
    op: str = ""


Answerable = Question | Refusal


@dataclass(frozen=True, slots=True)
class Layout:
    """A known kind of file: its name, the columns that identify it, what it measures."""

    name: str
    title: str
    needs: frozenset[str]
    module: str = field(default="")


def dtype_name(text: str) -> str | None:
    """hwsim's name of a dtype as files spell it; None when unknown."""
    return DTYPES.get(text.strip().lower())
