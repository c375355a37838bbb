"""What is held in memory: all roles against the capacity, and the activations as time goes by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from hwsim.result import Estimate, TimelineEvent
from reports.figure import INK, PALE, legend_below, linear_axis, plain_axes, stacked_bars, title
from reports.module_bars import short
from reports.numbers import byte_count, seconds
from reports.palette import MEMORY_PARTS

_ACTIVATIONS, _GRADIENTS = MEMORY_PARTS["activations"], MEMORY_PARTS["gradients"]


def draw_roles(ax: Axes, estimate: Estimate) -> None:
    """One bar of everything that is held at the peak, and a line at the capacity. For a single point."""
    memory = estimate.memory_bytes
    values = {name: [float(memory[name])] for name in MEMORY_PARTS if memory.get(name)}
    handles = stacked_bars(ax, [""], MEMORY_PARTS, values)
    total, capacity = float(memory["total"]), float(memory["capacity"])
    plain_axes(ax, grid="")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", nbins=6)
    linear_axis(ax, "x", byte_count)
    verdict = "fits" if estimate.fits else "DOES NOT FIT"
    title(ax, f"Memory at the peak: {byte_count(total)} of {byte_count(capacity)}, {verdict}")
    ax.set_xlim(0, 1.04 * max(total, min(capacity, 4 * total)))
    if capacity <= ax.get_xlim()[1]:
        ax.axvline(capacity, color=INK, linewidth=1.2)
        look: dict[str, Any] = {"fontsize": 7, "ha": "right", "va": "center", "color": INK}
        ax.annotate("capacity", (capacity, 0), xytext=(-3, 0), textcoords="offset points", **look)
    named = [Patch(**_look(handle), label=_with_amount(handle, values)) for handle in handles]
    legend_below(ax, named, columns=2)


def _look(handle: Patch) -> dict[str, Any]:
    look = {"facecolor": handle.get_facecolor(), "edgecolor": handle.get_edgecolor()}
    return {**look, "hatch": handle.get_hatch()}


def _with_amount(handle: Patch, values: dict[str, list[float]]) -> str:
    label = str(handle.get_label())
    name = next(name for name, part in MEMORY_PARTS.items() if part.label == label)
    return f"{label} {byte_count(values[name][0])}"


def draw_activations(ax: Axes, estimate: Estimate) -> None:
    """Bytes of activations held at each moment, in training on top of the gradients; the peak named by its
    module.
    """
    events = estimate.timeline
    times = [*(event.start_s for event in events), events[-1].start_s + events[-1].duration_s]
    held = [event.live_bytes for event in events]
    gradients = [event.gradient_bytes for event in events]
    ax.stairs(held, times, baseline=gradients, fill=True, color=_ACTIVATIONS.colour, alpha=0.35, linewidth=0)
    ax.stairs(held, times, color=_ACTIVATIONS.colour, linewidth=0.9, baseline=None)
    if any(gradients):
        ax.stairs(gradients, times, fill=True, color=_GRADIENTS.colour, alpha=0.35, linewidth=0)
    plain_axes(ax)
    ax.set_xlim(0, times[-1])
    ax.set_ylim(0, 1.35 * max(held) or 1.0)
    linear_axis(ax, "x", seconds)
    linear_axis(ax, "y", byte_count)
    ax.locator_params(axis="y", nbins=4)
    ax.locator_params(axis="x", nbins=6)
    title(ax, "Activations and gradients over time" if any(gradients) else "Activations over time")
    _name_peak(ax, events, held)


def _name_peak(ax: Axes, events: Sequence[TimelineEvent], held: Sequence[float]) -> None:
    most = max(held)
    first = held.index(most)
    event = events[first]
    at = event.start_s + event.duration_s / 2
    left = at < 0.5 * (events[-1].start_s + events[-1].duration_s)
    look: dict[str, Any] = {"fontsize": 7, "color": INK, "ha": "left" if left else "right", "va": "bottom"}
    text = f"peak {byte_count(most)} in {short(event.module)}"
    ax.annotate(text, (at, most), xytext=(0, 4), textcoords="offset points", **look)
    ax.plot([at], [most], marker="o", markersize=3, color=INK, clip_on=False)
    ax.axhline(most, color=PALE, linewidth=0.6, linestyle=":")
