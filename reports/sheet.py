"""One estimate on one page: operators under the roofline, time by module, energy, memory over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hwsim.errors import HwsimError
from hwsim.result import Estimate
from reports.figure import (
    legend,
    legend_below,
    linear_axis,
    new_figure,
    plain_axes,
    save,
    stacked_bars,
    title,
)
from reports.memory_plot import draw_activations, draw_roles
from reports.module_bars import draw_modules
from reports.numbers import quantity
from reports.palette import ENERGY_PARTS
from reports.roofline import draw_roofline, draw_rooflines
from reports.roofline_panel import turn


def draw_sheet(estimates: Sequence[Estimate], path: str | Path) -> None:
    """Write a sheet for one estimate, or the rooflines of several, to a .png, .svg or .pdf file."""
    if len(estimates) == 1:
        save(sheet_figure(estimates[0]), path)
    else:
        draw_roofline(estimates, path)


def sheet_figure(estimate: Estimate) -> Figure:
    """The figure of a single point, for a notebook or to draw further on."""
    if estimate.shape:
        raise HwsimError(f"a sheet is of one point, not of shape {estimate.shape}; estimate one point")
    figure = new_figure(12.6, 7.0)
    left, right = figure.subfigures(1, 2, width_ratios=(7.2, 5.4), wspace=0.02, squeeze=False)[0]
    slopes = draw_rooflines(left, [estimate])
    rows = right.add_gridspec(6, 1, height_ratios=(3.4, 0.4, 0.3, 0.4, 0.55, 1.6))  # two are for legends
    modules, energy, roles, activations = (right.add_subplot(rows[at]) for at in (0, 1, 3, 5))
    handles = draw_modules(modules, estimate)
    legend(modules, handles, loc="lower right", labelspacing=0.3)
    _draw_energy(energy, estimate)
    draw_roles(roles, estimate)
    draw_activations(activations, estimate)
    turn(figure, slopes)
    return figure


def _draw_energy(ax: Axes, estimate: Estimate) -> None:
    parts = estimate.energy_by_j
    values = {name: [float(parts[name])] for name in ENERGY_PARTS if parts.get(name)}
    handles = stacked_bars(ax, [""], ENERGY_PARTS, values)
    plain_axes(ax, grid="")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", nbins=6)
    linear_axis(ax, "x", lambda value: quantity(value, "J", small=True))
    power = quantity(float(estimate.average_power_w), "W", small=True)
    title(ax, f"Energy: {quantity(float(estimate.energy_j), 'J', small=True)}, {power} on average")
    legend_below(ax, handles, columns=5)
