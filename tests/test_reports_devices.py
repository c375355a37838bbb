"""Devices and clusters as terminals, files and other programs see them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console, RenderableType
from typer.testing import CliRunner

from cli import app
from devices import Cluster, Device, cluster, clusters, device, devices
from hwsim.errors import HwsimError
from reports.devices import cluster_card, clusters_table, device_card, devices_table, drawing
from reports.devices_compare import comparison_record, comparison_table
from reports.machine import draw_machine, machine_figure

PNG = b"\x89PNG"


def text_of(*parts: RenderableType) -> str:
    file = io.StringIO()
    console = Console(file=file, width=80, markup=False, emoji=False, highlight=False)
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.output


def test_cards_and_comparisons_read_as_agreed(golden: Callable[[str, str], None]) -> None:
    parts = [
        device_card(device("h100-sxm")),
        device_card(device("tpu-v4")),
        cluster_card(cluster("dgx-a100-superpod")),
        comparison_table([device("h100-sxm"), device("a100-80gb-sxm"), device("tpu-v5p")]),
        clusters_table(clusters()),
    ]
    golden("devices.txt", text_of(*parts))


def test_no_line_is_wider_than_the_terminal() -> None:
    everything = [
        devices_table(devices()),
        clusters_table(clusters()),
        *(device_card(one) for one in devices()),
        *(cluster_card(one) for one in clusters()),
        comparison_table(devices()[:9]),
    ]
    text = text_of(*everything)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


def test_a_drawing_has_a_line_per_level_and_link_in_order() -> None:
    lines = list(drawing(device("mi300x")))
    levels = [line.split()[0] for line in lines if line.startswith("  ") and line[2] not in " "]
    assert levels[1:-1] == ["register", "l1", "l2", "l3", "dram"]
    assert any("xgmi (full of 8)" in line for line in lines)


def test_twice_the_bandwidth_is_one_block_more() -> None:
    t4 = device("t4")
    before, after = (
        next(line for line in drawing(one) if line.startswith("   │") and "/s" in line and seen in line)
        for one, seen in (
            (t4, "320 GB/s"),
            (t4.replace(**{"memory.dram.bandwidth": "640 GB/s"}), "640 GB/s"),
        )
    )
    assert after.count("█") == before.count("█") + 1


def test_many_design_points_have_a_card_too() -> None:
    many = device("h100-sxm").replace(**{"memory.dram.bandwidth": np.array([1e12, 2e12])})
    assert "84.9 GB" in text_of(device_card(many))


def test_a_comparison_gives_multiples_of_the_first_device() -> None:
    record = comparison_record([device("a100-80gb-sxm"), device("h100-sxm"), device("tpu-v3")])
    rows = {row["quantity"]: row for row in record["rows"]}
    assert record["devices"] == ["a100-80gb-sxm", "h100-sxm", "tpu-v3"]
    assert rows["memory.dram.bandwidth_byte_per_s"]["values"] == [2039e9, 3350e9, 900e9]
    assert rows["peak.bf16"]["ratios"][0] == 1.0
    assert rows["peak.bf16"]["ratios"][1] == pytest.approx(989.4 / 312)
    assert rows["peak.int8"]["values"][2] is None
    assert rows["peak.int8"]["ratios"][2] is None
    json.dumps(record)


def test_one_device_can_be_compared_with_itself_alone() -> None:
    assert "3.35 TB/s" in text_of(comparison_table([device("h100-sxm")]))


@pytest.mark.parametrize("id", ["h100-sxm", "tpu-v4", "eyeriss-v1", "groq-tsp", "raspberry-pi-4", "gb10"])
def test_a_device_is_drawn_with_every_level_link_and_ridge(id: str, tmp_path: Path) -> None:
    one = device(id)
    figure = machine_figure(one)
    texts = " ".join(text.get_text() for ax in figure.axes for text in ax.texts)
    assert "ridge" in texts
    names = ["register", "l1", "l2", "l3", "dram", "host"]
    for name in [name for name in names if getattr(one.memory, name)] + list(one.links):
        assert f"bf{{{name.replace('-', '{-}')}}}" in texts
    draw_machine(one, tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("one", [*devices(), *clusters()], ids=lambda one: one.id)
def test_every_machine_can_be_drawn(one: Device | Cluster) -> None:
    assert machine_figure(one).axes


def test_the_same_machine_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        draw_machine(cluster("dgx-h100"), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_machine_of_many_points_and_a_strange_suffix_are_refused(tmp_path: Path) -> None:
    many = device("t4").replace(**{"memory.dram.bandwidth": np.array([1e12, 2e12])})
    with pytest.raises(HwsimError, match="no roofline for 't4': it needs one machine"):
        draw_machine(many, tmp_path / "x.png")
    with pytest.raises(HwsimError, match=r"the name must end in .png"):
        draw_machine(device("t4"), tmp_path / "x.bmp")


def test_the_door_shows_a_device_a_cluster_and_a_change(tmp_path: Path) -> None:
    assert run("devices", "show", "h100-sxm")[0] == 0
    code, text = run("devices", "show", "dgx-h100")
    assert code == 0
    assert "8 x h100-sxm" in text
    code, text = run("devices", "show", "t4", "--set", "memory.dram.bandwidth=1TB/s")
    assert code == 0
    assert "1.00 TB/s" in text
    figure = tmp_path / "t4.png"
    assert run("devices", "show", "t4", "--set", "device.power.limit=35W", "--plot", str(figure))[0] == 0
    assert figure.read_bytes().startswith(PNG)


def test_the_door_prints_json_for_lists_clusters_and_comparisons() -> None:
    listed = json.loads(run("devices", "--json")[1])
    assert len(listed["devices"]) >= 80
    assert {"dgx-h100", "dgx-a100"} <= {one["id"] for one in listed["clusters"]}
    shown = json.loads(run("devices", "show", "dgx-a100", "--json")[1])
    assert shown["clusters"][0]["tiers"][0]["bandwidth_byte_per_s"] == 300e9
    compared = json.loads(run("devices", "compare", "t4", "l4", "--json")[1])
    assert compared["schema"] == "hwsim.comparison-of-devices/1"
    assert "clusters" not in json.loads(run("devices", "--kind", "tpu", "--json")[1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "dgx-h1000"), "no device 'dgx-h1000'"),
        (("compare", "t4", "l44"), "no device 'l44'"),
        (("compare", "t4", "dgx-h100"), "'dgx-h100' is a cluster of 8 h100-sxm"),
        (("show", "t4", "--set", "memory.drum.bandwidth=1TB/s"), "no path 'memory.drum.bandwidth'"),
    ],
)
def test_a_wrong_request_ends_with_two_and_one_line(words: tuple[str, ...], message: str) -> None:
    code, text = run("devices", *words)
    assert code == 2
    assert message in text
    assert len(text.splitlines()) == 1


def test_a_hypothetical_device_of_ten_lines_can_be_shown(tmp_path: Path) -> None:
    path = tmp_path / "h100-wide.toml"
    path.write_text(
        'extends = "h100-sxm"\n'
        'name = "H100 with six stacks"\n'
        'source = "a what-if of ours"\n'
        "[memory.dram]\n"
        'bandwidth = "5 TB/s"\n'
        'capacity = "120 GB"\n'
        'source = "a what-if of ours"\n'
        "[power]\n"
        'limit = "800 W"\n'
        'source = "a what-if of ours"\n',
        encoding="utf-8",
    )
    code, text = run("devices", "show", str(path))
    assert code == 0
    assert "5.00 TB/s" in text
    assert run("devices", "compare", "h100-sxm", str(path))[0] == 0
