"""What a layout makes of a file: questions for the simulator, and rows it refuses with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from graphs.ir import OperatorGraph
from graphs.parallel import Parallel
from hwsim.measurements.table import Rows

DTYPES: Mapping[str, str] = {
    "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float": "fp32",
    "float8": "fp8", "fp8_block": "fp8", "nvfp4": "fp4", "mxfp4": "fp4", "sq": "int8", "bf16_or_fp16": "bf16",
    "fp16": "fp16", "bf16 (assumed)": "bf16", "bf16": "bf16",
    "fp32": "fp32", "tf32": "tf32", "fp8": "fp8", "int8": "int8",
    "fp4": "fp4", "f16": "fp16", "f32": "fp32",
}  # fmt: skip
# Reasons that several layouts give word for word, so that they are counted together.
SEVERAL_DEVICES = "needs several devices"
NO_TRAINING = "this layout does not read training rows yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a measurement was taken; nuisance terms belong here and to the host, never to a device.

    `timing` is kernel (device time alone), graph replay, event (a pair of events round one launch) or host
    (a wall clock); `warm` says that runs repeat on the same data; `added_s` is what the method adds to every
    reading; `allocator` is cached, or emptied when the cache is given back before every run, so that
    allocations are inside the timed region.
    """

    timing: str
    statistic: str
    warm: bool
    stack: str = "kernel"
    added_s: float = 0.0
    allocator: str = "cached"
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One estimate whose time counts `repeats` times; sizes are arrays aligned with the question's rows.

    `settings` are overrides of this part alone.
    """

    graph: OperatorGraph | str
    sizes: Mapping[str, Any]
    phase: str = "forward"
    repeats: Any = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A measured column and what of the answer it is, in `unit`s per SI unit.

    `time` is seconds over `amount` (1 unless it is a time per something), `rate` is amount per second, `work`
    is FLOP per second over amount (the model's own, nothing computed again), `energy` joules per amount,
    `power` watts.
    """

    column: str = "latency_us"
    quantity: Literal["time", "rate", "work", "energy", "power"] = "time"
    amount: Any = 1.0
    unit: float = 1.0


LATENCY = Target(column="latency_us", unit=1e6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Rows of one device and operator kind that one vectorised estimate per part answers.

    The parts run one after the other. `settings` are overrides of the estimate, such as the stack's attention
    kernel; `note` is what a reader of the answer must know (a stand-in, an assumed length). `measured_s` are
    measured seconds of all parts together: with them energy is also told at the measured time, beside the
    prediction.
    """

    rows: Rows
    device: str
    op: str
    parts: tuple[Part, ...]
    protocol: Protocol
    targets: tuple[Target, ...] = (LATENCY,)
    dtype: str | None = None
    weights: str | None = None
    kv: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    parallel: Parallel | None = None
    note: str = ""
    measured_s: Any = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Rows without a prediction, and why."""

    rows: Rows
    note: str
    op: str = ""


Answerable = Question | Refusal


@dataclass(frozen=True, slots=True)
class Layout:
    """A known kind of file: its name, what it measures, the columns that identify it (any one set)."""

    name: str
    title: str
    needs: tuple[frozenset[str], ...]
    module: str
    targets: tuple[str, ...]


def dtype_name(text: str) -> str | None:
    """hwsim's name of a dtype as files spell it; None when unknown."""
    return DTYPES.get(text.strip().lower())
