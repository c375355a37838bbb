"""Kernels measured on a TPU: op, M, K, N for products, shape and elements otherwise, duration_us_avg."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphs import kernels
from hwsim.fitted import shipped
from hwsim.measurements.question import Answerable, Part, Protocol, Question, Refusal, Target
from hwsim.measurements.table import Table

TITLE = "TPU kernels: op, M, K, N or shape and elements, duration_us_avg"
NEEDS = frozenset(("device", "op", "M", "K", "N", "shape", "elements", "dtype"))
TARGETS = ("duration_us_avg",)
KERNEL = Protocol(
    timing="kernel", statistic="mean of 10 or 20", warm=False,
    source="kernel durations of a profiler; operands of a kernel alone come from HBM and results go there, "
    "as nothing is kept in software-managed memory from one run to the next",
)  # fmt: skip
# the source infers a v4 from the clock; operands are written f16, which is bf16 there
DEVICES = {"Google TPU, generation unnamed (1.05 GHz tick inferred, TPU v4-like)": "tpu-v4"}
# what that profiler's kernels reach, each alone: of the measurement, not of every TPU v4 (`make fit`)
ALONE = "tpu-v4-alone"
# op -> (our operator, tensors in)
OPERATORS = {
    "add": ("add", 2), "mul": ("mul", 2), "sub": ("sub", 2), "div": ("div", 2), "relu": ("relu", 1),
    "sigmoid": ("sigmoid", 1), "tanh": ("tanh", 1), "linear": ("mul", 1), "elu": ("elu", 1),
    "selu": ("selu", 1),
    "leaky_relu": ("leaky_relu", 1), "parametric_relu": ("leaky_relu", 1), "binary_step": ("ge", 1),
    "gelu": ("gelu", 1), "softplus": ("softplus", 1), "swish": ("silu", 1), "layer_norm": ("norm", 1),
    "softmax": ("softmax", 1), "exp": ("exp", 1),
}  # fmt: skip


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device and op."""
    m, k, n, elements = (table.number(name) for name in ("M", "K", "N", "elements"))
    last = np.array([_last(shape) for shape in table.text("shape")], dtype=np.float64)
    target = (Target(column="duration_us_avg", unit=1e6),)
    for (device, op), rows in table.groups("device", "op").items():
        if op == "matmul":
            part = Part(graph=kernels.gemm("bf16"), sizes={"m": m[rows], "n": n[rows], "k": k[rows]})
        elif op in OPERATORS:
            sizes = {"rows": elements[rows] / last[rows], "cols": last[rows]}
            part = Part(graph=kernels.elementwise(OPERATORS[op][0], "bf16", OPERATORS[op][1]), sizes=sizes)
        else:
            yield Refusal(rows, f"operator {op!r} is not known to this layout", op)
            continue
        where = DEVICES.get(device, device)
        alone = shipped(ALONE) if device in DEVICES else {}
        settings = {f"coefficient.{name}": value for name, value in alone.items()}
        yield Question(
            rows=rows, device=where, op=op, parts=(part,), protocol=KERNEL, targets=target, settings=settings
        )


def _last(shape: str) -> float:
    """The last size of a shape such as `112x8x8`; not a number where there is none."""
    try:
        return float(shape.rpartition("x")[2])
    except ValueError:
        return float("nan")
