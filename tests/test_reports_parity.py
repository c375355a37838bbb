"""The figures of a validation."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.text import Text

from hwsim.errors import HwsimError
from reports.parity import draw_validation, figure_paths, kinds_figure, parity_figure
from tests.validations import row, validation

THREE = validation(row("bert-base", 0.5, 0.7), row("gpt2", 1.0, 0.9), row("vit-b-16", None, 0.3))


def test_every_measured_workload_is_a_named_dot_on_equal_axes() -> None:
    (ax,) = parity_figure(THREE).axes
    texts = [text.get_text() for text in ax.texts]
    assert "bert-base +40 %" in texts
    assert "gpt2 -10 %" in texts
    assert not any("vit-b-16" in text for text in texts)
    assert ax.get_xlim() == ax.get_ylim()
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_names_of_near_dots_do_not_cover_each_other() -> None:
    crowd = validation(*(row(f"model-{i}", 1.0 + i / 100, 1.2 + i / 100) for i in range(5)))
    figure = parity_figure(crowd)
    figure.draw_without_rendering()
    names = [text for text in figure.axes[0].texts if "model" in text.get_text()]
    boxes = [Text.get_window_extent(name) for name in names]  # the text alone, without its leader line
    assert len(boxes) == 5
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_nothing_measured_still_gives_a_figure() -> None:
    assert parity_figure(validation(row("a", None, 1.0))).axes


def test_each_workload_has_two_bars_whose_parts_add_up() -> None:
    figure = kinds_figure(THREE)
    (ax,) = figure.axes
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[:4] == ["bert-base, measured", "predicted", "gpt2, measured", "predicted"]
    lengths: dict[float, float] = {}
    for bar in ax.patches:
        lengths[bar.get_y()] = lengths.get(bar.get_y(), 0.0) + bar.get_width()
    assert sorted(lengths.values()) == pytest.approx(sorted([0.5, 0.7, 1.0, 0.9, 0.3, 0.3]))


def test_a_part_says_its_error_where_there_is_room() -> None:
    texts = [text.get_text() for text in kinds_figure(THREE).axes[0].texts]
    assert "gemm +40 %" in texts
    assert "gemm" in texts


def test_both_figures_are_written_and_the_same_validation_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    draw_validation(THREE, first)
    draw_validation(THREE, second)
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "a-kinds.svg").read_bytes() == (tmp_path / "b-kinds.svg").read_bytes()


def test_a_picture_is_png_or_svg() -> None:
    assert figure_paths("a/b.png") == (Path("a/b.png"), Path("a/b-kinds.png"))
    with pytest.raises(HwsimError, match=r"cannot draw 'b.pdf': the name must end in .png or .svg"):
        figure_paths("b.pdf")
