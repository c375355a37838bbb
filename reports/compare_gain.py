"""The figure of a comparison against one model: how many times better the others are, a panel per device."""

from __future__ import annotations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hwsim.axis import Axis
from hwsim.comparison import Comparison
from reports.compare_scale import GREY, INK, METRICS, scale
from reports.palette import CURVES

_DASHES = ("-", (0, (5, 2)), (0, (2, 1.2)))
_ACROSS = 2
_TICKS = 6  # sizes named below a panel


def gain_figure(comparison: Comparison, axis: Axis) -> Figure:
    """Above 1 a model is better than the one set against; a dot on that line is where it crosses."""
    devices = comparison.devices
    across = min(_ACROSS, len(devices))
    down = -(-len(devices) // across)
    figure = Figure(figsize=(4.4 * across + 0.6, 3.2 * down + 1.0), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    others = [model for model in comparison.models if model != comparison.against]
    looks = {
        model: {"color": CURVES[at % len(CURVES)], "linestyle": _DASHES[at // len(CURVES) % len(_DASHES)]}
        for at, model in enumerate(others)
    }
    drawn = {}
    panels = figure.subplots(down, across, squeeze=False, sharex=True).flat
    for ax, device in zip(panels, devices, strict=False):
        ax.axhline(1, color=GREY, linewidth=1)
        for model, look in looks.items():
            curve = comparison.curve(model, device)
            gain, places = comparison.gain(curve)
            (drawn[curve.name],) = ax.plot(axis.values[places], gain, linewidth=1.7, zorder=3, **look)
            crossed = [one.at for one in comparison.crossovers if curve.label in (one.winner, one.loser)]
            ax.plot(crossed, [1.0] * len(crossed), "o", markersize=4, color=look["color"], zorder=4)
        ax.set_title(device, fontsize=9.5, color=INK)
        upwards = f"{METRICS[comparison.metric.name]}, times better"
        scale(ax, axis, upwards, lambda value: f"{value:g}", ticks=_TICKS)
        ax.tick_params(labelbottom=True)
    for ax in panels:
        ax.set_axis_off()
    figure.suptitle(f"against {comparison.against}; {comparison.title}", fontsize=10, color=INK)
    figure.legend(
        drawn.values(), drawn, loc="outside lower center", ncols=min(4, len(drawn)), frameon=False, fontsize=8
    )
    return figure
