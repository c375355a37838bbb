"""One panel of the roofline figure: the lines of a machine, a dot for each operator, names beside them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from hwsim.result import Estimate, OpRow
from reports.figure import GRID, INK, PALE, PAPER, SOFT
from reports.numbers import percent, quantity, seconds
from reports.palette import family_of

# points^2 of a dot that takes all of the time, and of one that takes none
_AREA, _LEAST_AREA = 1400.0, 14.0
_LABELLED_SHARE, _LABELLED = 0.03, 6
_ARROW: dict[str, Any] = {"arrowstyle": "->", "color": SOFT, "linewidth": 0.8, "shrinkA": 6, "shrinkB": 0}
Limits = tuple[float, float, float, float]  # x from, x to, y from, y to


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """The lines of one machine, FLOP/s and byte/s."""

    dtype: str
    peak: float
    vector: float | None
    dram: float
    onchip: float | None
    onchip_label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One operator: useful FLOP per byte of DRAM traffic and per second, share of the time.

    `beyond`: its place is further right than the panel reaches.
    """

    intensity: float
    rate: float
    share: float
    row: OpRow
    beyond: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """What a panel has room for."""

    dots: Sequence[Dot]
    limits: Limits
    single: bool

    @property
    def size(self) -> float:
        """Of the text beside roofs, points."""
        return 7.5 if self.single else 6.0


def draw_panel(ax: Axes, estimate: Estimate, roof: Roof, place: Placing) -> list[Text]:
    """One panel; the texts that are still to be turned."""
    left, right, bottom, top = place.limits
    ax.set(xscale="log", yscale="log", xlim=(left, right), ylim=(bottom, top))
    ax.grid(which="major", color=GRID, linewidth=0.5)
    ax.set_axisbelow(True)
    ax.minorticks_off()
    ax.tick_params(labelsize=7.5, color=PALE, labelcolor=INK, length=2.5)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(PALE)
    slopes = _draw_roofs(ax, roof, place)
    for dot in reversed(place.dots):
        family = family_of(dot.row.kind)
        ax.scatter(
            dot.intensity,
            dot.rate,
            s=(_AREA if place.single else _AREA / 2.5) * dot.share + _LEAST_AREA,
            c=family.colour,
            marker=family.marker,
            alpha=0.85,
            linewidths=0.6,
            edgecolors=PAPER,
            zorder=3,
        )
        if dot.beyond:
            ax.annotate("", (right, dot.rate), (dot.intensity * 1.3, dot.rate), arrowprops=_ARROW)
    star: dict[str, Any] = {"c": PAPER, "marker": "*", "edgecolors": INK, "linewidths": 1.0}
    if (at := whole(estimate)) is not None:
        ax.scatter(*at, s=150 if place.single else 80, zorder=5, **star)
    if place.single:
        _label(ax, place.dots, place.limits)
    else:
        ax.set_title(estimate.device, fontsize=9, color=INK, loc="left")
        look: dict[str, Any] = {"fontsize": 6.5, "va": "top", "color": INK, "transform": ax.transAxes}
        ax.text(0.02, 0.97, _result(estimate), **look)
    return slopes


def _draw_roofs(ax: Axes, roof: Roof, place: Placing) -> list[Text]:
    left, right, _, _ = place.limits
    ridge = roof.peak / roof.dram
    ends = [left * roof.dram, roof.peak, roof.peak]
    ax.plot([left, ridge, right], ends, color=INK, linewidth=1.3, zorder=2)
    name = f"{roof.dtype} {quantity(roof.peak, _rate_unit(roof.dtype))}"
    _right_text(ax, right, roof.peak, name, place.size, INK)
    slopes = [_slope_text(ax, roof, roof.dram, f"DRAM {quantity(roof.dram, 'B/s')}", place)]
    thin: dict[str, Any] = {"color": PALE, "linewidth": 0.9, "zorder": 1}
    if roof.vector is not None:
        ax.plot([roof.vector / roof.dram, right], [roof.vector, roof.vector], linestyle="--", **thin)
        name = f"fp32 vector {quantity(roof.vector, 'FLOP/s')}"
        _right_text(ax, right, roof.vector, name, place.size, SOFT)
    if roof.onchip is not None and roof.peak / roof.onchip > 2 * left:
        ax.plot([left, roof.peak / roof.onchip], [left * roof.onchip, roof.peak], linestyle=":", **thin)
        name = f"{roof.onchip_label or 'on chip'} {quantity(roof.onchip, 'B/s')}"
        slopes.append(_slope_text(ax, roof, roof.onchip, name, place))
    return slopes


