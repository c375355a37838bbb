"""Rewrites the measured tables of docs/validation.md: `python -m benchmarks.validation_page FOLDER`.

No row that coefficients were fitted on counts. Errors of devices left out are those that `make fit` recorded.
Everything outside the two marks of the page stays as it is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.fitting import mean_error
from hwsim.fitting_gpus import LEFT_OUT, fitted_rows
from hwsim.measurements.judging import pairs
from hwsim.measurements.predicting import Predictions, predict

PAGE = Path(__file__).parent.parent / "docs" / "validation.md"
BEGIN, END = "<!-- measured tables: begin -->", "<!-- measured tables: end -->"
# file, and three times the floor of its host and method: below, a row measures the host
FILES = (
    ("neusight/e2e_fp32.csv", 0.0),
    ("neusight/gemm_fp32.csv.gz", 75.0),
    ("neusight/vector_ops_fp32.csv.gz", 75.0),
    ("neusight/conv2d_fp32.csv", 75.0),
    ("aiconfigurator/gemm.csv.gz", 10.0),
    ("aiconfigurator/context_attention.csv.gz", 10.0),
    ("aiconfigurator/generation_attention.csv.gz", 10.0),
    ("aiconfigurator/encoder_attention.csv.gz", 10.0),
    ("aiconfigurator/moe.csv.gz", 10.0),
    ("vidur/mlp_ops_fp16.csv.gz", 10.0),
    ("llmservingsim/vllm_layers.csv", 10.0),
)
BOOTSTRAPS, SEED = 2000, 1


def page(folder: Path, left_out: Mapping[str, Sequence[float]]) -> str:
    """The tables between the marks."""
    lines = [
        "### Devices left out of the fit",
        "",
        "Coefficients fitted without any row of the device; rows above 8 to 150 us, drawn anew.",
        "",
        "| operator | devices | rows | MAPE | bias | worst device |",
        "|---|---|---|---|---|---|",
        *_left_out(left_out),
        "",
        *_models(folder, left_out),
        "",
        "### Rows that were not fitted, devices known",
        "",
        "All rows of each file but those of the fit, above three times the floor of host and method; the",
        "80 % interval of the last column should hold four rows in five.",
        "",
        "| file | operator | rows | MAPE | median | bias | inside the interval |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, least in FILES:
        lines += unfitted(name, predict(folder / name), fitted_rows(folder, name), least)
    lines += [
        "",
        "### Throughput of vision transformers",
        "",
        "Inference rows of the timm tables whose model's name says its widths (ViT, DeiT, BEiT, Swin); none",
        "was fitted. Rank correlation is Spearman's, of images per second over models.",
        "",
        "| device | precision | layout | rows | MAPE | median | bias | rank correlation |",
        "|---|---|---|---|---|---|---|---|",
        *throughput(predict(folder / "timm" / "timm_benchmark.csv.gz")),
    ]
    return "\n".join(lines)


def _left_out(left_out: Mapping[str, Sequence[float]]) -> Iterator[str]:
    by_op: dict[str, list[tuple[str, NDArray[np.float64]]]] = {}
    for key, errors in left_out.items():
        device, op = key.split("|")
        by_op.setdefault("whole models" if op.endswith(" inf") else op, []).append((device, np.array(errors)))
    for op, parts in sorted(by_op.items()):
        every = np.concatenate([errors for _, errors in parts])
        worst, errors = max(parts, key=lambda part: mean_error(part[1]))
        yield (
            f"| {op} | {len({device for device, _ in parts})} | {every.size} | {mean_error(every):.0%} "
            f"| {np.expm1(np.mean(every)):+.0%} | {worst} {mean_error(errors):.0%} |"
        )


def _models(folder: Path, left_out: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Whole models beside recorded predictions for the same rows; clusters are resampled together."""
    from hwsim.measurements.table import read_table

    recorded = read_table(folder / "neusight" / "published_predictions_e2e.csv")
    made = predict(folder / "neusight" / "e2e_fp32.csv")
    key = ("device", "model", "mode", "seq_len", "batch", "option")
    theirs = {
        tuple(row): value
        for *row, who, value in zip(
            *(recorded.text(name) for name in key), recorded.text("predictor"), recorded.number("rel_err"),
            strict=True,
        )
        if who == "neusight"
    }  # fmt: skip
    ours: dict[tuple[str, str], list[float]] = {
        (k.split("|")[0], k.split("|")[1]): list(v) for k, v in left_out.items() if k.endswith(" inf")
    }
    both: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for index, row in enumerate(zip(*(made.table.text(name) for name in key), strict=True)):
        queue = ours.get((made.devices[index], made.ops[index]))
        if queue:
            error = abs(float(np.expm1(queue.pop(0))))
            if row in theirs:
                both.setdefault((row[0], row[1]), []).append((error, abs(theirs[row])))
    if not both:
        return
    clusters = [np.array(pairs_) for _, pairs_ in sorted(both.items())]
    rng = np.random.default_rng(SEED)
    gaps = []
    for _ in range(BOOTSTRAPS):
        drawn = np.concatenate([clusters[i] for i in rng.integers(0, len(clusters), len(clusters))])
        gaps.append(float(np.mean(drawn[:, 0] - drawn[:, 1])))
    every = np.concatenate(clusters)
    low, high = np.quantile(gaps, (0.05, 0.95))
    ours_mean, theirs_mean = np.mean(every, axis=0)
    yield "Whole models of devices left out beside what the published learned predictor (NeuSight) recorded"
    yield f"for the same {len(every)} rows, most of them on devices it was trained on: hwsim {ours_mean:.1%},"
    yield f"recorded {theirs_mean:.1%}. Of {BOOTSTRAPS} resamplings of the {len(clusters)} (device, model)"
    yield f"pairs, 90 % differ by {100 * low:+.1f} to {100 * high:+.1f} points."


