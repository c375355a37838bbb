"""Whole models in fp32, eager: model, mode, seq_len, batch, option, n_gpus; and what predictors recorded
for them.

What the timed region holds: the model with its head, attention written out with the score matrix divided and
masked in passes of their own, TF32 off; the allocator's cache is emptied before every run. Training rows are
forward and backward, timed apart: the loss (cross entropy of the logits) is made in between and not timed,
its backward is, there is no optimizer step, and gradients are never cleared, so every pass adds to them. BERT
is trained with its masked-language head. Names are those of the source's configurations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphs import kernels
from graphs.catalog import find
from graphs.ir import BACKWARD, FORWARD, OpNode
from hwsim.deployment import layout_of
from hwsim.measurements.model_names import no_model
from hwsim.measurements.nodes import no_ranks, node_of, ranks_of
from hwsim.measurements.question import (
    LATENCY,
    SEVERAL_DEVICES,
    Answerable,
    Part,
    Protocol,
    Question,
    Refusal,
    Target,
)
from hwsim.measurements.table import Rows, Table
from hwsim.tracing import trace

TITLE = "whole models in fp32, eager: model, mode, seq_len, batch, option, n_gpus"
_COLUMNS = frozenset(("model", "mode", "seq_len", "batch", "option", "n_gpus"))
NEEDS = (_COLUMNS, _COLUMNS | {"predictor", "pred_latency_us"})
TARGETS = ("latency_us", "fw_latency_us", "bw_latency_us")
MODELS = {
    "bert": "bert-base", "bert_large": "bert-large", "gpt2": "gpt2", "gpt2_med": "gpt2-medium",
    "gpt2_large": "gpt2-large", "gpt2_xl": "gpt2-xl", "gpt3_xl": "gpt3-xl-3072", "gpt3_27": "gpt3-2.7b",
    "gpt3_67": "gpt3-6.7b", "gpt3_13": "gpt3-13b", "opt_13": "opt-1.3b", "switchxl4": "switch-xl-4",
}  # fmt: skip
# family -> passes over the score matrix that the written-out attention adds: (operator, whole matrices in)
PASSES = {"bert": (("div", 1), ("add", 1)), "gpt": (("div", 1),), "opt": (("maximum", 1),)}
# what their derivatives add; an added mask has none
BACKWARD_PASSES = {"bert": (("div", 1),), "gpt": (("div", 1), ("where", 1)), "opt": (("where", 1),)}
TRAINED = {"bert": "bert-base-mlm", "bert_large": "bert-large-mlm"}
LOSS = ("aten._log_softmax", "aten.nll_loss_forward")
STEP = {"train.optimizer": "none", "train.gradients": "fp32"}
MODES = ("inf", "train")
SPREAD = re.compile(r"(dp|tp|pp)(\d+)(?:_1)?")  # axis and ranks, of a pipeline also its micro-batches: one
CAPACITY = 64.0  # tokens of one sequence that an expert takes in the source's Switch model
EAGER = Protocol(
    timing="event", statistic="mean of the five fastest of 25", warm=False, stack="eager",
    allocator="emptied", source="torch events round the whole forward, cache emptied before each run",
)  # fmt: skip
COMPILED = replace(EAGER, stack="compiled")


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, model, mode and option."""
    batch, seq = table.number("batch"), table.number("seq_len")
    for key, rows in table.groups("device", "model", "mode", "option", "n_gpus").items():
        device, model, mode, option, count = key
        ranks = ranks_of(count or "1")
        if ranks is None:
            yield Refusal(rows, no_ranks(count), f"{model} {mode}")
        elif ranks > 1:
            yield _spread(device, model, mode, option, rows, ranks, batch[rows], seq[rows])
        else:
            yield from _asked(device, model, mode, option, rows, batch[rows], seq[rows])


def _spread(
    device: str,
    model: str,
    mode: str,
    option: str,
    rows: Rows,
    ranks: int,
    batch: NDArray[np.float64],
    seq: NDArray[np.float64],
) -> Answerable:
    """A step of several devices; `batch` is that of all of them, and the pipeline has one micro-batch."""
    label, way = f"{model} {mode}", SPREAD.fullmatch(option)
    if model not in MODELS:
        return Refusal(rows, no_model(model), label)
    if mode not in MODES:
        return Refusal(rows, _unknown_mode(mode), label)
    if way is None or ranks_of(way[2]) != ranks:
        return Refusal(rows, f"{SEVERAL_DEVICES}: {option}", label)
    axis = way[1]
    each = np.where(batch % ranks == 0, batch / ranks, np.nan) if axis == "dp" else batch
    settings: dict[str, Any] = {"stack.attention_kernel": "math"}
    if mode == "train":
        settings["train.optimizer"] = "none"
    part = Part(
        graph=MODELS[model],
        phase="train" if mode == "train" else "forward",
        sizes={"batch": each, "seq": seq},
    )
    return Question(
        rows=rows, device=node_of(device, ranks), op=label, parts=(part,), protocol=EAGER, dtype="fp32",
        settings=settings, parallel=layout_of({axis: ranks}),
    )  # fmt: skip


