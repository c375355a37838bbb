"""Figures of a sweep: what is drawn where, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hwsim.errors import HwsimError
from hwsim.studies.study import Study
from reports.drawing import Drawing
from reports.study_figures import drawings
from reports.svg import inline_svg
from reports.writing import write_report
from tests.studies import BATCH, BYTES, grid, samples, study
from tests.test_hwsim_studies import write


def drawn(found: Study, name: str) -> Drawing:
    return {one.name: one for one in drawings(found)}[name]


def panels(figure: Figure) -> Sequence[Axes]:
    return [axes for axes in figure.axes if axes.axison]


def test_a_grid_has_every_figure() -> None:
    names = ["front", "scaling", "plane", "effects", "breakdown", "roofline"]
    assert [one.name for one in drawings(study(grid()))] == names


def test_samples_have_every_figure_too() -> None:
    assert len(drawings(study(samples(3000)))) == 6


def test_a_table_of_one_axis_leaves_out_what_needs_two() -> None:
    columns = grid()
    keep = (columns["batch"] == 2) & (columns["device"] == "small")
    one_axis = study({name: column[keep] for name, column in columns.items()})
    assert {one.name for one in drawings(one_axis)} == {"front", "scaling", "breakdown", "roofline"}


def test_results_that_are_missing_only_cost_their_figures() -> None:
    wanted = ("device", "batch", "device.memory.dram.bandwidth", "latency_s", "energy_j")
    bare = study({name: column for name, column in grid().items() if name in wanted})
    assert {one.name for one in drawings(bare)} == {"front", "scaling", "plane", "effects"}


@pytest.mark.parametrize("columns", [grid(), samples(800)])
def test_every_figure_says_what_it_shows(columns: dict) -> None:  # type: ignore[type-arg]
    for one in drawings(study(columns)):
        assert len(one.description) > 40, one.name
        assert one.caption.endswith("."), one.name
        assert "nan" not in one.description + one.caption, one.name


def test_the_front_is_drawn_through_its_points_in_order() -> None:
    found = study(grid())
    (axes,) = panels(drawn(found, "front").figure())
    first, second = (found.value(one) for one in found.objectives)
    front = found.answers[0].front
    assert axes.lines[0].get_xdata() == pytest.approx(np.sort(first[front]))
    assert axes.lines[1].get_ydata() == pytest.approx(second[front])


def test_every_point_is_a_dot_and_those_that_do_not_fit_are_hollow() -> None:
    found = study(grid())
    (axes,) = panels(drawn(found, "front").figure())
    dots = [len(one.get_offsets()) for one in axes.collections[:4]]
    assert dots == [15, 15, 0, 10]  # small, large, others, not usable


def test_curves_run_through_their_points() -> None:
    first, *_ = panels(drawn(study(grid()), "scaling").figure())
    assert first.get_title(loc="left") == "over batch"
    assert first.lines[0].get_ydata() == pytest.approx(4e-3 * np.array(BATCH) + BYTES / 4e11)


def test_bars_of_effects_reach_from_the_middle_to_both_ends() -> None:
    left, _ = panels(drawn(study(grid()), "effects").figure())
    names = [label.get_text().splitlines()[0] for label in left.get_yticklabels()]
    batch = names.index("batch")
    ends = sorted(bars[0].get_width() + 1 for bars in left.containers[2 * batch : 2 * batch + 2])
    middle = 8e-3 + BYTES / 4e11
    assert ends == pytest.approx([(4e-3 + BYTES / 4e11) / middle, (32e-3 + BYTES / 4e11) / middle])


def test_parts_of_time_and_energy_add_up() -> None:
    time, energy = panels(drawn(study(grid()), "breakdown").figure())
    first = sum(bars[0].get_width() for bars in time.containers)
    assert first == pytest.approx(4e-3 * 2 + BYTES / 4e11)
    assert sum(bars[0].get_width() for bars in energy.containers) == pytest.approx(50 * first)


def test_cells_of_a_plane_are_the_values() -> None:
    small, *_ = panels(drawn(study(grid()), "plane").figure())
    (mesh,) = [one for one in small.collections if hasattr(one, "norm") and one.get_array() is not None]
    assert mesh.get_array().min() == pytest.approx(4e-3 + BYTES / 16e11)
    assert {text.get_text() for text in small.texts} >= {"4.50\nms"}


def test_few_machines_have_roofs_and_many_share_one() -> None:
    columns = grid()
    few = study(
        {name: column[columns["device.memory.dram.bandwidth"] == 4e11] for name, column in columns.items()}
    )
    (axes,) = panels(drawn(few, "roofline").figure())
    assert axes.get_ylabel() == "FLOP/s"
    (axes,) = panels(drawn(study(grid()), "roofline").figure())
    assert axes.get_ylabel() == "share of peak FLOP/s (MFU)"


def test_an_inline_figure_is_named_described_and_follows_the_theme() -> None:
    one = drawn(study(grid()), "front")
    text = inline_svg(one.figure(), name="x", title="A < B", description="said & done")
    assert text.startswith("<svg ")
    assert text.rstrip().endswith("</svg>")
    assert 'role="img" aria-labelledby="x-title x-description"' in text
    assert '<title id="x-title">A &lt; B</title>' in text
    assert "said &amp; done" in text
    assert "var(--ink, #222222)" in text
    assert "var(--series-1, #0072B2)" in text
    assert 'id="figure_1"' not in text


def test_the_same_study_gives_the_same_figures() -> None:
    texts = [
        inline_svg(one.figure(), name=one.name, title=one.title, description="")
        for _ in range(2)
        for one in drawings(study(grid()))
    ]
    assert texts[:6] == texts[6:]


@pytest.mark.parametrize(("suffix", "start"), [("pdf", b"%PDF"), ("png", b"\x89PNG"), ("md", b"# swept")])
def test_reports_on_paper_are_the_same_whenever_they_are_written(
    tmp_path: Path, suffix: str, start: bytes
) -> None:
    folder = write(tmp_path / "swept", grid())
    first, second = (tmp_path / f"{name}.{suffix}" for name in "ab")
    assert write_report(folder, first) == first
    assert first.read_bytes().startswith(start)
    write_report(folder, second)
    assert first.read_bytes().replace(b"a-figures", b"b-figures") == second.read_bytes()


def test_markdown_names_figures_that_are_there(tmp_path: Path) -> None:
    path = write_report(write(tmp_path / "swept", grid()), tmp_path / "x.md")
    text = path.read_text()
    assert text.count("![") == 6
    for line in text.splitlines():
        if line.startswith("!["):
            assert (tmp_path / line.rpartition("](")[2].rstrip(")")).is_file()
    assert "| device | batch | DRAM bandwidth |" in text


def test_a_format_overrules_the_suffix(tmp_path: Path) -> None:
    folder = write(tmp_path / "swept", grid())
    assert write_report(folder, tmp_path / "x.html", "md") == tmp_path / "x.md"


def test_an_unknown_format_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(
        HwsimError, match="no format 'htm'; formats are html, md, pdf, png; did you mean 'html'"
    ):
        write_report(tmp_path / "missing", tmp_path / "x.htm")


@pytest.mark.parametrize("suffix", ["html", "md", "pdf", "png"])
def test_a_missing_folder_is_one_line(tmp_path: Path, suffix: str) -> None:
    folder = write(tmp_path / "swept", grid())
    with pytest.raises(HwsimError, match="No such file or directory; name another path"):
        write_report(folder, tmp_path / "missing" / f"x.{suffix}")
