"""The Long Range Arena row by row, LeanAttention's gains, and wide attention run for real: tables of docs/.

    python -m benchmarks.efficient_attention arena | lean | wide

`arena` reads the published table from the shared folder of seeds (HWSIM_SHARED); nothing of it enters what is
computed. `wide` runs modules of torch on this machine.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import hwsim

ARENA = {
    "Transformer": "lra-transformer",
    "Local Attention": "lra-local",
    "Linformer": "lra-linformer",
    "Reformer": "lra-reformer",
    "Sinkhorn": "lra-sinkhorn",
    "Synthesizer": "lra-synthesizer",
    "BigBird": "lra-bigbird",
    "Linear Transformer": "lra-linear-transformer",
    "Performer": "lra-performer",
}
WIDE = tuple(f"wide-attention-{form}" for form in ("6x8", "3x16", "2x24", "1x48"))
SEQUENCE, ROUNDS = {"batch": 1, "seq": 1000}, 5
CONTIGUOUS = {
    "coefficient.attention_stream_share": 1.0
}  # keys in one piece: the fitted share is that of pages
KERNELS = ("flash_attention_2", "flash_decoding", "stream_k")
ARENA_LENGTHS = np.array([1000.0, 2000.0, 3000.0, 4000.0])


def arena() -> None:
    """Training steps and peak memory; a 4 x 4 TPU v3 has 2 of the 32 sequences a chip."""
    import yaml

    shared = Path(os.environ.get("HWSIM_SHARED", "../shared"))
    text = (shared / "seeds" / "long_range_arena.yaml").read_text(encoding="utf-8")
    rows = {row["model"]: row for row in yaml.safe_load(text)["efficiency_table"]["rows"]}
    table: list[list[Any]] = []
    for name, model in ARENA.items():
        step = hwsim.estimate(
            model, "tpu-v3", phase="train", batch=2, seq=ARENA_LENGTHS, dtype="tf32",
            overrides={"stack.attention_kernel": "math"},
        )  # fmt: skip
        row = rows[name]
        table.append(
            [name, step.latency_s, row["steps_per_s"], step.peak_memory_bytes / 1e9, row["peak_memory_gb"]]
        )
    base = table[0][1]
    print("| model | speed-up at 1k 2k 3k 4k | published | ratio | GB | published | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name, seconds, rate, memory, published in table:
        printed = np.array(rate) / np.array(table[0][2])
        cells = [_row(base / seconds), _row(printed), _row(base / seconds / printed)]
        print(
            f"| {name} | "
            + " | ".join([*cells, _row(memory), _row(published), _row(memory / np.array(published))])
            + " |"
        )
    flat = [np.concatenate([np.asarray(row[at], dtype=float) for row in table]) for at in (1, 2, 3, 4)]
    print(
        f"\nrank correlation over 36 rows: steps/s {_ranked(1 / flat[0], flat[1]):.3f}, "
        f"memory {_ranked(flat[2], flat[3]):.3f}"
    )


def _row(values: Any) -> str:
    return " ".join(f"{value:.2f}" for value in np.asarray(values, dtype=float))


def _ranked(one: Any, other: Any) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(one, other).statistic)


def lean() -> None:
    """Decode attention on an A100: stream-K over one block a head and over FlashDecoding's split."""
    contexts = np.array([1024.0, 8192.0, 65536.0, 262144.0, 524288.0])
    print("| heads | batch | over | 1k | 8k | 64k | 256k | 512k |\n" + "|---" * 8 + "|")
    gains: dict[str, list[Any]] = {"FlashAttention-2": [], "FlashDecoding": []}
    for heads in (8, 16, 32, 56):
        for batch in (1, 2, 4):
            unsplit, split, even = (
                np.asarray(hwsim.estimate(
                    f"lean-attention-dh64-h{heads}", "a100-80gb-sxm", phase="decode", stack="kernel",
                    batch=batch, context=contexts, overrides={"stack.attention_kernel": kernel, **CONTIGUOUS},
                ).latency_s)
                for kernel in KERNELS
            )  # fmt: skip
            for name, other in zip(gains, (unsplit, split), strict=True):
                gains[name].append(other / even)
                print(f"| {heads} | {batch} | {name} | {' | '.join(f'{one:.2f}' for one in other / even)} |")
    for name, found in gains.items():
        print(f"\nover {name}: mean {np.mean(found):.2f}, at most {np.max(found):.2f}")


def wide() -> None:
    """Processor time of real modules on one thread, one sequence of 1000 bytes, fp32, beside the estimate.

    Rounds go over all models in turn, and the second best of each counts: other programs only add.
    """
    import torch

    from graphs import catalog
    from graphs.layers import materialise

    torch.set_num_threads(1)
    calls: dict[str, Callable[[], Any]] = {}
    for name in WIDE:
        entry = catalog.find(name)
        module = catalog.load(entry)
        model = module.build(entry.config).eval()
        args, kwargs = materialise(
            module.example(entry.config, "forward"), SEQUENCE, torch.float32, torch.Generator().manual_seed(0)
        )
        calls[name] = partial(model, *args, **kwargs)
    took: dict[str, list[float]] = {name: [] for name in calls}
    with torch.inference_mode():
        for _ in range(ROUNDS):
            for name, call in calls.items():
                began = time.process_time()
                call()
                took[name].append(time.process_time() - began)
    measured = {name: sorted(times)[1] for name, times in took.items()}
    predicted = {
        name: float(hwsim.estimate(name, "local", dtype="fp32", stack="eager", **SEQUENCE).latency_s)
        for name in calls
    }
    last = WIDE[-1]
    print("| layers x heads | measured | over 1 x 48 | predicted | over 1 x 48 |\n" + "|---" * 5 + "|")
    for name in calls:
        shown = [f"{1e3 * one[name]:.0f} ms | {one[name] / one[last]:.2f}" for one in (measured, predicted)]
        print(f"| {name.removeprefix('wide-attention-')} | {' | '.join(shown)} |")


PARTS: Mapping[str, Callable[[], None]] = {"arena": arena, "lean": lean, "wide": wide}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", choices=sorted(PARTS))
    PARTS[parser.parse_args(arguments).part]()


if __name__ == "__main__":
    main()
