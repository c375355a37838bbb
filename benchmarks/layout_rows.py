"""Parts of the page of many devices: sharded rows of measurement files, memory of ring self-attention."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

import hwsim
from graphs.parallel import Parallel
from hwsim.capacity import largest
from hwsim.measurements.predicting import predict

WHY = """
- fp32 set (GPT-2 large on four A100 40 GB): gradients of data ranks hide behind the backward pass; a pipeline
  of one micro-batch waits for three of four stages.
- GPT-3 layer at four tensor ranks: sums over ranks agree; products, norms and softmax are those of one rank.
- Llama 2 70B: what is missing grows with the ranks although each has less to do: a time per step that does
  not shrink, of the serving engine's host (scheduler, sampling, sending inputs to workers) and of collectives
  outside a captured graph. The `engine` stack has none of that. Prompts beyond 4096 positions are refused.
- Llama 2 70B at two ranks, five rows of 64 prompts of 512 tokens, 13 times too slow: there the measured
  prompt takes no longer than 5 000 tokens do elsewhere, while its requests take 20 times as long as a token
  says, so the engine seems to have queued what did not fit.
- Tokens at batch 1 on several devices: gpt-fast's Llama 2 70B is met within 8 %, MLC's at 0.6 to 0.95;
  llama.cpp (0.12 to 0.51) runs one device after the other where we split every layer, vLLM and ExLlama (0.18
  to 0.69) wait for their host. gpt-fast's Mixtral is 1.3 to 2 times too slow here.
- Serving energy: far too slow are video-chat (4 to 17 times in the worst rows), whose prompts are assumed to
  have 6000 tokens and seem to have fewer, or to be kept from before, and Maverick (about 2 times), for which
  a generic mixture stands in. Rows that deal a generic mixture by experts are refused.
"""
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
    return "\n".join(lines) + "\n" + WHY


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


MOST = {"batch": 8192, "seq": 4096}  # the model has so many positions
RING, TENSOR = Parallel(sp=64, sequence="ring"), Parallel(tp=12)


def ring_self_attention() -> str:
    """Largest batch at 512 tokens and largest length at 64 sequences that fit, on P100 of 16 GB."""
    lines = [
        "", "## Ring self-attention", "",
        "Training steps of BERT base with its heads of pre-training, fp32, on 16 GB P100 (arXiv:2105.13120):",
        "64 ring ranks against 12 tensor ranks, as many as it has heads.", "",
        "| | ring, 64 devices | tensor, 12 devices | ratio | published |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    for what, fixed, step, published in (("batch", {"seq": 512}, 1, 13.7), ("seq", {"batch": 64}, 64, 3.0)):
        ring, tensor = (_largest(layout, what, fixed, step) for layout in (RING, TENSOR))
        fixed_text = ", ".join(f"{name} {value}" for name, value in fixed.items())
        lines.append(
            f"| largest {what} at {fixed_text} | {ring} | {tensor} | {ring / tensor:.1f} | {published} |"
        )
    lines += [
        "",
        "Tensor ranks hold the residual stream, the norms and the dropout masks of all tokens; ring ranks",
        "hold a 64th of everything but weights and their states. Scores grow with the square of the length",
        "on both sides, so the length gains less than the batch.",
    ]
    return "\n".join(lines) + "\n"


def _largest(layout: Parallel, what: str, fixed: Mapping[str, int], step: int) -> int:
    ask = partial(
        hwsim.estimate, "ring-bert-base", "64x-p100-infiniband", phase="train", dtype="fp32", stack="eager",
        parallel=layout, overrides={"stack.attention_kernel": "math"}, **fixed,
    )  # fmt: skip
    return largest(what, ask, most=MOST[what], step=step)


LAWS = """
## Laws that tests hold

One rank of every axis is one device; FLOP of all ranks are those of the whole (padded vocabularies aside); n
devices are never more than n times as fast (2 % for what then fits on chip); parts of the time add up; a ring
all-reduce takes its closed form; the bubble of equal stages is (p - 1) / (v m + p - 1); every off-loaded byte
crosses the link once a pass, a faster link or drive is never slower; every change that is said to make a
set-up fit does so when it is made.
"""
