"""Built-in models: a name of `graphs/variants`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphs import catalog
from graphs.sources.source import Source

if TYPE_CHECKING:
    from graphs.tracing.symbolic import Subject


def find(spec: str) -> Source:
    """The variant called `spec`."""
    entry = catalog.find(spec)
    return Source(
        name=entry.name, identity=(entry.source_hash,), subject=lambda phase: subject_of(entry, phase)
    )


def subject_of(entry: catalog.VariantEntry, phase: str) -> Subject:
    """What is traced of a built-in model in a phase."""
    sizes = catalog.size_symbols(entry, phase)
    import torch

    from graphs.tracing.symbolic import Subject, used_symbols

    module = catalog.load(entry)
    example = module.example(entry.config, catalog.call_phase(phase))
    return Subject(
        name=entry.name,
        phase=phase,
        dtype=getattr(torch, entry.config["dtype"]),
        build=lambda: module.build(entry.config),
        example=example,
        symbols=used_symbols(example, sizes),
        guards=catalog.guard_conditions(entry, phase),
        loss=entry.loss,
    )
