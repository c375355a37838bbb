"""From a config and a phase to what is traced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from inspect import signature
from typing import Any

from torch import nn

from graphs.errors import GraphError
from graphs.expressions import parse_condition
from graphs.inputs import Example, Input
from graphs.ir import SizeSymbol
from graphs.losses import CROSS_ENTROPY, SUM
from graphs.sources.hf import patches
from graphs.sources.hf.building import build, config_of, dtype_of, model_class, quiet
from graphs.sources.hf.caching import cache_argument, first_tokens, next_tokens
from graphs.sources.hf.inputs import Facts, calls, expected_experts, facts_of, size_symbols
from graphs.sources.hf.packed import attend_packed, packed_images
from graphs.tracing.accept import default_values
from graphs.tracing.symbolic import Prepare, Subject, first_that_runs, used_symbols

# heads whose first output are scores of classes
_HEADS = ("LMHead", "ForCausalLM", "ForConditionalGeneration", "ForMaskedLM", "Classification")
DEFAULTS = {"batch": 1, "seq": 512, "source": 512, "frames": 16000}
CACHED = {"prefill": 0, "decode": 1024}  # tokens in the cache by default


FEW_FRAMES = 1024  # for encoders with positions


def subject_of(spec: str, text: str, phase: str) -> Subject:
    """The model of a config.json in one phase."""
    config = config_of(spec, text)
    found = model_class(config)
    facts = facts_of(found, config)
    caches = cache_argument(found) is not None
    if phase not in ("forward", "train") and not (phase in CACHED and caches):
        raise GraphError(f"{spec} has no phase {phase!r}; it has {_phases(caches)}")
    defaults = {**DEFAULTS, "image": facts.image[0], "context": CACHED.get(phase, 0)}
    if "input_values" in signature(found.forward).parameters:  # whole frames
        defaults["frames"] = -(-defaults["frames"] // facts.hop) * facts.hop
    around: Callable[[], AbstractContextManager[Any]] = (
        partial(_with_images, facts) if facts.packed else quiet
    )

    def built() -> nn.Module:
        module = build(config_of(spec, text), caching=phase in CACHED)
        return attend_packed(module) if facts.packed else module

    subject = Subject(
        name=spec,
        phase=phase,
        dtype=dtype_of(config),
        build=built,
        example=Example(),
        symbols={},
        around=around,
        loss=CROSS_ENTROPY if any(head in found.__name__ for head in _HEADS) else SUM,
        notes={"class": found.__name__},
    )
    example, sizes = _called(subject, list(calls(found, config)), facts, defaults)
    prepare: Prepare | None = None
    if phase in CACHED:
        prepare = next_tokens if phase == "decode" or not facts.encoder_decoder else first_tokens
    if phase == "decode":
        example = Example(
            kwargs={name: _one_token(name, one) for name, one in (example.kwargs or {}).items()}
        )
    symbols = used_symbols(example, sizes)
    if prepare is next_tokens:
        symbols["context"] = sizes["context"]
    symbols |= expected_experts(facts, symbols)
    return replace(
        subject,
        example=example,
        symbols=symbols,
        guards=tuple(parse_condition(text) for text in _limits(facts, symbols)),
        prepare=prepare,
        notes={**subject.notes, "inputs": list(example.kwargs or {})},
    )


def _called(
    subject: Subject, found: list[dict[str, Input]], facts: Facts, defaults: dict[str, int]
) -> tuple[Example, dict[str, SizeSymbol]]:
    """The first call that runs, and the sizes it may have; where none does, with fewer frames."""
    examples = [Example(kwargs=call) for call in found]
    hearing = [example for example in examples if "frames" in _shapes(example)]
    first: GraphError | None = None
    tries = [(examples, defaults["frames"])] + ([(hearing, FEW_FRAMES)] if hearing else [])
    for tried, frames in tries:
        sizes = size_symbols(facts, {**defaults, "frames": frames})
        at = {name: int(value) for name, value in default_values(sizes, {}).items()}
        try:
            return first_that_runs(subject, tried, at), sizes
        except GraphError as error:
            first = first or error
    raise GraphError(f"{subject.name} cannot be traced: {first}") from first


def _shapes(example: Example) -> set[object]:
    return {size for leaf in example.leaves() if isinstance(leaf, Input) for size in leaf.shape}


@contextmanager
def _with_images(facts: Facts) -> Iterator[None]:
    with quiet(), packed_images(patches.rows(facts)):
        yield


def _phases(caches: bool) -> str:
    return "forward, prefill, decode and train" if caches else "forward and train"


def _one_token(name: str, one: Input) -> Input:
    """Text arrives one token at a time; what an encoder reads stays whole."""
    if "seq" not in one.shape:
        return one
    return replace(one, shape=tuple(1 if size == "seq" else size for size in one.shape))


def _limits(facts: Facts, symbols: Mapping[str, SizeSymbol]) -> list[str]:
    """What the model's positions allow."""
    longest = facts.longest
    if longest is None or "context" not in symbols:
        return []
    return [f"context + {'seq' if 'seq' in symbols else 1} <= {longest}"]
