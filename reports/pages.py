"""A study on paper: a page of words and best points, then a page per figure; or all figures on one sheet."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from hwsim.errors import HwsimError
from hwsim.studies.study import Study
from reports.drawing import Drawing
from reports.figure import INK, SOFT, look, new_figure, save
from reports.files import write
from reports.points import points
from reports.study_figures import drawings
from reports.summary import sentences, title_of

_PAGE = (8.27, 11.69)  # A4, inches
_LINE = 0.0165  # of the page's height
_ROWS, _COLUMNS = 22, 8


def write_pdf(study: Study, path: Path) -> None:
    """A page of words, then the figures, each with its caption."""
    figures = [_first_page(study), *(_figure_page(one) for one in drawings(study))]

    def fill(beside: Path) -> None:
        with look(), PdfPages(beside, metadata={"CreationDate": None, "Title": title_of(study)}) as pages:
            for figure in figures:
                pages.savefig(figure)

    write(path, fill)


def write_png(study: Study, path: Path) -> None:
    """All figures below each other."""
    found = drawings(study)
    if not found:
        raise HwsimError(f"'{study.name}' has nothing to draw; write a report as .html or .md instead")
    save(_sheet(found), path)


def _sheet(found: Sequence[Drawing]) -> Figure:
    heights = [one.height + 0.35 for one in found]
    figure = new_figure(max(one.width for one in found), sum(heights))
    parts = figure.subfigures(len(found), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, one in zip(parts, found, strict=True):
        one.draw(part)
        part.suptitle(one.title, fontsize=11, color=INK, x=0.01, ha="left", weight="bold")
    return figure


def _figure_page(one: Drawing) -> Figure:
    """The figure with its name above and its caption below."""
    width = max(one.width, 6.0)
    caption = textwrap.fill(one.caption, int(13 * width))
    lines = caption.count("\n") + 1
    height = one.height + 0.5 + 0.17 * lines + 0.2
    figure = new_figure(width, height)
    drawn, below = figure.subfigures(
        2, 1, height_ratios=(one.height + 0.5, 0.17 * lines + 0.2), squeeze=False
    )[:, 0]
    one.draw(drawn)
    drawn.suptitle(one.title, fontsize=12, color=INK, x=0.02, ha="left", weight="bold")
    below.text(0.02, 0.95, caption, fontsize=8, color=SOFT, va="top")
    return figure


def _first_page(study: Study) -> Figure:
    figure = new_figure(*_PAGE)
    figure.text(0.07, 0.95, title_of(study), fontsize=18, color=INK, weight="bold", va="top")
    top = 0.905
    for sentence in sentences(study):
        lines = textwrap.wrap(sentence, 96)
        figure.text(0.07, top, "•", fontsize=9.5, color=INK, va="top")
        figure.text(0.09, top, "\n".join(lines), fontsize=9.5, color=INK, va="top", linespacing=1.3)
        top -= _LINE * len(lines) + 0.006
    _best_table(figure, study, top - 0.02)
    return figure


def _best_table(figure: Figure, study: Study, top: float) -> None:
    """The points no other beats, as far as the page reaches."""
    found = points(study)
    columns = [
        at
        for at, column in enumerate(found.columns)
        if column.name not in ("latency_low_s", "latency_high_s")
    ]
    columns = columns[:_COLUMNS]
    rows = [row for row in found.rows if row.front] or list(found.rows)
    fitting = rows[: min(_ROWS, int((top - 0.08) / _LINE) - 2)]
    if not fitting:
        return
    figure.text(
        0.07,
        top,
        "Points no other beats in every objective",
        fontsize=9.5,
        color=INK,
        weight="bold",
        va="top",
    )
    places = [0.07 + (0.86 / len(columns)) * (at + 1) - 0.01 for at in range(len(columns))]
    right: dict[str, Any] = {"ha": "right", "va": "top", "fontsize": 6.8}
    for place, at in zip(places, columns, strict=True):
        label = textwrap.fill(found.columns[at].label, 12)
        figure.text(place, top - 1.6 * _LINE, label, color=SOFT, linespacing=1.1, **right)
        for line, row in enumerate(fitting):
            figure.text(place, top - (3.6 + line) * _LINE, row.cells[at].text, color=INK, **right)
