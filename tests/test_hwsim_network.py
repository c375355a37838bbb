"""Collectives against closed forms and laws, and against measured ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from devices import device
from devices.cluster import Tier, cluster
from hwsim.errors import HwsimError
from hwsim.fitted import coefficients_for
from hwsim.network import COLLECTIVES, Fabric, Level, collective_s, fabric_of, ranks_of, wire_byte

PLAIN = {
    "collective_start_s": 0.0, "low_latency_hop_s": 0.0, "bulk_hop_s": 0.0, "low_latency_share": 1.0,
    "link_efficiency": 1.0, "host_link_efficiency": 1.0, "host_link_contention": 0.0, "own_part": 0.0,
    "all_to_all_share": 1.0, "direct_start_s": 0.0, "one_shot_share": 1.0, "two_shot_sync_s": 0.0,
}  # fmt: skip


def ring(ways: int, bandwidth: float = 1e11, latency: float = 1e-6) -> tuple[Level, ...]:
    return (Level(ways=ways, bandwidth_byte_per_s=bandwidth, latency_s=latency, topology="switch"),)


@pytest.mark.parametrize("ways", [2, 3, 8, 64])
def test_a_ring_all_reduce_takes_its_closed_form(ways: int) -> None:
    seconds = collective_s("all_reduce", 1e9, ring(ways), PLAIN)
    assert seconds == pytest.approx(2 * (ways - 1) * 1e-6 + 2 * (ways - 1) / ways * 1e9 / 1e11, rel=1e-12)


@pytest.mark.parametrize("op", ["all_gather", "reduce_scatter"])
def test_a_gather_and_a_scatter_are_halves_of_a_sum(op: str) -> None:
    whole = collective_s("all_reduce", 3e8, ring(8), PLAIN)
    assert 2 * collective_s(op, 3e8, ring(8), PLAIN) == pytest.approx(float(whole), rel=1e-12)


def test_a_send_takes_one_hop_and_its_bytes() -> None:
    assert collective_s("send", 1e8, ring(4), PLAIN) == pytest.approx(1e-6 + 1e-3, rel=1e-12)


def test_everybody_sends_all_but_its_own_part_to_others() -> None:
    assert wire_byte("all_to_all", 8.0, 8) == 7.0
    assert wire_byte("all_reduce", 8.0, 8) == 14.0


@pytest.mark.parametrize("op", COLLECTIVES)
def test_one_rank_exchanges_nothing(op: str) -> None:
    assert collective_s(op, 1e9, (), PLAIN) == 0.0
    assert wire_byte(op, 1e9, 1) == 0.0


@pytest.mark.parametrize("op", COLLECTIVES)
def test_more_bytes_and_slower_links_never_take_less_time(op: str) -> None:
    c = coefficients_for(device("h100-sxm")).values
    byte = np.geomspace(64, 1e10, 200)
    path = (*ring(8), Level(ways=4, bandwidth_byte_per_s=2.5e10, latency_s=2e-6, topology="switch"))
    for direct in (False, True):
        for links in (path[:1], path):
            seconds = collective_s(op, byte, links, c, direct=direct)
            assert np.all(np.diff(seconds) >= 0)
    slower = collective_s(op, byte, ring(8, 5e10), c)
    assert np.all(slower >= collective_s(op, byte, ring(8), c))


def test_a_group_inside_a_node_uses_the_links_of_the_node_only() -> None:
    fabric = fabric_of(cluster("dgx-a100-superpod"), 64)
    inside, across = fabric.path(8), fabric.path(16)
    assert [level.link for level in inside] == ["nvlink"]
    assert [(level.link, level.ways) for level in across] == [("nvlink", 8), ("infiniband-hdr", 2)]
    assert [(level.link, level.ways) for level in fabric.path(8, stride=8)] == [("infiniband-hdr", 8)]
    assert ranks_of(across) == 16


def test_neighbours_in_part_of_a_full_mesh_use_the_links_between_them() -> None:
    tier = Tier(
        name="node", link="nvlink", devices=4, bandwidth_byte_per_s=3e11, latency_s=1e-6, topology="full"
    )
    fabric = Fabric(tiers=(tier,), count=4)
    assert fabric.path(2)[0].bandwidth_byte_per_s == pytest.approx(1e11)
    assert fabric.path(4)[0].bandwidth_byte_per_s == 3e11


def test_a_lone_profile_uses_its_fastest_link_and_says_so() -> None:
    fabric = fabric_of(device("h100-sxm"), 8)
    assert fabric.path(8)[0].link == "nvlink"
    assert "name a cluster" in fabric.warning


def test_too_many_devices_are_one_line() -> None:
    with pytest.raises(HwsimError, match=r"16 devices are asked for, 'dgx-h100' has 8; take fewer"):
        fabric_of(cluster("dgx-h100"), 16)
    with pytest.raises(HwsimError, match=r"'eyeriss-v1' has no link that joins 2 devices"):
        fabric_of(device("eyeriss-v1"), 2)


def test_an_unknown_collective_names_the_known_ones() -> None:
    with pytest.raises(HwsimError, match=r"no collective 'allreduce'.*did you mean 'all_reduce'"):
        wire_byte("allreduce", 1.0, 2)


def test_measured_collectives_above_a_megabyte_are_met_by_a_fit_on_other_devices(shared_folder: Path) -> None:
    """Of devices the fit never saw; the shipped page holds every device."""
    from hwsim.fitting_links import FITTED_ON, draw, errors_of, fit_links, halves

    samples = draw(shared_folder / "measurements", FITTED_ON)
    unseen = ("a100-80gb-sxm", "b200")
    fitted, _ = halves([one for one in samples if one.key[1] not in unseen])
    values = fit_links(fitted)
    errors = errors_of(values, [one for one in samples if one.key[1] in unseen])
    large = np.concatenate([np.abs(np.expm1(e[b > 1e6])) for e, b in errors.values()])
    assert large.size > 1000
    assert np.median(large) < 0.15
