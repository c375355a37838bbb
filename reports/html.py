"""A study as one self-contained page: words, figures, and a table to sort and filter; nothing is fetched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwsim.errors import HwsimError
from hwsim.studies.study import Study
from hwsim.version import VERSION
from reports.drawing import Drawing
from reports.points import points
from reports.study_figures import drawings
from reports.summary import keys, sentences, title_of
from reports.svg import inline_svg

_TEMPLATES = Path(__file__).with_name("templates")
_REM_PER_INCH = 6.6  # figures are drawn a little larger on the screen than on paper


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """A drawing as the template needs it."""

    name: str
    title: str
    caption: str
    description: str
    width: str
    svg: Any


def html_page(study: Study) -> str:
    """The page; the same study gives the same text."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError:
        raise HwsimError("an HTML report needs jinja2; install hwsim[report] or use --format md") from None
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    figures = [
        _Shown(
            name=one.name,
            title=one.title,
            caption=one.caption,
            description=one.description,
            width=f"{one.width * _REM_PER_INCH:.1f}",
            svg=Markup(_svg(one)),  # a figure of ours, whose texts are escaped
        )
        for one in drawings(study)
    ]
    return environment.get_template("report.html.j2").render(
        title=title_of(study),
        version=VERSION,
        keys=keys(study),
        sentences=sentences(study),
        figures=figures,
        table=points(study),
        footer=_footer(study),
        css=Markup(_asset("report.css")),  # our own file
        js=Markup(_asset("report.js")),  # our own file
    )


def _svg(one: Drawing) -> str:
    return inline_svg(one.figure(), name=f"figure-{one.name}", title=one.title, description=one.description)


def _asset(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8").strip()


def _footer(study: Study) -> str:
    priced = f", priced by {study.version}" if study.version not in ("", VERSION) else ""
    return (
        f"Made by hwsim {VERSION} from {study.name}{priced}. All numbers are predictions, not measurements."
    )
