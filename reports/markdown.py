"""A study as Markdown: words, the best designs as a table, and figures in files beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hwsim.studies.study import Study
from reports.figure import save
from reports.files import make_folder, write_text
from reports.points import Points, points
from reports.study_figures import drawings
from reports.summary import sentences, title_of

_ROWS = 30


def write_markdown(study: Study, path: Path) -> None:
    """The text at `path`, its figures as SVG in a folder of the same name."""
    folder = path.with_name(f"{path.stem}-figures")
    make_folder(folder)
    lines = [f"# {title_of(study)}", "", *(f"- {one}" for one in sentences(study)), ""]
    for one in drawings(study):
        save(one.figure(), folder / f"{one.name}.svg")
        lines += [f"## {one.title}", "", f"![{_plain(one.description)}]({folder.name}/{one.name}.svg)", ""]
        lines += [one.caption, ""]
    lines += ["## Best points", "", *_table(points(study))]
    write_text(path, "\n".join(lines) + "\n")


def _table(found: Points) -> Iterator[str]:
    """The points no other beats; the first ones where there are no such."""
    rows = [row for row in found.rows if row.front] or list(found.rows)
    yield f"| {' | '.join(_plain(column.label) for column in found.columns)} |"
    yield f"|{'|'.join('---:' if column.number else '---' for column in found.columns)}|"
    for row in rows[:_ROWS]:
        yield f"| {' | '.join(_plain(cell.text) for cell in row.cells)} |"


def _plain(text: str) -> str:
    """Without what Markdown would take for a sign of its own."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("[", "\\[").replace("]", "\\]")
