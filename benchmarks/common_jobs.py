"""Three common jobs beside what was measured, with no coefficient fitted to anything.

Nothing is run here: the measured side is quoted, with its source. Run: python -m benchmarks.common_jobs
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import hwsim

# The numbers of TensorRT-LLM and of other tools reached this project without their primary source, which is
# still to be found.
SECOND_HAND = "second-hand, primary source not found"
# Lee et al., "Forecasting GPU Performance for Deep Learning Training and Inference", ASPLOS 2025: the
# end-to-end set published with it (torch 2.1, eager, attention written out, TF32 off).
NEUSIGHT = "NeuSight end-to-end set"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One workload, what it took, and the range other tools give for it, in seconds."""

    title: str
    model: str
    device: str
    stack: str
    dtype: str
    phase: str
    sizes: Mapping[str, int]
    measured_s: float
    others_s: tuple[float, float] | None = None
    floor_s: float | None = None
    source: str


JOBS = (
    Job(
        title="Llama-2-7B prefill 1 x 2048",
        model="llama-2-7b", device="a100-80gb-sxm", stack="engine", dtype="fp16", phase="prefill",
        sizes={"batch": 1, "seq": 2048},
        measured_s=120.5e-3, others_s=(92.9e-3, 162e-3), source=f"TensorRT-LLM, {SECOND_HAND}",
    ),
    Job(
        title="Llama-2-7B decode 16, context 2048",
        model="llama-2-7b", device="a100-80gb-sxm", stack="engine", dtype="fp16", phase="decode",
        sizes={"batch": 16, "context": 2048},
        measured_s=20e-3, others_s=(13.9e-3, 25.9e-3), floor_s=14.9e-3, source=f"about, {SECOND_HAND}",
    ),
    Job(
        title="BERT-large 8 x 512",
        model="bert-large", device="v100-pcie-32gb", stack="eager", dtype="fp32", phase="forward",
        sizes={"batch": 8, "seq": 512},
        measured_s=257.422e-3, source=NEUSIGHT,
    ),
)  # fmt: skip


def line(job: Job) -> str:
    """One row of a Markdown table."""
    found = hwsim.estimate(
        job.model, job.device, phase=job.phase, dtype=job.dtype, stack=job.stack, **job.sizes
    )
    if job.floor_s is not None:
        assert found.latency_s >= 0.98 * job.floor_s, "faster than its memory traffic allows"
    error = found.latency_s / job.measured_s - 1
    others = "-" if job.others_s is None else f"{1e3 * job.others_s[0]:.1f} to {1e3 * job.others_s[1]:.1f}"
    cells = (
        f"{job.title}, {job.dtype}, {job.device}, {job.stack}",
        f"{1e3 * job.measured_s:.1f}",
        f"{1e3 * found.latency_s:.1f}",
        f"{1e3 * found.latency_low_s:.1f} to {1e3 * found.latency_high_s:.1f}",
        f"{100 * error:+.0f} %",
        others,
        found.provenance["tier"],
        job.source,
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table that docs/validation.md shows."""
    print("| job | measured, ms | hwsim, ms | 80 % interval | error | other tools, ms | tier | measured by |")
    print("|---|---|---|---|---|---|---|---|")
    for job in JOBS:
        print(line(job))


if __name__ == "__main__":
    main()
