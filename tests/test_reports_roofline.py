"""The roofline figure: where roofs and dots stand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwsim.errors import HwsimError
from reports.roofline import draw_roofline, roofline_figure
from tests.estimates import GATHER, GEMM, bert_on

FIVE = ("h100-sxm", "tpu-v4", "jetson-orin-agx", "raspberry-pi-4", "eyeriss-v1")


def test_the_roof_bends_where_peak_and_bandwidth_meet() -> None:
    (axes,) = roofline_figure([bert_on("h100-sxm")]).axes
    roof = axes.lines[0].get_xydata()
    assert roof[1] == pytest.approx([989.4e12 / 3.35e12, 989.4e12])


def test_dots_stand_at_their_intensity_and_rate_and_are_as_large_as_their_time() -> None:
    (axes,) = roofline_figure([bert_on("h100-sxm")]).axes
    dots = [(*dots.get_offsets()[0], dots.get_sizes()[0]) for dots in axes.collections]
    gemm = max(dots[:-1], key=lambda dot: dot[2])  # the last is the whole model
    assert gemm[:2] == pytest.approx((57.98e9 / 150e6, 57.98e9 / 240e-6))
    assert dots[-1][:2] == pytest.approx((67.69e9 / 228.6e6, 67.69e9 / 400e-6))
    assert len(dots) == 4  # the gather has no flop and no place


def test_the_legend_says_how_much_of_the_time_is_not_drawn() -> None:
    figure = roofline_figure([bert_on("h100-sxm")])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert any("not drawn, no matrix FLOP: 5.0 %" in text for text in texts)


def test_an_operator_that_needs_no_dram_stands_at_the_right_edge() -> None:
    from dataclasses import replace

    rows = (GEMM, replace(GEMM, dram_bytes=0.0, latency_s=100e-6))
    (axes,) = roofline_figure([bert_on("h100-sxm", rows=lambda: rows)]).axes
    right = axes.get_xlim()[1]
    assert max(dots.get_offsets()[0][0] for dots in axes.collections) == pytest.approx(right / 3)


def test_panels_of_several_devices_share_their_axes() -> None:
    figure = roofline_figure([bert_on(device) for device in FIVE])
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in panels] == list(FIVE)
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in panels}) == 1


def test_a_model_of_nothing_but_gathers_can_be_drawn() -> None:
    roofline_figure([bert_on("h100-sxm", rows=lambda: (GATHER,))])


@pytest.mark.parametrize("name", ["roof.png", "roof.svg"])
def test_the_suffix_chooses_the_format_and_no_other_file_is_left(tmp_path: Path, name: str) -> None:
    draw_roofline([bert_on("l4")], tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes().startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")


def test_the_same_estimate_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        draw_roofline([bert_on("l4")], tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HwsimError, match=r"must end in \.png or \.svg"):
        draw_roofline([bert_on("l4")], tmp_path / "roof.bmp")


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        HwsimError, match=r"cannot write '.*roof\.png': No such file or directory; name another path"
    ):
        draw_roofline([bert_on("l4")], tmp_path / "missing" / "roof.png")


def test_a_full_disk_leaves_no_file_and_is_one_line() -> None:
    with pytest.raises(HwsimError, match=r"cannot write '/dev/full/roof\.png'"):
        draw_roofline([bert_on("l4")], "/dev/full/roof.png")


def test_many_points_are_not_a_figure() -> None:
    with pytest.raises(HwsimError, match="one point"):
        roofline_figure([bert_on("l4", latency_s=np.array([1e-3, 2e-3]))])
    with pytest.raises(HwsimError, match="at least one"):
        roofline_figure([])
