"""Phases of served requests: model, tensor_parallel, prompt_tokens, batch_size, output_tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from graphs.parallel import Parallel
from hwsim.measurements.language_models import decode, generation, prefill
from hwsim.measurements.model_names import find_model, no_model
from hwsim.measurements.nodes import no_ranks, node_of, ranks_of
from hwsim.measurements.question import Answerable, Question, Refusal, Target
from hwsim.measurements.steady_serving import SERVING
from hwsim.measurements.table import Table

TITLE = "phases of served requests: model, tensor_parallel, prompt_tokens, batch_size, output_tokens"
NEEDS = frozenset(("device", "model", "tensor_parallel", "prompt_tokens", "batch_size", "output_tokens"))
TARGETS = ("prompt_us", "token_us", "e2e_us")


def questions(table: Table) -> Iterator[Answerable]:
    """Three questions per device and model: prefill, a step at the mean context, the whole request."""
    batch, prompt, output = (table.number(n) for n in ("batch_size", "prompt_tokens", "output_tokens"))
    for (device, model, count), rows in table.groups("device", "model", "tensor_parallel").items():
        ranks, found = ranks_of(count), find_model(model)
        if ranks is None:
            yield Refusal(rows, no_ranks(count), model)
            continue
        if found is None:
            yield Refusal(rows, no_model(model), model)
            continue
        b, p, o = batch[rows], prompt[rows], output[rows]
        asked = {
            "prompt_us": prefill(found, batch=b, seq=p),
            "token_us": decode(found, batch=b, context=p + (o // 2)),
            "e2e_us": generation(found, batch=b, prompt=p, tokens=o),
        }
        common = Question(
            rows=rows, device=node_of(device, ranks), op=model, parts=(), protocol=SERVING, dtype="fp16",
            parallel=Parallel(tp=ranks),
        )  # fmt: skip
        for column, parts in asked.items():
            yield replace(common, parts=parts, targets=(Target(column=column, unit=1e6),))
