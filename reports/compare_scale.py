"""The two scales of a comparison's figures: sizes along, a quantity or a gain up, both logarithmic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from hwsim.axis import Axis

INK, GREY, PALE = "#202020", "#6b6b6b", "#c9c9c9"
METRICS = {
    "latency": "latency",
    "energy": "energy",
    "memory": "peak memory",
    "tokens": "tokens per second",
    "ttft": "time to the first token",
    "tpot": "time per further token",
}
_TICKS = 9


def scale(ax: Axes, axis: Axis, upwards: str, written: Callable[[float], str], ticks: int = _TICKS) -> None:
    """Scales, ticks and names of both axes; `written` spells a value of the one that goes up."""
    values = axis.values
    # zero has no place on a logarithmic axis; next to one it reads as the beginning
    ax.set_xscale("symlog", linthresh=1) if values[0] <= 0 else ax.set_xscale("log")
    ax.set_yscale("log")
    if axis.whole:
        ax.xaxis.set_major_locator(FixedLocator(_spread(values, ticks)))
    else:
        ax.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=ticks))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: axis.written(value)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    low, high = ax.get_ylim()
    decades = np.log10(high / low)
    subs = (1, 2, 5) if decades < 3 else (1,)
    ax.yaxis.set_major_locator(LogLocator(base=10, subs=subs, numticks=20))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value)))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(axis.name, fontsize=8.5, color=INK)
    ax.set_ylabel(upwards, fontsize=8.5, color=INK)
    ax.tick_params(labelsize=8, color=PALE, labelcolor=INK)
    ax.tick_params(which="minor", length=0)
    ax.grid(True, color="#ececec", linewidth=0.7, zorder=0)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(PALE)


def _spread(values: Any, ticks: int) -> list[float]:
    """At most so many of the values, the last among them, that their names have room."""
    step = -(-len(values) // ticks)
    return [float(value) for value in values[::-1][::step][::-1]]
