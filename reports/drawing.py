"""One figure of a report: how it is drawn, and what it says in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from hwsim.studies.effects import Effect
from hwsim.studies.study import Axis, Study
from reports.figure import Canvas, new_figure
from reports.units import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A figure with a caption for all, and a description for those who cannot see it; sizes in inches."""

    name: str
    title: str
    caption: str
    description: str
    width: float
    height: float
    draw: Callable[[Canvas], None]

    def figure(self) -> Figure:
        made = new_figure(self.width, self.height)
        self.draw(made)
        return made


def sentence(text: str) -> str:
    """With a capital letter."""
    return text[:1].upper() + text[1:]


def where(held: Mapping[str, Any]) -> str:
    """`, at batch 16, context 2048`; nothing where nothing is held."""
    said = [setting(name, value) for name, value in held.items()]
    return f", at {', '.join(said)}" if said else ""


def leading_axes(study: Study, moved: Sequence[Effect], most: int) -> list[Axis]:
    """The numeric axes that move an objective most."""
    order = [effect.axis for effect in moved]
    known = [axis for axis in study.numbers if axis.name in order]
    return sorted(known, key=lambda axis: order.index(axis.name))[:most] or list(study.numbers[:most])
