"""timm models by name: `timm:vit_base_patch16_224`, at the image side of their published configuration."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from graphs.errors import GraphError
from graphs.expressions import number
from graphs.inputs import Example, Input, Size
from graphs.ir import SizeSymbol
from graphs.losses import CROSS_ENTROPY
from graphs.sources.source import Source, needs, version, without_warnings

if TYPE_CHECKING:
    from graphs.tracing.symbolic import Subject


def find(spec: str) -> Source:
    """The model timm registers under the name."""
    needs("timm", spec, "timm")
    return Source(name=spec, identity=("timm", version("timm")), subject=lambda phase: _subject(spec, phase))


def _subject(spec: str, phase: str) -> Subject:
    if phase not in ("forward", "train"):
        raise GraphError(f"{spec} has no phase {phase!r}; it has forward and train")
    import torch

    from graphs.tracing.symbolic import Subject

    with without_warnings():
        import timm

        name = spec.removeprefix("timm:")
        if not timm.is_model(name):
            near = difflib.get_close_matches(name, timm.list_models(), n=3)
            raise GraphError(f"timm has no model {name!r}; did you mean {', '.join(near) or 'another'}?")
        channels, height, width = timm.get_pretrained_cfg(name).input_size
    sides: tuple[Size, Size] = ("image", "image") if height == width else (height, width)
    symbols = {"batch": SizeSymbol(name="batch", default=number(1), minimum=number(1), meaning="images")}
    if height == width:
        symbols["image"] = SizeSymbol(
            name="image", default=number(height), minimum=number(1), meaning="pixels per side"
        )
    return Subject(
        name=spec,
        phase=phase,
        dtype=torch.float32,
        build=lambda: timm.create_model(name),
        example=Example((Input(("batch", channels, *sides), "model"),)),
        symbols=symbols,
        around=without_warnings,
        loss=CROSS_ENTROPY,
    )
