"""Where efficient attention pays, and the Long Range Arena row by row: tables and figure of docs/.

    python -m benchmarks.efficient_attention crossover --figure docs/images/efficient-attention.png
    python -m benchmarks.efficient_attention arena | lean

`arena` reads the published table from the shared folder of seeds (HWSIM_SHARED); nothing of it enters what is
computed.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import hwsim

DEVICES = ("a100-80gb-sxm", "tpu-v3", "iphone-14", "raspberry-pi-4")
WIDTH, HEADS = 512, 8
MIXERS: Mapping[str, Mapping[str, Any]] = {
    "softmax": {},
    "local": {"block": 128},
    "longformer": {"window": 512, "global_tokens": 1},
    "bigbird": {"block": 64, "random_blocks": 3},
    "sinkhorn": {"block": 128, "max_blocks": 512},
    "reformer": {"rounds": 2, "buckets": 64, "chunk": 64},
    "linformer": {"max_position": 65536, "rank": 256, "shared": True},
    "linear": {},
    "performer": {"features": 256, "kernel": "relu"},
}
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
ARENA_LENGTHS = np.array([1000.0, 2000.0, 3000.0, 4000.0])


def crossover(figure: str | None) -> None:
    """From which length on each mixer is faster than flash attention, one layer of 512 with 8 heads, fp16."""
    import torch

    from graphs.mixers.kinds import mixer

    graphs = {}
    for kind, settings in MIXERS.items():
        module = mixer(kind, WIDTH, HEADS, settings).to(torch.float16)
        graphs[kind] = hwsim.trace(module, inputs={"x": ("batch", "seq", WIDTH)}, sizes={"seq": 4096})
    print("| mixer | " + " | ".join(DEVICES) + " |\n|---|" + "---|" * len(DEVICES))
    curves: dict[str, dict[str, tuple[Any, Any]]] = {device: {} for device in DEVICES}
    lengths = np.unique(np.round(np.geomspace(512, 65536, 113) / 128) * 128)
    for device in DEVICES:
        for kind, graph in graphs.items():
            found = hwsim.estimate(graph, device, batch=1, seq=lengths)
            curves[device][kind] = (lengths, np.asarray(found.latency_s))
    for kind in list(MIXERS)[1:]:
        cells = [_from_where(curves[device]["softmax"], curves[device][kind]) for device in DEVICES]
        print(f"| {kind} | " + " | ".join(cells) + " |")
    if figure:
        _draw(curves, figure)


def _from_where(full: tuple[Any, Any], other: tuple[Any, Any]) -> str:
    """The least length from which on the other always needs less time."""
    less = other[1] < full[1]
    lasting = np.logical_and.accumulate(less[::-1])[::-1]
    if not lasting.any():
        return "never"
    first = int(np.argmax(lasting))
    ratio = full[1][-1] / other[1][-1]
    return f"{'always' if first == 0 else f'{full[0][first]:.0f}'} ({ratio:.3g}x at 64k)"


def _draw(curves: Mapping[str, Mapping[str, tuple[Any, Any]]], path: str) -> None:
    from matplotlib.figure import Figure

    from reports.palette import CURVES

    sheet = Figure(figsize=(10, 7), layout="constrained")
    axes = sheet.subplots(2, 2).flat
    dashes = ["-", "--", ":"]
    for ax, (device, found) in zip(axes, curves.items(), strict=True):
        full = found["softmax"][1]
        for index, (kind, (lengths, seconds)) in enumerate(found.items()):
            if kind == "softmax":
                continue
            colour = CURVES[(index - 1) % len(CURVES)]
            ax.plot(lengths, full / seconds, color=colour, ls=dashes[(index - 1) // len(CURVES)], label=kind)
        ax.axhline(1, color="0.4", lw=1)
        ax.set(xscale="log", yscale="log", title=device, xlabel="tokens", ylabel="speed over flash attention")
        ax.set_xticks([512, 2048, 8192, 32768], ["512", "2k", "8k", "32k"])
        ax.minorticks_off()
        ax.grid(alpha=0.25)
    sheet.legend(
        *next(iter(sheet.axes)).get_legend_handles_labels(),
        loc="outside lower center",
        ncols=8,
        frameon=False,
    )
    sheet.savefig(path, dpi=130)


def arena(figure: str | None) -> None:
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
    print(
        "| model | speed-up at 1k, 2k, 3k, 4k | with the host | published | ratio | GB | published | ratio |"
    )
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


def lean(figure: str | None) -> None:
    """Decode attention on an A100: stream-K over one block a head and over the best split."""
    print(
        "| heads | batch | context | flash | split-KV | stream-K | over flash | over split |\n"
        + "|---" * 8
        + "|"
    )
    for heads in (8, 16, 32, 56):
        for batch in (1, 4):
            for context in (8192, 65536, 524288):
                times = [
                    1e6 * float(hwsim.estimate(
                        f"lean-attention-dh64-h{heads}", "a100-80gb-sxm", phase="decode", stack="kernel",
                        batch=batch, context=context, overrides={"stack.attention_kernel": kernel},
                    ).latency_s)
                    for kernel in ("flash", "flash_split_kv", "stream_k")
                ]  # fmt: skip
                shown = " | ".join(f"{one:.0f} us" for one in times)
                gains = f"{times[0] / times[2]:.2f} | {times[1] / times[2]:.2f}"
                print(f"| {heads} | {batch} | {context} | {shown} | {gains} |")


PARTS: Mapping[str, Callable[[str | None], None]] = {"crossover": crossover, "arena": arena, "lean": lean}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", choices=sorted(PARTS))
    parser.add_argument("--figure")
    given = parser.parse_args(arguments)
    PARTS[given.part](given.figure)


if __name__ == "__main__":
    main()
