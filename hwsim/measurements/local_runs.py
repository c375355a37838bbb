"""Whole runs timed by `hwsim validate MODEL... --save`: model, mode, sizes, dtype, device, stack, latency_us.

A device of this machine's name is this machine, calibrated or not as it is now.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from devices.detect import detect
from hwsim.measurements.device_names import device_called
from hwsim.measurements.question import Answerable, Part, Protocol, Question, Refusal, dtype_name
from hwsim.measurements.table import Table

TITLE = "whole runs timed by hwsim validate --save: model, mode, dtype, device, stack, repeatability"
NEEDS = frozenset(("model", "mode", "dtype", "device", "stack", "latency_us", "repeatability"))
_SIZES = ("batch", "seq", "context", "source", "frames", "image")
_COPIED = "torch copies a cache that grows; an estimate does not"


def questions(table: Table) -> Iterator[Answerable]:
    """One question per model, mode, dtype, device, stack, and the sizes that it gives."""
    given = {name: table.number(name) for name in _SIZES if table.has(name)}
    named = ("model", "mode", "dtype", "device", "stack")
    for (model, mode, dtype, device, stack), every in table.groups(*named).items():
        if dtype_name(dtype) is None:
            yield Refusal(every, f"dtype '{dtype}' is unknown", mode)
            continue
        patterns = np.array([np.isfinite(sizes[every]) for sizes in given.values()]).T
        for pattern in np.unique(patterns, axis=0):
            rows = every[np.all(patterns == pattern, axis=1)]
            sizes = {name: given[name][rows] for name, there in zip(given, pattern, strict=True) if there}
            yield Question(
                rows=rows,
                device="local" if device == detect().name else device_called(device, cpu=True),
                op=f"{mode} {model}",
                parts=(Part(graph=model, sizes=sizes, phase=mode),),
                protocol=Protocol(
                    timing="host", statistic="lower quartile", warm=False, stack=stack,
                    source="hwsim validate --save",
                ),
                dtype=dtype_name(dtype),
                note=_COPIED if mode == "decode" else "",
            )  # fmt: skip
