"""A report of a sweep as a file, in the format that its name asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from devices.errors import near
from hwsim.errors import HwsimError
from hwsim.studies.reading import read_study
from hwsim.studies.study import Study


def write_report(source: str | Path, out: str | Path, form: str | None = None) -> Path:
    """Report on a sweep's directory, a Parquet file or estimates in JSON; the path that was written.

    The format (html, md, pdf or png) is that of the file's name, or `form`, whose suffix the name then gets.
    """
    target = Path(out)
    wanted = form or target.suffix.removeprefix(".") or "html"
    if wanted not in _WRITERS:
        raise HwsimError(f"no format '{wanted}'; formats are {', '.join(_WRITERS)}{near(wanted, _WRITERS)}")
    if form and target.suffix != f".{form}":
        target = target.with_suffix(f".{form}")
    _WRITERS[wanted](read_study(source), target)
    return target


def _html(study: Study, path: Path) -> None:
    from reports.files import write_text
    from reports.html import html_page

    write_text(path, html_page(study))


def _markdown(study: Study, path: Path) -> None:
    from reports.markdown import write_markdown

    write_markdown(study, path)


def _pdf(study: Study, path: Path) -> None:
    from reports.pages import write_pdf

    write_pdf(study, path)


def _png(study: Study, path: Path) -> None:
    from reports.pages import write_png

    write_png(study, path)


_WRITERS: dict[str, Callable[[Study, Path], None]] = {
    "html": _html,
    "md": _markdown,
    "pdf": _pdf,
    "png": _png,
}