def _asked(
    device: str,
    model: str,
    mode: str,
    option: str,
    rows: Rows,
    batch: NDArray[np.float64],
    seq: NDArray[np.float64],
) -> Iterator[Answerable]:
    label = f"{model} {mode}"
    if model not in MODELS:
        yield Refusal(rows, no_model(model), label)
    elif mode not in MODES:
        yield Refusal(rows, _unknown_mode(mode), label)
    elif option not in ("eager", "torch.compile", ""):
        yield Refusal(rows, f"option {option!r} is not known to this layout", label)
    else:
        eager = option != "torch.compile"
        common = Question(
            rows=rows, device=device, op=label, parts=(), protocol=EAGER if eager else COMPILED,
            dtype="fp32", settings={"stack.attention_kernel": "math"},
        )  # fmt: skip
        sizes = {"batch": batch, "seq": seq} | (_switch(batch, seq) if model.startswith("switch") else {})
        if mode == "inf":
            parts = [Part(graph=MODELS[model], sizes=sizes)]
            if eager:
                parts += _passes(PASSES, model, batch, seq)
            targets = (LATENCY, Target(column="fw_latency_us", unit=1e6))
            yield replace(common, parts=tuple(parts), targets=targets)
        else:
            yield from _training(common, model, sizes, eager)


def _training(common: Question, model: str, sizes: Mapping[str, Any], eager: bool) -> Iterator[Answerable]:
    """The whole, the forward and the backward pass of a training step."""
    graph = trace(TRAINED.get(model, MODELS[model]), phase="train")
    halves = []
    for phase, passes in ((FORWARD, PASSES), (BACKWARD, BACKWARD_PASSES)):
        nodes = tuple(n for n in graph.nodes if n.phase == phase and not _is_loss(n))
        half = Part(graph=graph.with_nodes(nodes), sizes=sizes, phase="train", settings=STEP)
        more = _passes(passes, model, sizes["batch"], sizes["seq"]) if eager else ()
        halves.append((half, *more))
    yield replace(common, parts=(*halves[0], *halves[1]), targets=(LATENCY,))
    for parts, column in zip(halves, ("fw_latency_us", "bw_latency_us"), strict=True):
        yield replace(common, parts=parts, targets=(Target(column=column, unit=1e6),))


def _unknown_mode(mode: str) -> str:
    return f"mode {mode!r} is not known to this layout"


def _is_loss(node: OpNode) -> bool:
    return node.phase == FORWARD and node.module == 0 and node.operator.name in LOSS


def _switch(batch: NDArray[np.float64], seq: NDArray[np.float64]) -> dict[str, Any]:
    """All token ids are equal, so every token of a sequence goes to the same expert, up to its capacity."""
    one, tokens = np.ones_like(batch), batch * np.minimum(seq, CAPACITY)
    return {
        "source": seq,
        "source_active_experts": one,
        "source_expert_tokens": tokens,
        "active_experts": one,
        "expert_tokens": tokens,
    }


def _passes(
    passes: Mapping[str, Sequence[tuple[str, int]]],
    model: str,
    batch: NDArray[np.float64],
    seq: NDArray[np.float64],
) -> Iterator[Part]:
    config = find(MODELS[model]).config
    family = next((name for name in passes if model.startswith(name)), "")
    for op, operands in passes.get(family, ()):
        sizes = {"rows": batch * float(config["heads"]) * seq, "cols": seq}
        graph = kernels.elementwise(op, "fp32", operands)
        yield Part(graph=graph, sizes=sizes, repeats=float(config["layers"]))


def recorded(table: Table) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Other predictors' values, where the file holds them."""
    if not table.has("predictor", "pred_latency_us"):
        return
    names, values = np.array(table.text("predictor"), dtype=np.str_), table.number("pred_latency_us")
    for name in np.unique(names):
        yield str(name), "latency_us", np.where(names == name, values, np.nan)
