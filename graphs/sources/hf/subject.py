"""From a config and a phase to what is traced."""

from __future__ import annotations

from dataclasses import replace

from graphs.errors import GraphError
from graphs.inputs import Example
from graphs.losses import CROSS_ENTROPY, SUM
from graphs.sources.hf.building import build, config_of, dtype_of, model_class, quiet
from graphs.sources.hf.inputs import MEANINGS, Facts, calls, size_symbols
from graphs.tracing.accept import default_values
from graphs.tracing.symbolic import Subject, first_that_runs, used_symbols

# heads whose first output are scores of classes
_HEADS = ("LMHead", "ForCausalLM", "ForConditionalGeneration", "ForMaskedLM", "Classification")
DEFAULTS = {"batch": 1, "seq": 512, "source": 512, "frames": 16000}


def subject_of(spec: str, text: str, phase: str) -> Subject:
    """The model of a config.json in one phase."""
    config = config_of(spec, text)
    if phase not in ("forward", "train"):
        raise GraphError(f"{spec} has no phase {phase!r}; it has forward and train")
    found = model_class(config)
    facts = Facts(config=config, encoder_decoder=bool(config.is_encoder_decoder))
    defaults = {**DEFAULTS, "image": facts.image[0]}
    subject = Subject(
        name=spec,
        phase=phase,
        dtype=dtype_of(config),
        build=lambda: build(config_of(spec, text)),
        example=Example(),
        symbols=size_symbols(set(MEANINGS) - {"context", "active_experts"}, facts, defaults),
        around=quiet,
        loss=CROSS_ENTROPY if any(head in found.__name__ for head in _HEADS) else SUM,
        notes={"class": found.__name__},
    )
    examples = [Example(kwargs=call) for call in calls(found, config)]
    sizes = default_values(subject.symbols, {})
    example = first_that_runs(subject, examples, {name: int(value) for name, value in sizes.items()})
    return replace(
        subject,
        example=example,
        symbols=used_symbols(example, subject.symbols),
        notes={**subject.notes, "inputs": list(example.kwargs or {})},
    )