def _rate_unit(dtype: str) -> str:
    return "OP/s" if dtype.startswith("int") else "FLOP/s"


def _right_text(ax: Axes, right: float, rate: float, text: str, size: float, colour: str) -> None:
    ax.annotate(
        text,
        (right, rate),
        xytext=(-3, size - 2),
        textcoords="offset points",
        fontsize=size,
        ha="right",
        color=colour,
    )


def _slope_text(ax: Axes, roof: Roof, bandwidth: float, text: str, place: Placing) -> Text:
    """Text under the DRAM line or above another, where no dot is near; `turn` lays it along the line."""
    left, right, bottom, _ = place.limits
    low = max(left, bottom / bandwidth)
    high = roof.peak / bandwidth
    below = bandwidth == roof.dram
    starts = [low * (high / low) ** (step / 20) for step in range(1, 15)]
    length = math.log10(right / left) * (0.17 if place.single else 0.22)

    def room(start: float) -> float:
        along = [start * 10 ** (length * part) for part in (0, 0.33, 0.67, 1)]
        return min((_apart(dot, x, x * bandwidth) for x in along for dot in place.dots), default=1.0)

    # the lower end, unless there is clearly more room further up
    x = max(starts, key=lambda start: (min(room(start), 0.6), -start))
    return ax.text(
        x,
        x * bandwidth,
        # the blank line is the distance to the line, whatever the angle
        f"\n{text}" if below else f"{text}\n",
        rotation=45,
        rotation_mode="anchor",
        ha="left",
        va="center",
        linespacing=1.6,
        fontsize=place.size,
        color=INK if below else SOFT,
    )


def _apart(dot: Dot, intensity: float, rate: float) -> float:
    """Distance in decades."""
    return math.hypot(math.log10(dot.intensity / intensity), math.log10(dot.rate / rate))


def _label(ax: Axes, dots: Sequence[Dot], limits: Limits) -> None:
    """Name the operators that take most of the time, on the emptier side below, with a line to each dot."""
    chosen = [dot for dot in dots if dot.share >= _LABELLED_SHARE][:_LABELLED]
    if not chosen:
        return
    left, right, bottom, top = limits
    across = {dot: math.log(dot.intensity / left) / math.log(right / left) for dot in chosen}
    up = {dot: math.log(dot.rate / bottom) / math.log(top / bottom) for dot in chosen}
    beside_right = max(across.values()) < 0.55
    edge = max(across.values()) + 0.07 if beside_right else max(min(across.values()) - 0.07, 0.45)
    # the steepest line on top, so that lines do not cross
    chosen.sort(key=lambda dot: up[dot] / max(abs(across[dot] - edge), 0.01))
    for place, dot in enumerate(chosen):
        text = f"{percent(dot.share)}: {dot.row.name.removeprefix('aten.')} {dot.row.dims}"
        note = ax.annotate(
            textwrap.fill(text, 50, subsequent_indent="   "),
            (dot.intensity, dot.rate),
            xytext=(edge, 0.06 + 0.075 * place),
            textcoords="axes fraction",
            fontsize=6.5,
            ha="left" if beside_right else "right",
            va="center",
            color=INK,
            zorder=6,
            arrowprops={
                "arrowstyle": "-",
                "color": PALE,
                "linewidth": 0.6,
                "relpos": (0 if beside_right else 1, 0.5),
            },
        )
        note.set_in_layout(False)


def useful_flop(row: OpRow) -> float:
    """Work that was asked for and done: neither padding nor what a causal kernel skips."""
    return min(row.flops, row.flops_executed)


def whole(estimate: Estimate) -> tuple[float, float] | None:
    """Intensity and rate of the model as a whole; None where it has no place on the axes."""
    flop = sum(map(useful_flop, estimate.ops))
    if not flop or not estimate.main_bytes:
        return None
    return flop / float(estimate.main_bytes), flop / float(estimate.latency_s)


def turn(figure: Figure, slopes: Sequence[Text]) -> None:
    """Lay the names of bandwidths along their lines, whose angle is known once the panels have their size."""
    figure.draw_without_rendering()
    for text in slopes:
        (x, y), along = text.get_position(), text.axes.transData  # type: ignore[union-attr]
        (left, low), (right, high) = along.transform([(x, y), (10 * x, 10 * y)])
        text.set_rotation(math.degrees(math.atan2(high - low, right - left)))


def _result(estimate: Estimate) -> str:
    return (
        f"{seconds(float(estimate.latency_s))}, MFU {percent(float(estimate.mfu))}\nbound: {estimate.bound}"
    )
