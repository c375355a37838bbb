"""Hugging Face models: any architecture transformers builds from a config, without weights.

`hf:PATH` is a config.json or its folder, `hf:ORG/NAME` a model whose config is in the local cache or can be
fetched. `config` finds the file, `building` the class, `inputs` the arguments of a call, `caching` the phases
that continue from cached tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphs.sources.hf.config import config_text
from graphs.sources.source import Source, needs, version

if TYPE_CHECKING:
    from graphs.tracing.symbolic import Subject


def find(spec: str) -> Source:
    """The model whose config `hf:...` names."""
    needs("transformers", spec, "hf")
    text = config_text(spec.removeprefix("hf:"))

    def subject(phase: str) -> Subject:
        from graphs.sources.hf.subject import subject_of

        return subject_of(spec, text, phase)

    return Source(name=spec, identity=("hf", text, version("transformers")), subject=subject)
