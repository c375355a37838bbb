"""Two figures of a validation: predicted over measured, and where the time went on both sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from hwsim.errors import HwsimError
from hwsim.validation import KindRow, Validation, ValidationRow
from reports.files import write
from reports.numbers import seconds
from reports.palette import FAMILIES, OTHER, Family, family_of
from reports.validation import signed_percent, workload_text

INK, GREY, PALE = "#222222", "#666666", "#D9D9D9"
MOST_NAMES = 12  # of dots that all have a name
BAND = 0.25  # of the measured value, on both sides
_FORMATS = (".png", ".svg")
_LETTER = 0.011  # of the width of the bars: a part too narrow for its name goes without
_NAME_WIDTH, _NAME_HEIGHT = 90.0, 11.0  # of a name beside a dot, points
_BAR, _STEP, _GAP = 0.8, 1.0, 0.6


def figure_paths(path: str | Path) -> tuple[Path, Path]:
    """Where the parity plot goes, and the kinds beside it as `NAME-kinds`; refused before anything is run."""
    target = Path(path)
    if target.suffix not in _FORMATS:
        raise HwsimError(f"cannot draw '{target}': the name must end in {' or '.join(_FORMATS)}")
    return target, target.with_stem(f"{target.stem}-kinds")


def draw_validation(validation: Validation, path: str | Path) -> None:
    """Write the parity plot and the kinds to `figure_paths(path)`."""
    parity, kinds = figure_paths(path)
    _save(parity, parity_figure, validation)
    _save(kinds, kinds_figure, validation)


def _save(target: Path, make: Callable[[Validation], Figure], validation: Validation) -> None:
    # no date and no random names in the file: the same validation gives the same bytes
    metadata = {"Date": None} if target.suffix == ".svg" else {}
    with rc_context({"svg.hashsalt": "hwsim"}):
        figure = make(validation)
        write(target, lambda beside: figure.savefig(beside, format=target.suffix[1:], metadata=metadata))


def parity_figure(validation: Validation) -> Figure:
    """Every workload as a dot: measured to the right, predicted upwards, on the line where both agree."""
    figure, ax = _figure(6.0, 5.6)
    rows = sorted((row for row in validation.rows if row.measured_s), key=lambda row: row.measured_s or 0.0)
    low, high = _limits(rows or validation.rows)
    ends = (low, high)
    ax.fill_between(
        ends,
        [x * (1 - BAND) for x in ends],
        [x * (1 + BAND) for x in ends],
        color=PALE,
        linewidth=0,
        zorder=0,
    )
    ax.plot(ends, ends, color=GREY, linewidth=1, zorder=1)
    for row in rows:
        _dot(ax, row)
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    ax.set_xlabel("measured, s", fontsize=9, color=INK)
    ax.set_ylabel("predicted, s", fontsize=9, color=INK)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(
            FuncFormatter(lambda value, _: seconds(value).replace(" ", "\N{NO-BREAK SPACE}"))
        )
        axis.set_minor_formatter(NullFormatter())
    crowded = len(rows) > MOST_NAMES
    named = [row for row in rows if abs(row.error or 0.0) > BAND] if crowded else rows
    ax.text(
        0.03, 0.97, "line: equal; band: within 25 %;\nbars: predicted 80 % interval, spread of rounds"
        + (";\nnames: what is outside the band" if crowded else ""),
        transform=ax.transAxes, fontsize=7.5, color=GREY, va="top",
    )  # fmt: skip
    ax.set_title(_title(validation), fontsize=9, color=INK)
    _plain(ax)
    _label(figure, ax, named)
    return figure


def kinds_figure(validation: Validation) -> Figure:
    """Two bars for each workload, the profiled run above the estimate, in parts by operator kind."""
    figure, ax = _figure(7.6, 1.5 + 0.75 * len(validation.rows))
    places, names, used = [], [], set[Family]()
    top = 0.0
    widest = 1.1 * max(max(row.profiled_s, row.predicted_s) for row in validation.rows)
    for row in validation.rows:
        for side, field in (("measured", "measured_s"), ("predicted", "predicted_s")):
            used |= _stack(ax, row, _Place(top=top, field=field, width=widest))
            places.append(top)
            names.append(f"{row.model}, {side}" if side == "measured" else side)
            top -= _STEP
        top -= _GAP
    ax.set_yticks(places, names, fontsize=8)
    ax.set_xlabel("seconds", fontsize=9, color=INK)
    ax.set_xlim(0, widest)
    ax.set_title(f"{_title(validation)}; one profiled run above its estimate", fontsize=9, color=INK)
    handles = [
        Patch(color=one.colour, label="views, between operators, other" if one is OTHER else one.label)
        for one in FAMILIES
        if one in used
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=7.5, frameon=False)
    _plain(ax)
    ax.spines["left"].set_visible(False)
    ax.tick_params(left=False)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    ax: Axes = figure.subplots()
    return figure, ax


def _limits(rows: Sequence[ValidationRow]) -> tuple[float, float]:
    """Both axes alike, around every dot and interval."""
    values = [value for row in rows for value in (row.measured_s, row.low_s, row.high_s) if value]
    return min(values) / 3, max(values) * 2.5


def _dot(ax: Axes, row: ValidationRow) -> None:
    measured, predicted = row.measured_s or 0.0, row.predicted_s
    half = measured * (row.repeatability or 0.0) / 2
    ax.errorbar(
        measured,
        predicted,
        xerr=half or None,
        yerr=[[predicted - row.low_s], [row.high_s - predicted]],
        fmt="o",
        color="#0072B2",
        markersize=6,
        elinewidth=1.1,
        capsize=2.5,
        zorder=3,
    )


def _label(figure: Figure, ax: Axes, rows: Sequence[ValidationRow]) -> None:
    """Names on the side of the dot away from the line, moved on where another name stands already."""
    figure.draw_without_rendering()
    placed: list[tuple[float, float]] = []
    for row in rows:
        x, y = ax.transData.transform((row.measured_s or 0.0, row.predicted_s)) * 72 / figure.dpi
        side = 1 if (row.error or 0.0) >= 0 else -1  # above the line, names go up and left
        away = 6.0
        while any(abs(x - a) < _NAME_WIDTH and abs(y + side * away - b) < _NAME_HEIGHT for a, b in placed):
            away += 2.0
        placed.append((x, y + side * away))
        ax.annotate(
            f"{row.model} {signed_percent(row.error)}",
            (row.measured_s or 0.0, row.predicted_s),
            xytext=(-6 * side, away * side),
            textcoords="offset points",
            fontsize=8,
            color=INK,
            ha="right" if side > 0 else "left",
            va="bottom" if side > 0 else "top",
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6} if away > 6 else None,
            path_effects=[withStroke(linewidth=2, foreground="white", alpha=0.8)],
            zorder=4,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a bar stands, which side it shows, and the seconds the panel is wide."""

    top: float
    field: str
    width: float


