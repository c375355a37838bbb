"""One estimate on one page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hwsim.errors import HwsimError
from reports.module_bars import short
from reports.sheet import draw_sheet, sheet_figure
from tests.estimates import bert_on, too_large_for_its_device


def panel(figure: Figure, beginning: str) -> Axes:
    (found,) = [axes for axes in figure.axes if axes.get_title(loc="left").startswith(beginning)]
    return found


def test_the_bars_of_a_module_add_up_to_its_time() -> None:
    axes = panel(sheet_figure(bert_on("h100-sxm")), "Time by module")
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[:2] == ["layers.*.mlp.up", "layers.*.mlp.down"]
    widths = [sum(bars[at].get_width() for bars in axes.containers) for at in range(len(names))]
    assert sum(widths) == pytest.approx(400e-6)
    assert widths == sorted(widths, reverse=True)
    assert "30 %" in {text.get_text() for text in axes.texts}


def test_energy_and_memory_are_bars_of_their_parts() -> None:
    figure = sheet_figure(bert_on("h100-sxm"))
    energy = panel(figure, "Energy: 160 mJ, 400 W on average")
    assert [bars[0].get_width() for bars in energy.containers] == pytest.approx([0.08, 0.02, 0.02, 0.04])
    memory = panel(figure, "Memory at the peak: 727 MB of 84.9 GB, fits")
    assert sum(bars[0].get_width() for bars in memory.containers) == pytest.approx(727e6)


def test_a_model_that_is_too_large_says_so_and_shows_the_capacity() -> None:
    estimate = bert_on("h100-sxm", memory_bytes=too_large_for_its_device())
    axes = panel(sheet_figure(estimate), "Memory at the peak: 110 MB of 100 MB, DOES NOT FIT")
    assert axes.lines[0].get_xdata()[0] == pytest.approx(100e6)


def test_activations_are_drawn_over_the_whole_run_and_the_peak_is_named() -> None:
    from dataclasses import replace

    timeline = bert_on("h100-sxm").timeline
    held = [replace(event, live_bytes=1e6 * at) for at, event in enumerate(timeline)]
    axes = panel(sheet_figure(bert_on("h100-sxm", events=lambda: tuple(held))), "Activations over time")
    assert axes.get_xlim() == pytest.approx((0, 400e-6))
    assert [text.get_text() for text in axes.texts] == ["peak 4.00 MB in layers.1.mlp.up"]


def test_long_module_paths_keep_their_last_parts() -> None:
    assert short("encoder.layers.*.blocks.*.attention.query_key_value") == "*.attention.query_key_value"
    assert short("") == "(model)"
    assert short("a_single_name_that_is_much_too_long_to_fit") == "a_single_name_that_is_much_too_long_to_fit"


def test_one_estimate_is_a_sheet_and_several_are_rooflines(tmp_path: Path) -> None:
    draw_sheet([bert_on("l4")], tmp_path / "one.pdf")
    draw_sheet([bert_on("l4"), bert_on("t4")], tmp_path / "two.png")
    assert (tmp_path / "one.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "two.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_same_estimate_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        draw_sheet([bert_on("l4")], tmp_path / f"{name}.{suffix}")
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_many_points_are_not_a_sheet() -> None:
    with pytest.raises(HwsimError, match="a sheet is of one point"):
        sheet_figure(bert_on("l4", latency_s=np.array([1e-3, 2e-3])))
