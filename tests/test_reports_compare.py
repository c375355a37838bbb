"""Comparisons as tables and as a figure."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text
from rich.console import Console

from hwsim.axis import Axis
from hwsim.comparison import METRICS, Comparison, Curve
from hwsim.crossings import crossings
from hwsim.errors import HwsimError
from reports.compare import comparison_table
from reports.compare_plot import comparison_figure, draw_comparison
from tests.estimates import bert_on, too_large_for_its_device

SIZES = np.array([128.0, 256.0, 512.0, 1024.0])
Law = Callable[[Any], Any]


def curve(
    model: str, device: str, law: Law, *, places: tuple[int, ...] = (0, 1, 2, 3), **memory: float
) -> Curve:
    def priced(sizes: Any) -> Any:
        latency = law(np.asarray(sizes, dtype=float))
        parts = {"compute": latency, "memory": 0 * latency}
        needed = {"total": memory.get("total", 1e9) + 0 * latency, "capacity": memory.get("capacity", 2e9)}
        sized = {"batch": 1.0, "seq": sizes}
        return bert_on(
            device, model=model, latency_s=latency, breakdown_s=parts, memory_bytes=needed, sizes=sized
        )

    at = np.array(places)
    excluded = "" if len(places) == SIZES.size else "left out at seq 1024: that is too long"
    return Curve(
        model=model,
        device=device,
        name=model,
        label=f"{model} on {device}",
        places=at,
        estimates=(priced(SIZES[at]),),
        excluded=excluded,
        at=priced,
    )


def comparison(
    *curves: Curve, metric: str = "latency", axis: bool = True, against: str | None = None
) -> Comparison:
    over = Axis(name="seq", values=SIZES)
    found, notes = crossings(curves, over, METRICS[metric], against) if axis else ([], [])
    return Comparison(
        phase="forward",
        metric=METRICS[metric],
        axis=over if axis else None,
        models=tuple(dict.fromkeys(one.model for one in curves)),
        devices=tuple(dict.fromkeys(one.device for one in curves)),
        curves=curves,
        crossovers=tuple(found),
        notes=tuple(notes),
        warnings=(),
        against=against,
    )


QUADRATIC = curve("full", "l4", lambda n: 1e-8 * n**2)
LINEAR = curve("linear", "l4", lambda n: 3e-6 * n)


def lines_of(one: Comparison, width: int = 80) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, markup=False, emoji=False, highlight=False).print(comparison_table(one))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def rows_of(lines: list[str]) -> dict[str, list[str]]:
    """Cells by the number that a line begins with."""
    words = [line.split() for line in lines]
    return {row[0]: row[1:] for row in words if row and row[0].isdigit()}


def test_a_column_per_curve_a_line_per_value_and_the_crossing_in_words() -> None:
    lines = lines_of(comparison(QUADRATIC, LINEAR))
    assert lines[0] == "latency on l4 over seq: forward, batch 1, bf16, compiled"
    assert [line.split() for line in lines[1:3]] == [["full", "linear"], ["seq", "l4", "l4"]]
    assert rows_of(lines) == {
        "128": ["164", "us", "384", "us"],
        "256": ["655", "us", "768", "us"],
        "512": ["2.62", "ms", "1.54", "ms"],
        "1024": ["10.5", "ms", "3.07", "ms"],
    }
    assert lines[-1] == "On l4, linear is faster than full from seq 301 on (903 us against 906 us)"


def test_what_is_left_out_is_a_dash_and_what_does_not_fit_stands_in_brackets() -> None:
    short = curve("short", "l4", lambda n: 1e-6 * n, places=(0, 1, 2))
    large = curve("large", "l4", lambda n: 2e-6 * n, **too_large_for_its_device())
    rows = rows_of(lines_of(comparison(short, large)))
    assert rows["512"] == ["512", "us", "(1.02", "ms)"]
    assert rows["1024"] == ["-", "(2.05", "ms)"]


def test_many_curves_are_divided_into_blocks_that_fit_a_terminal() -> None:
    curves = [curve(f"a-model-of-some-length-{n}", "l4", lambda n: 1e-6 * n) for n in range(7)]
    lines = lines_of(comparison(*curves), width=200)
    table = lines[: lines.index("") + 1] + [line for line in lines if line.startswith(" ")]
    assert max(map(len, table)) <= 80
    assert all(any(f"length-{n}" in line for line in table) for n in range(7))


def test_without_an_axis_there_is_a_line_per_model_and_device() -> None:
    def point(model: str, device: str) -> Curve:
        one = bert_on(device, model=model)
        return replace(QUADRATIC, model=model, device=device, places=np.zeros(1, dtype=int), estimates=(one,))

    curves = [point(model, device) for model in ("a", "b") for device in ("l4", "t4")]
    lines = lines_of(comparison(*curves, axis=False))
    assert lines[1].split() == ["model", "device", "latency", "tokens/s", "energy", "memory", "fits", "bound"]
    assert [line.split()[:4] for line in lines[3:]] == [
        ["a", "l4", "400", "us"],
        ["a", "t4", "400", "us"],
        ["b", "l4", "400", "us"],
        ["b", "t4", "400", "us"],
    ]


def texts(one: Comparison) -> list[str]:
    figure = comparison_figure(one)
    return [text.get_text() for text in figure.axes[0].texts]


def test_curves_are_named_beside_their_ends_and_crossings_on_the_axis() -> None:
    assert texts(comparison(QUADRATIC, LINEAR)) == ["full on l4", "linear on l4", "301"]


def test_every_crossing_has_a_ring_where_the_estimate_is() -> None:
    one = comparison(QUADRATIC, LINEAR)
    rings = [line for line in comparison_figure(one).axes[0].lines if line.get_markersize() == 9]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in rings] == [
        (301, pytest.approx(301 * 3e-6)),
    ]


def test_both_axes_are_logarithmic_and_the_title_says_what_is_compared() -> None:
    figure = comparison_figure(comparison(QUADRATIC, LINEAR))
    ax = figure.axes[0]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert figure.get_suptitle() == "latency on l4 over seq: forward, batch 1, bf16, compiled"
    assert "times within a factor of 1.50" in figure.get_supxlabel()


def test_models_differ_by_colour_and_devices_by_dash() -> None:
    curves = [curve(m, d, lambda n: 1e-6 * n) for m in ("a", "b") for d in ("l4", "t4")]
    lines = [
        line
        for line in comparison_figure(comparison(*curves)).axes[0].lines
        if line.get_linestyle() != "None"
    ]
    colours = [line.get_color() for line in lines]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 4


def test_labels_do_not_lie_on_each_other() -> None:
    curves = [curve(f"m{n}", "l4", lambda x, n=n: 1e-6 * x * (1 + n / 100)) for n in range(6)]
    figure = comparison_figure(comparison(*curves))
    figure.draw_without_rendering()
    # of the words alone, without the line that leads to them
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]
    assert len(boxes) == 6
    for low, high in pairwise(sorted(boxes, key=lambda box: box.y0)):
        assert low.y1 <= high.y0 + 1


def test_a_curve_may_begin_at_zero() -> None:
    axis = Axis(name="context", values=np.array([0.0, 1.0, 10.0, 100.0]))
    one = replace(comparison(QUADRATIC, LINEAR), axis=axis, crossovers=())
    assert comparison_figure(one).axes[0].get_xscale() == "symlog"


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_same_comparison_gives_the_same_file(tmp_path: Path, suffix: str) -> None:
    for name in ("one", "two"):
        draw_comparison(comparison(QUADRATIC, LINEAR), tmp_path / f"{name}{suffix}")
    one, two = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("one", "two"))
    assert one == two
    assert len(one) > 1000


def test_a_figure_needs_an_axis_and_a_known_format(tmp_path: Path) -> None:
    with pytest.raises(HwsimError, match=r"must end in \.png or \.svg"):
        draw_comparison(comparison(QUADRATIC, LINEAR), tmp_path / "figure.gif")
    with pytest.raises(HwsimError, match="--over"):
        draw_comparison(comparison(QUADRATIC, LINEAR, axis=False), tmp_path / "figure.png")


def test_against_one_model_there_are_crossings_with_that_one_alone() -> None:
    steep = curve("steep", "l4", lambda n: 5e-9 * n**2)
    found = comparison(QUADRATIC, LINEAR, steep, against="full")
    assert [(one.winner, one.loser, one.at) for one in found.crossovers] == [
        ("linear on l4", "full on l4", 301.0)
    ]
    assert found.notes == ("on l4, no crossover in latency at seq 128 to 1024; best first: steep, full",)


def test_the_figure_against_one_model_shows_gains_device_by_device() -> None:
    """At 512 tokens 2.62 ms against 1.54 ms; what a model's limit excludes is not drawn."""
    there = [curve("full", "t4", lambda n: 2e-8 * n**2), curve("linear", "t4", lambda n: 3e-6 * n)]
    short = curve("short", "l4", lambda n: 1e-6 * n, places=(0, 1))
    found = comparison(
        QUADRATIC, LINEAR, short, *there, curve("short", "t4", lambda n: 1e-6 * n), against="full"
    )
    figure = comparison_figure(found)
    assert [ax.get_title() for ax in figure.axes] == ["l4", "t4"]
    lines = {len(line.get_xdata()): line.get_ydata() for line in figure.axes[0].lines[1:]}
    assert lines[4][2] == pytest.approx(1e-8 * 512**2 / (3e-6 * 512))
    assert len(lines[2]) == 2
    tokens = comparison(QUADRATIC, LINEAR, metric="tokens", against="full")
    gain, places = tokens.gain(tokens.curves[1])
    assert gain[2] == pytest.approx(lines[4][2])
    assert places.tolist() == [0, 1, 2, 3]
