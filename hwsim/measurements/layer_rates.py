"""Best rates of layers and operators: device, workload, dtype, best_tflops; sizes are not in the file.

Products and elementwise multiplication are answered at a size large enough for their best rate.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphs import kernels
from hwsim.measurements.device_names import device_called
from hwsim.measurements.question import Answerable, Part, Protocol, Question, Refusal, Target
from hwsim.measurements.table import Table

TITLE = "best rates of layers: device, workload, dtype, best_tflops"
NEEDS = frozenset(("device", "workload", "dtype", "best_tflops"))
TARGETS = ("best_tflops",)
BEST = Protocol(
    timing="host", statistic="best over sizes", warm=False, stack="eager", source="a notebook's tables"
)
# the table says neither memory nor form; most had 40 GB SXM cards and 16 GB SXM2 cards when it was made
DEVICES = {"A100": "a100-40gb-sxm", "V100": "v100-sxm2-16gb", "A6000": "rtx-a6000"}
SIDE, ELEMENTS = 8192.0, 2.0**26
NOTE = "answered at one large size; the file names none"


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, workload and dtype."""
    for (device, workload, dtype), rows in table.groups("device", "workload", "dtype").items():
        # fp32 products run in TF32 on the cards that have it and the notebook's torch of 2022 left that off
        name = "fp16" if dtype == "fp16" else "tf32" if "tf32" in dtype else "fp32"
        square = {axis: np.full(rows.size, SIDE) for axis in "mnk"}
        stream = {"rows": np.full(rows.size, ELEMENTS), "cols": 1.0}
        if workload == "matmul":
            part, flop = Part(graph=kernels.gemm(name), sizes=square), 2 * SIDE**3
        elif workload == "vector_mul":
            part, flop = Part(graph=kernels.elementwise("mul", name, 1), sizes=stream), ELEMENTS
        else:
            yield Refusal(rows, "the sizes of the layer are not in the file", workload)
            continue
        rate = Target(column="best_tflops", quantity="rate", amount=flop, unit=1e-12)
        yield Question(
            rows=rows, device=DEVICES.get(device) or device_called(device), op=workload, parts=(part,),
            protocol=BEST, targets=(rate,), note=NOTE,
        )  # fmt: skip
