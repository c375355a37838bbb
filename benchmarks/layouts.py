"""Published runs on many devices beside ours: `python -m benchmarks.layouts > docs/parallelism.md`.

Published values stand only here and are never read by an estimate. Needs the A100 SuperPOD, DGX A100 and P100
profiles that ship; rows of measurement files come from `HWSIM_SHARED` or `../shared` where they are there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import hwsim
from graphs.parallel import Parallel

SHARED = Path(os.environ.get("HWSIM_SHARED", "../shared")) / "measurements"
MEGATRON = "Korthikanti et al., arXiv:2205.05198, Table 5"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One published run: what was measured, and the estimate that answers it."""

    name: str
    published_s: float
    model: str
    machine: str
    layout: Parallel
    arguments: dict[str, Any]
    source: str
    why: str = ""


def megatron() -> Iterator[Run]:
    """Steps with full recompute, and with sequence parallelism and selective recompute."""
    shapes = (
        ("megatron-22b", 4, Parallel(tp=8), 1.42, 1.10),
        (
            "megatron-175b", 1,
            Parallel(tp=8, pp=8, schedule="interleaved", interleave=3, micro_batches=64), 18.13, 13.75,
        ),
        (
            "megatron-530b", 1,
            Parallel(tp=8, pp=35, schedule="interleaved", interleave=3, micro_batches=280), 49.05, 37.83,
        ),
        ("megatron-1t", 1, Parallel(tp=8, pp=64, micro_batches=512), 94.42, 71.49),
    )  # fmt: skip
    for model, batch, layout, full_s, selective_s in shapes:
        for checkpointing, published in (("full", full_s), ("selective", selective_s)):
            tokens = checkpointing == "selective"
            yield Run(
                name=f"{model}, {checkpointing} recompute" + (", sequence parallel" if tokens else ""),
                published_s=published,
                model=model,
                machine="dgx-a100-superpod",
                layout=replace(layout, sp=8 if tokens else 1),
                arguments={
                    "phase": "train", "batch": batch, "seq": 2048, "checkpointing": checkpointing,
                    "overrides": {"stack.attention_kernel": "math"},
                },
                source=MEGATRON,
                why="Time is that of a step of all micro-batches; memory of the run stayed within 80 GB.",
            )  # fmt: skip


def inference() -> Iterator[Run]:
    """A long prefill, with fused attention and as an eager framework writes it out."""
    for stack, how in (("engine", "fused attention, captured graph"), ("eager", "written out, eager")):
        kernel = {"stack.attention_kernel": "math"} if stack == "eager" else {}
        yield Run(
            name=f"gpt3-175b, prefill of 8 x 2048, {how}",
            published_s=5.8,
            model="gpt3-175b",
            machine="dgx-a100",
            layout=Parallel(tp=8),
            arguments={"phase": "prefill", "batch": 8, "seq": 2048, "stack": stack, "overrides": kernel},
            source="nearest measurement: BLOOM 176B, same tokens; other tools say 2.8 to 5.1 s",
            why="The measured framework is eager, with written-out attention and its own position biases.",
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """An estimate and its ratio to what was published."""

    run: Run
    found: hwsim.Estimate
    ratio: float = field(default=0.0)


def answers() -> Iterator[Answer]:
    for run in (*megatron(), *inference()):
        found = hwsim.estimate(run.model, run.machine, parallel=run.layout, **run.arguments)
        yield Answer(run, found, float(found.latency_s) / run.published_s)


PARTS = ("compute", "memory", "overhead", "communication", "power", "bubble")


def page(found: list[Answer]) -> str:
    lines = [
        "# Many devices against published runs",
        "",
        "Written by `python -m benchmarks.layouts > docs/parallelism.md`. No value here was fitted:",
        "links are fitted on measured collectives ([collectives.md](collectives.md)), kernels on single",
        "devices ([calibration.md](calibration.md)).",
        "",
        "```",
        "hwsim estimate llama-3-70b -d dgx-h100 --tp 8 --phase decode --batch 16",
        "hwsim estimate megatron-175b -d selene --phase train --seq 2048 --tp 8 --pp 8 \\",
        "    --checkpointing full --set parallel.micro_batches=64 --set parallel.schedule=interleaved",
        "hwsim estimate opt-30b -d v100-sxm2-32gb --phase decode --batch 256 --offload weights:nvme",
        "hwsim estimate ed-vit-original -d raspberry-pi-cluster --pp 4",
        "hwsim team ed-vit-b-10@raspberry-pi-4*10 --join ed-vit-b-10-fusion@raspberry-pi-4 --over wifi",
        "hwsim advise llama-3-70b -d dgx-h100 --tp 4 --phase decode --batch 16",
        "hwsim sweep -m llama-3-8b -d dgx-h100 --phase decode --axis parallel.tp=1,2,4,8 --axis batch=1:64",
        "```",
        "",
        "An estimate that does not fit says by how many bytes, and the smallest changes that would.",
        "",
        "## Training and prefill",
        "",
        "| run | devices | layout | published | hwsim | ratio | MFU | memory of the fullest device |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        e = one.found
        lines.append(
            f"| {one.run.name} | {e.devices} | {one.run.layout} | {one.run.published_s:g} s | "
            f"{float(e.latency_s):.3g} s | {one.ratio:.2f} | {float(e.mfu):.0%} | "
            f"{float(e.memory_bytes['total']) / 1e9:.0f} GB |"
        )
    trained = [abs(one.ratio - 1) for one in found if one.found.phase == "train"]
    lines += ["", f"Mean error of the {len(trained)} training runs: {np.mean(trained):.1%}.", ""]
    lines += ["Where the time goes (share of the step):", ""]
    lines += [f"| run | {' | '.join(PARTS)} |", "|---|" + "---|" * len(PARTS)]
    for one in found:
        total = float(one.found.latency_s)
        shares = (f"{float(one.found.breakdown_s.get(name, 0.0)) / total:.0%}" for name in PARTS)
        lines.append(f"| {one.run.name} | {' | '.join(shares)} |")
    told = dict.fromkeys(f"{one.run.source}. {one.run.why}".rstrip() for one in found)
    return "\n".join([*lines, "", *(f"- {text}" for text in told)]) + "\n"


def main() -> None:
    """Print the page."""
    from benchmarks.layout_hosts import edge, off_loading
    from benchmarks.layout_rows import LAWS, measured, ring_self_attention

    sys.stdout.write(page(list(answers())))
    if SHARED.is_dir():
        sys.stdout.write(measured(SHARED))
    sys.stdout.write(ring_self_attention())
    sys.stdout.write(off_loading())
    sys.stdout.write(edge())
    sys.stdout.write(LAWS)


if __name__ == "__main__":
    main()
