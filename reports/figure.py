"""How every figure looks, and how one becomes a file that is the same whenever it is drawn again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import blended_transform_factory

from hwsim.errors import HwsimError
from reports.files import write
from reports.palette import Part

INK, SOFT, PALE, GRID, PAPER = "#222222", "#666666", "#8A8A8A", "#E4E4E4", "#FFFFFF"
Canvas = Figure | SubFigure
FORMATS = (".png", ".svg", ".pdf")
Shown = Callable[[float], str]
# a logarithmic axis of more than so many decades -> where its marks stand within a decade
_STEPS = (
    (4.0, (1.0,)),
    (2.0, (1.0, 3.0)),
    (0.8, (1.0, 2.0, 5.0)),
    (-1.0, (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)),
)


def look() -> AbstractContextManager[None]:
    """Settings while a figure is written: text stays text, names inside the file are not random."""
    return rc_context({"svg.hashsalt": "hwsim", "svg.fonttype": "none", "hatch.linewidth": 0.5})


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this many inches."""
    figure = Figure(figsize=(width, height), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write a .png, .svg or .pdf without date or random names: the same figure gives the same bytes."""
    target = Path(path)
    if target.suffix not in FORMATS:
        raise HwsimError(f"cannot draw '{target}': the name must end in {' or '.join(FORMATS)}")
    nothing: dict[str, Any] = {
        ".svg": {"Date": None},
        ".pdf": {"CreationDate": None, "Producer": None},
    }.get(target.suffix, {})
    with look():
        write(target, lambda beside: figure.savefig(beside, format=target.suffix[1:], metadata=nothing))


def plain_axes(ax: Axes, *, x: str = "", y: str = "", grid: str = "both") -> None:
    """Two thin spines, a faint grid, names of the axes."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(PALE)
    ax.tick_params(labelsize=7.5, color=PALE, labelcolor=INK, length=2.5, which="both")
    ax.tick_params(which="minor", length=1.5)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(which="major", axis=grid, color=GRID, linewidth=0.5)  # type: ignore[arg-type]
    ax.set_xlabel(x, fontsize=8, color=INK)
    ax.set_ylabel(y, fontsize=8, color=INK)


def title(ax: Axes, text: str) -> None:
    ax.set_title(text, fontsize=9, color=INK, loc="left")


def log_axis(ax: Axes, which: str, shown: Shown, values: Sequence[float] | None = None) -> None:
    """A logarithmic axis whose marks read as quantities; at `values` where these are few."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    low, high = ax.get_xlim() if which == "x" else ax.get_ylim()
    axis.set_minor_locator(NullLocator())
    if values is not None and 1 < len(values) <= 10:
        axis.set_ticks(list(values))
    else:
        decades = math.log10(high / low) if 0 < low < high else 1.0
        subs = next(subs for most, subs in _STEPS if decades > most)
        axis.set_major_locator(LogLocator(subs=subs, numticks=15))
    axis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))


def linear_axis(ax: Axes, which: str, shown: Shown) -> None:
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))


def stacked_bars(
    ax: Axes, labels: Sequence[str], parts: Mapping[str, Part], values: Mapping[str, Sequence[float]]
) -> list[Patch]:
    """Horizontal bars, the first on top, each the sum of its parts; handles of the parts that occur."""
    at = list(range(len(labels)))
    left = [0.0] * len(labels)
    handles = []
    for name, part in parts.items():
        widths = list(values.get(name, ()))
        if not any(widths):
            continue
        look: dict[str, Any] = {"color": part.colour, "hatch": part.hatch, "edgecolor": PAPER}
        ax.barh(at, widths, left=left, height=0.68, linewidth=0.4, **look)
        left = [before + width for before, width in zip(left, widths, strict=True)]
        handles.append(Patch(facecolor=part.colour, hatch=part.hatch, edgecolor=PAPER, label=part.label))
    ax.set_yticks(at, labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_xlim(0, 1.02 * max([*left, 1e-30]))
    return handles


def legend(where: Canvas | Axes, handles: Iterable[Any], **more: Any) -> None:
    """A legend without a frame."""
    look: dict[str, Any] = {"fontsize": 7.5, "frameon": False, "handletextpad": 0.5, "labelcolor": INK}
    where.legend(handles=list(handles), **{**look, **more})


def legend_below(ax: Axes, handles: Iterable[Any], *, columns: int) -> None:
    """A legend under a bar, up to the right edge of the figure; the caller leaves room for it."""
    below = blended_transform_factory(ax.get_figure(root=False).transSubfigure, ax.transAxes)  # type: ignore[union-attr]
    look: dict[str, Any] = {"fontsize": 7.5, "frameon": False, "handletextpad": 0.5, "labelcolor": INK}
    place: dict[str, Any] = {"loc": "upper right", "bbox_to_anchor": (1.0, -0.62), "bbox_transform": below}
    made = ax.legend(handles=list(handles), ncols=columns, columnspacing=1.2, **place, **look)
    made.set_in_layout(False)