def _stack(ax: Axes, row: ValidationRow, place: _Place) -> set[Family]:
    """One bar of parts, families together; the families it shows."""
    order = {family: index for index, family in enumerate(FAMILIES)}
    shown = [one for one in row.kinds if _seconds(one, place.field) > 0]
    left = 0.0
    for one in sorted(shown, key=lambda one: (order[family_of(one.kind)], -_seconds(one, place.field))):
        width = _seconds(one, place.field)
        colour = family_of(one.kind).colour
        ax.barh(place.top, width, _BAR, left=left, color=colour, edgecolor="white", linewidth=0.6)
        text = _part(one, place, width)
        ax.text(left + width / 2, place.top, text, ha="center", va="center", fontsize=7.5, color="white")
        left += width
    ax.text(left, place.top, f" {seconds(left)}", va="center", fontsize=7.5, color=INK)
    return {family_of(one.kind) for one in shown}


def _part(one: KindRow, place: _Place, width: float) -> str:
    """The longest text that has room."""
    error = f" {signed_percent(one.error)}" if place.field == "predicted_s" and one.error is not None else ""
    texts = (f"{one.kind}{error}", one.kind, "")
    return next(text for text in texts if len(text) * _LETTER * place.width <= width)


def _seconds(one: KindRow, field: str) -> float:
    return getattr(one, field) or 0.0


def _title(validation: Validation) -> str:
    host = validation.host
    same = {workload_text(row) for row in validation.rows}
    asked = f": {same.pop()}" if len(same) == 1 else ""
    return f"{host.cpu}, {host.threads} threads, torch {host.torch}, {validation.stack}{asked}"


def _plain(ax: Axes) -> None:
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize=8, colors=INK)
