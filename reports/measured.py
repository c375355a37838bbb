"""How good predictions of a measurement file are, as tables of 80 columns; and which layouts are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from hwsim.measurements.judging import Judgement, Rival, Score
from hwsim.measurements.predicting import Predictions
from hwsim.measurements.question import Layout
from reports.numbers import percent
from reports.table import plain_table
from reports.validation import signed_percent

_NAME = 34  # letters of a device, operator or target that a line has room for
_MOST = 24  # lines of one table
_NOTES = 12


def measured_tables(made: Predictions, judged: Judgement) -> RenderableType:
    """The file, scores in all and by device, operator and target, other predictors, notes with counts."""
    parts: list[RenderableType] = [Text(line) for line in _head(made, judged)]
    parts += _scores("device", judged.by_device)
    parts += _scores("operator", judged.by_op)
    if len(judged.by_target) > 1:
        parts += _scores("target", judged.by_target)
    if judged.rivals:
        parts += [Text(), _rivals(judged.rivals)]
    parts += [Text(line) for line in _notes(judged.notes)]
    return Group(*parts)


def layouts_table(layouts: Sequence[Layout]) -> RenderableType:
    """Every known layout and the columns that it is recognised by."""
    parts: list[RenderableType] = []
    for one in sorted(layouts, key=lambda one: one.name):
        parts.append(Text(f"{one.name}: {one.title}"))
        parts += [Text(f"    {', '.join(sorted(needs))}") for needs in one.needs]
    return Group(*parts)


def layouts_record(layouts: Sequence[Layout]) -> dict[str, object]:
    """The document of `hwsim validate --layouts --json`."""
    return {
        "schema": "hwsim.layouts/1",
        "layouts": [
            {
                "name": one.name,
                "title": one.title,
                "needs": [sorted(needs) for needs in one.needs],
                "targets": list(one.targets),
            }
            for one in sorted(layouts, key=lambda one: one.name)
        ],
    }


def _head(made: Predictions, judged: Judgement) -> list[str]:
    score = judged.overall
    tiers = ", ".join(sorted(made.tiers)) or "nothing"
    lines = [
        f"{made.table.path}: {made.layout.title}",
        f"layout {made.layout.name}, {score.rows} rows, {score.predicted} predicted, "
        f"{score.compared} compared",
        f"predicted from: {tiers}",
    ]
    if score.compared:
        lines.append(
            f"MAPE {percent(score.mape)}, median {percent(score.median_ape)}, "
            f"bias {signed_percent(score.bias)}, inside the 80 % interval {percent(score.coverage)}"
        )
    return lines


def _scores(what: str, scores: Sequence[Score]) -> list[RenderableType]:
    """Most rows first; groups without a prediction are in the notes."""
    shown = sorted((one for one in scores if one.compared), key=lambda one: -one.compared)
    if not shown:
        return []
    table = plain_table(what, ">rows", ">predicted", ">MAPE", ">median", ">bias", ">in 80 %", gap=1)
    for one in shown[:_MOST]:
        table.add_row(
            Text(_shortened(one.label)),
            str(one.rows),
            str(one.predicted),
            percent(one.mape),
            percent(one.median_ape),
            signed_percent(one.bias),
            percent(one.coverage),
        )
    more = [Text(f"and {len(shown) - _MOST} more")] if len(shown) > _MOST else []
    return [Text(), table, *more]


def _rivals(rivals: Sequence[Rival]) -> RenderableType:
    """Other predictors as they recorded themselves, and hwsim on the same rows."""
    table = plain_table("recorded by", ">rows", ">MAPE", ">median", ">hwsim's MAPE", ">median", gap=2)
    for one in rivals:
        ours = (percent(one.ours_mape), percent(one.ours_median_ape))
        table.add_row(
            Text(_shortened(one.label)), str(one.rows), percent(one.mape), percent(one.median_ape), *ours
        )
    return table


def _notes(notes: Mapping[str, int]) -> list[str]:
    if not notes:
        return []
    ordered = sorted(notes.items(), key=lambda pair: -pair[1])
    more = len(ordered) - _NOTES
    lines = ["", "notes", *(f"{count:>8} {note}" for note, count in ordered[:_NOTES])]
    return [*lines, f"     and {more} more; all are in --json"] if more > 0 else lines


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
