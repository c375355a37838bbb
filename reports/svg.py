"""Figures as SVG inside a page: with a name and a description, in colours that follow the theme."""

from __future__ import annotations

import re
from html import escape
from io import StringIO

from matplotlib.figure import Figure

from reports.figure import GRID, INK, PALE, PAPER, SOFT, look
from reports.palette import SERIES

# colour in the figure -> variable of the page's style sheet
THEME = {INK: "ink", SOFT: "soft", PALE: "pale", GRID: "grid", PAPER: "paper"} | {
    series.colour: f"series-{number}" for number, series in enumerate(SERIES, 1)
}
_COLOUR = re.compile("|".join(THEME), re.IGNORECASE)
_VARIABLES = {colour.lower(): f"var(--{name}, {colour})" for colour, name in THEME.items()}
_ID = re.compile(r'(\bid="|href="#|url\(#)')


def inline_svg(figure: Figure, *, name: str, title: str, description: str) -> str:
    """An <svg> element; `name` is unique on the page and keeps the ids of its figures apart."""
    buffer = StringIO()
    figure.patch.set_alpha(0)
    for ax in figure.axes:
        ax.patch.set_alpha(0)
    with look():
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    head, _, body = text.partition(">")
    box = re.search(r'viewBox="([^"]+)"', head)
    assert box is not None  # matplotlib always writes one
    body = _ID.sub(rf"\g<1>{name}-", body)
    body = _COLOUR.sub(lambda found: _VARIABLES[found[0].lower()], body)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box[1]}" role="img" aria-labelledby="{name}-title {name}-description">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-description">{escape(description)}</desc>{body.rstrip()}'
    )
