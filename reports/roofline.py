"""The roofline figure: what each operator reaches, under what the machine can do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from hwsim.errors import HwsimError
from hwsim.result import Estimate
from reports.figure import INK, PAPER, Canvas, new_figure, save
from reports.numbers import percent, seconds
from reports.palette import FAMILIES, family_of
from reports.roofline_panel import Dot, Limits, Placing, Roof, draw_panel, turn, useful_flop, whole
from reports.table import workload

_COLUMNS = 3
_LEAST_SHARE = 0.005


def draw_roofline(estimates: Sequence[Estimate], path: str | Path) -> None:
    """Write one panel per estimate to a .png, .svg or .pdf file; panels share their axes."""
    save(roofline_figure(estimates), path)


def roofline_figure(estimates: Sequence[Estimate]) -> Figure:
    """The figure, for a notebook or to draw further on."""
    if not estimates:
        raise HwsimError("no estimate to draw; give at least one")
    columns = min(len(estimates), _COLUMNS)
    lines = math.ceil(len(estimates) / columns)
    size = (7.4, 5.6) if len(estimates) == 1 else (3.6 * columns + 0.4, 3.0 * lines + 0.8)
    figure = new_figure(*size)
    slopes = draw_rooflines(figure, estimates)
    turn(figure, slopes)
    return figure


def draw_rooflines(canvas: Canvas, estimates: Sequence[Estimate]) -> list[Text]:
    """The panels; the texts that are still to be turned once the panels have their size."""
    roofs = [_roof(e) for e in estimates]
    dots = [_dots(e) for e in estimates]
    columns = min(len(estimates), _COLUMNS)
    lines = math.ceil(len(estimates) / columns)
    single = len(estimates) == 1
    axes: list[Axes] = list(canvas.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat)
    limits = _limits(roofs, dots, estimates)
    drawn = [[_inside(dot, limits) for dot in panel] for panel in dots]
    slopes = []
    for number, (ax, estimate, roof, points) in enumerate(zip(axes, estimates, roofs, drawn, strict=False)):
        slopes += draw_panel(ax, estimate, roof, Placing(dots=points, limits=limits, single=single))
        # a panel above a gap carries the labels that the missing one would have
        lowest = number + columns >= len(estimates)
        ax.tick_params(labelbottom=lowest)
        ax.set_xlabel("FLOP per byte of DRAM traffic" if lowest else "", fontsize=8, color=INK)
        ax.set_ylabel("" if number % columns else "FLOP/s", fontsize=8, color=INK)
    canvas.suptitle(_title(estimates), fontsize=10, color=INK)
    _add_legend(canvas, axes[len(estimates) :], _legend(estimates, drawn))
    return slopes


def _add_legend(canvas: Canvas, spare: Sequence[Axes], handles: Sequence[Line2D]) -> None:
    """In the first empty panel if there is one, else below the panels."""
    look: dict[str, Any] = {"fontsize": 7.5, "frameon": False, "handletextpad": 0.4}
    for ax in spare:
        ax.axis("off")
    if spare:
        spare[0].legend(handles=handles, loc="center left", labelspacing=0.9, **look)
    else:
        canvas.legend(handles=handles, loc="outside lower center", ncols=4, **look)


def _roof(estimate: Estimate) -> Roof:
    machine = estimate.machine
    dram = (
        None if machine is None or machine.memory.dram is None else machine.memory.dram.bandwidth_byte_per_s
    )
    if estimate.shape or dram is None:
        raise HwsimError(f"no roofline for '{estimate.device}': it needs one point and a DRAM bandwidth")
    dtype, peak = machine.peak(estimate.dtype)
    vector = machine.compute.vector_flop_per_s.get("fp32")
    cache = machine.memory.last_level_cache
    onchip = None if cache is None else cache.bandwidth_byte_per_s
    return Roof(
        dtype=dtype,
        peak=float(peak),
        vector=None if vector is None or float(vector) >= 0.95 * float(peak) else float(vector),
        dram=float(dram),
        onchip=None if onchip is None or float(onchip) <= float(dram) else float(onchip),
        onchip_label="" if cache is None else cache.label.partition(",")[0],
    )


def _dots(estimate: Estimate) -> list[Dot]:
    """Operators that have a place on the axes, largest share of the time first."""
    total = sum(row.latency_s for row in estimate.ops)
    return [
        Dot(
            # all operands on chip: beyond the right edge, where the panel draws it
            intensity=useful_flop(row) / row.dram_bytes if row.dram_bytes else math.inf,
            rate=useful_flop(row) / row.latency_s,
            share=row.latency_s / total,
            row=row,
        )
        for row in estimate.ops
        if useful_flop(row) > 0 and row.latency_s > 0
    ]


def _limits(roofs: Sequence[Roof], dots: Sequence[Sequence[Dot]], estimates: Sequence[Estimate]) -> Limits:
    """Around every dot that matters, each ridge point and the highest peak."""
    models = [at for at in map(whole, estimates) if at is not None]
    places = [(dot.intensity, dot.rate) for panel in dots for dot in panel if dot.share >= _LEAST_SHARE]
    places += models
    ridges = [roof.peak / roof.dram for roof in roofs]
    # what needs next to no DRAM traffic would stretch the axis without end
    most = 30 * max([*ridges, *(x for x, _ in models)])
    intensities = [min(x, most) for x, _ in places] + ridges
    highest = max(roof.peak for roof in roofs)
    lowest = max(min([rate for _, rate in places] + [highest]), 1e-9 * highest)
    # room for the slopes on the left and for names below
    left = min(min(intensities) / 3, min(ridges) / 100)
    bottom = min(lowest / 3, min(roof.peak for roof in roofs) / 1000)
    return left, max(intensities) * 5, bottom, highest * 4


def _inside(dot: Dot, limits: Limits) -> Dot:
    """The dot, or the same at the right edge of the panel."""
    edge = limits[1] / 3
    return dot if dot.intensity <= edge else replace(dot, intensity=edge, beyond=True)


def _title(estimates: Sequence[Estimate]) -> str:
    first = estimates[0]
    if len(estimates) == 1:
        return f"{first.model} on {first.device}: {seconds(float(first.latency_s))}\n{workload(first)}"
    names = dict.fromkeys(e.model for e in estimates)
    asked = dict.fromkeys(workload(e) for e in estimates)
    return f"{', '.join(names)}\n{'; '.join(asked)}" if len(asked) == 1 else ", ".join(names)


def _legend(estimates: Sequence[Estimate], dots: Sequence[Sequence[Dot]]) -> list[Line2D]:
    used = {family_of(dot.row.kind) for panel in dots for dot in panel}
    dot_look: dict[str, Any] = {"markersize": 6, "markeredgecolor": PAPER, "markeredgewidth": 0.5}
    handles = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=one.marker,
            color=one.colour,
            label=one.label,
            **dot_look,
        )
        for one in FAMILIES
        if one in used
    ]
    star: dict[str, Any] = {"markeredgecolor": INK, "markerfacecolor": PAPER, "markersize": 9}
    handles.append(Line2D([], [], linestyle="none", marker="*", label="whole model", **star))
    note = "area: share of the time"
    if any(dot.beyond and dot.share >= _LEAST_SHARE for panel in dots for dot in panel):
        note += ";\narrow: hardly any DRAM traffic"
    missing = max(1 - sum(dot.share for dot in panel) for panel in dots)
    if missing >= _LEAST_SHARE:
        most = "" if len(estimates) == 1 else "up to "
        note += f";\nnot drawn, no matrix FLOP: {most}{percent(missing)}"
    return [*handles, Line2D([], [], linestyle="none", label=note)]