def unfitted(name: str, made: Predictions, fitted: frozenset[int], least_us: float) -> Iterator[str]:
    """Scores by operator of the rows of a file that were not fitted and are long enough."""
    found = pairs(made)
    ops = np.array(made.ops, dtype=np.str_)[found.row]
    keep = (found.measured > least_us) & ~np.isin(found.row, sorted(fitted))
    for op in sorted(set(ops[keep].tolist())):
        at = np.flatnonzero(keep & (ops == op))
        ratio = found.value[at] / found.measured[at]
        inside = (found.low[at] <= found.measured[at]) & (found.measured[at] <= found.high[at])
        yield (
            f"| {name.split('.')[0]} | {op} | {at.size} | {np.mean(np.abs(ratio - 1)):.0%} "
            f"| {np.median(np.abs(ratio - 1)):.0%} | {np.expm1(np.mean(np.log(ratio))):+.0%} "
            f"| {np.mean(inside):.0%} |"
        )


def throughput(made: Predictions) -> Iterator[str]:
    """Scores by device, precision and layout of images per second."""
    from scipy.stats import spearmanr

    found = pairs(made, ["throughput_samples_per_s"])
    layouts = made.table.text("layout")
    kinds = np.array([f"{made.devices[row]} | {made.ops[row]} | {layouts[row]}" for row in found.row])
    for kind in np.unique(kinds):
        at = np.flatnonzero(kinds == kind)
        ratio = found.value[at] / found.measured[at]
        ranks = float(spearmanr(found.value[at], found.measured[at]).statistic)
        yield (
            f"| {kind} | {at.size} | {np.mean(np.abs(ratio - 1)):.0%} | {np.median(np.abs(ratio - 1)):.0%} "
            f"| {np.expm1(np.mean(np.log(ratio))):+.0%} | {ranks:.3f} |"
        )


def rewrite(path: Path, begin: str, end: str, text: str) -> None:
    """Put a text between two marks of a page."""
    before, rest = path.read_text(encoding="utf-8").split(begin)
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}", encoding="utf-8")


def main() -> None:
    """Rewrite the page in place."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/measurements")
    left_out: Any = json.loads(LEFT_OUT.read_text(encoding="utf-8")) if LEFT_OUT.is_file() else {}
    rewrite(PAGE, BEGIN, END, page(folder, left_out))


if __name__ == "__main__":
    main()
