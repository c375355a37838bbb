"""Square 2-D convolutions, event timing: batch, c_in, c_out, kernel_size, in_size, stride, padding."""

from __future__ import annotations

from collections.abc import Iterator

from graphs import kernels
from hwsim.measurements.event import EVENT
from hwsim.measurements.question import Answerable, Part, Question, Refusal, dtype_name
from hwsim.measurements.table import Table

TITLE = "2-D convolutions: c_in, c_out, kernel_size, in_size"
NEEDS = frozenset(("batch", "c_in", "c_out", "kernel_size", "in_size", "stride", "padding", "dtype"))


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device and dtype."""
    names = {"kernel": "kernel_size"}
    names |= {name: name for name in ("batch", "c_in", "c_out", "in_size", "stride", "padding")}
    columns = {ours: table.number(theirs) for ours, theirs in names.items()}
    for (device, dtype), rows in table.groups("device", "dtype").items():
        name = dtype_name(dtype)
        if name is None:
            yield Refusal(rows, f"dtype {dtype!r} is unknown", "conv2d")
            continue
        part = Part(
            graph=kernels.convolution(name), sizes={ours: column[rows] for ours, column in columns.items()}
        )
        yield Question(rows=rows, device=device, op="conv2d", parts=(part,), protocol=EVENT)
