"""Parts of the page of many devices: sharded rows of measurement files, memory of ring self-attention."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

import hwsim
from graphs.parallel import Parallel
from hwsim.measurements.predicting import predict

Keep = Callable[[Mapping[str, str]], bool]
FILES: tuple[tuple[str, str, Keep, str], ...] = (
    ("neusight/e2e_fp32.csv", "option", lambda r: r["n_gpus"] != "1", ""),
    ("llmcompass/gpt3_layer_tp4.csv", "op", lambda r: True, ""),
    ("llmcompass/allreduce_4xA100.csv", "op", lambda r: float(r["message_bytes"]) > 1e6, "above 1 MB"),
    ("splitwise/llm_serving_phases.csv", "tensor_parallel", lambda r: True, "tensor ranks"),
    ("llm_decode_tables/batch1_decode_tokens.csv", "n_gpus", lambda r: r["n_gpus"] > "1", "devices"),
    ("ml_energy/llm_serving_energy.csv", "num_gpus", lambda r: r["num_gpus"] != "1", "devices"),
)


def measured(folder: Path) -> str:
    """Rows that need several devices, by group, with the ratio of ours to theirs."""
    lines = [
        "",
        "## Rows of measurement files",
        "",
        "Ratio of predicted to measured; a median of 1 with a wide spread is no success.",
        "",
        "| file | rows | target | predicted | median ratio | from | to | mean error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for file, group, keep, unit in FILES:
        if (folder / file).is_file():
            lines += _of(folder / file, file, group, keep, unit)
    return "\n".join(lines) + "\n"


def _of(path: Path, file: str, group: str, keep: Keep, unit: str) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="") as source, tempfile.TemporaryDirectory() as scratch:
        rows = [row for row in csv.DictReader(source) if keep(row)]
        some = Path(scratch) / "rows.csv"
        with some.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        found = predict(some)
    groups = np.array(found.table.text(group))
    for target, values in found.values.items():
        truth = found.table.number(target)
        for name in sorted(set(groups)):
            mine = groups == name
            good = mine & np.isfinite(values) & (truth > 0)
            if not good.any():
                continue
            ratio = values[good] / truth[good]
            yield (
                f"| {file} | {name} {unit} | {target} | {int(good.sum())} of {int(mine.sum())} | "
                f"{np.median(ratio):.2f} | {ratio.min():.2f} | {ratio.max():.2f} | "
                f"{np.mean(np.abs(ratio - 1)):.0%} |"
            )


def ring_self_attention() -> str:
    """Largest batch of BERT base at 512 tokens: 64 ring ranks against 12 tensor ranks of 16 GB."""
    ring = _largest(Parallel(sp=64, sequence="ring"))
    tensor = _largest(Parallel(tp=12))
    return (
        "\n## Ring self-attention (arXiv:2105.13120)\n\n"
        "Largest batch of a BERT base training step at 512 tokens that fits P100 cards of 16 GB:"
        f" {ring} on 64 ring ranks, {tensor} on 12 tensor ranks, {ring / tensor:.1f}x (published: 13.7x)."
        " Tensor ranks hold the residual stream and the dropout masks whole, ring ranks 1/64 of everything"
        " but the weights and their states.\n"
    )


def _largest(layout: Parallel) -> int:
    """The largest batch that fits, by doubling and halving."""

    def fits(batch: int) -> bool:
        found = hwsim.estimate(
            "bert-base", "64x-p100-infiniband", phase="train", batch=batch, seq=512, dtype="fp32",
            stack="eager", parallel=layout, overrides={"stack.attention_kernel": "math"},
        )  # fmt: skip
        return bool(found.fits)

    low = 1
    while fits(2 * low):
        low *= 2
    high = 2 * low
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
