"""Clusters: tiers of groups, and what a cluster file may not say."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest

from devices import Cluster, DeviceError, cluster, clusters, device, devices
from devices.cluster import is_cluster

ALL = clusters()
TOY = """
name = "Toy"
device = "t4"
count = 8
source = "made up for tests"

[[tiers]]
name = "host"
link = "pcie"
devices = 4
source = "made up for tests"

[[tiers]]
name = "room"
link = "ethernet"
devices = 8
bandwidth = "1 GB/s"
latency = "50 us"
topology = "switch"
source = "made up for tests"
"""


def each() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("one", ALL, ids=[one.id for one in ALL])


def write(folder: Path, text: str) -> str:
    path = folder / "toy.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_clusters_that_people_ask_for_are_there() -> None:
    ids = {one.id for one in ALL}
    assert {"dgx-h100", "dgx-a100", "tpu-v4-4x4x4", "4x-rtx-4090", "64x-p100-infiniband"} <= ids
    assert "raspberry-pi-cluster" in ids
    assert not ids & {one.id for one in devices()}


@each()
def test_tiers_nest_and_the_last_joins_every_device(one: Cluster) -> None:
    sizes = [tier.devices for tier in one.tiers]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == one.count
    assert all(outer % inner == 0 for inner, outer in pairwise(sizes))
    assert all(not tier.shape or math.prod(tier.shape) == tier.devices for tier in one.tiers)


@each()
def test_links_further_out_are_never_faster_nor_nearer(one: Cluster) -> None:
    rates = [tier.bandwidth_byte_per_s for tier in one.tiers]
    latencies = [tier.latency_s for tier in one.tiers if tier.latency_s is not None]
    assert rates == sorted(rates, reverse=True)
    assert latencies == sorted(latencies)


@each()
def test_every_tier_and_host_has_a_source_and_every_cluster_a_date(one: Cluster) -> None:
    assert all(len(tier.source) > 10 for tier in one.tiers)
    assert one.host is None or len(one.host.source) > 10
    assert one.source
    assert one.date >= "2026"


@each()
def test_a_link_of_the_device_is_not_outdone_by_its_cluster(one: Cluster) -> None:
    for tier in one.tiers:
        if tier.link in one.device.links:
            assert tier.bandwidth_byte_per_s <= float(one.device.links[tier.link].bandwidth_byte_per_s)


def test_a_node_has_the_links_of_its_cards() -> None:
    node = cluster("dgx-h100")
    assert (node.device, node.count) == (device("h100-sxm"), 8)
    (tier,) = node.tiers
    assert (tier.link, tier.bandwidth_byte_per_s, tier.topology) == ("nvlink", 450e9, "switch")
    assert node.host is not None
    assert node.host.memory_byte == 2e12


def test_the_innermost_tier_that_holds_a_group_joins_it() -> None:
    pods = cluster("dgx-a100-superpod")
    assert pods.tier_for(1).name == pods.tier_for(8).name == "node"
    assert pods.tier_for(9).bandwidth_byte_per_s == 25e9
    with pytest.raises(DeviceError, match="9 devices in cluster 'dgx-a100': it has 1 to 8"):
        cluster("dgx-a100").tier_for(9)


def test_a_file_becomes_a_cluster(tmp_path: Path) -> None:
    path = write(tmp_path, TOY)
    assert is_cluster(path)
    toy = cluster(path)
    assert [tier.bandwidth_byte_per_s for tier in toy.tiers] == [15.75e9, 1e9]
    assert toy.tiers[1].latency_s == pytest.approx(50e-6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('device = "t4"', 'device = "t44"', "no device 't44'"),
        ("count = 8", "count = 16", "toy.toml: the last tier joins 8 of 16 devices; it must join all"),
        (
            "devices = 4",
            "devices = 3",
            "toy.toml: tier 'room': groups of 8 are not made of whole groups of 3",
        ),
        (
            'link = "pcie"',
            'link = "nvlink"',
            "tier 'host': link 'nvlink': 't4' has no such link; give bandwidth",
        ),
        ("devices = 4", "devices = 4\nshape = [3, 2]", "tier 'host': 3 x 2 is not 4 devices"),
        ("latency", "latancy", "unknown key 'tiers.1.latancy'; did you mean 'latency'?"),
        ('"1 GB/s"', '"1 GB"', "toy.toml: tiers.1.bandwidth: '1 GB' is not a byte_per_s"),
        ('switch"\nsource = "made up for tests"', 'switch"', "tiers.1 has no source; say where"),
    ],
)
def test_a_bad_cluster_is_refused_with_file_key_and_rule(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in TOY
    with pytest.raises(DeviceError) as refused:
        cluster(write(tmp_path, TOY.replace(old, new)))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_cluster_names_a_near_one() -> None:
    with pytest.raises(DeviceError, match="no cluster 'dgx-h1000'; did you mean 'dgx-h100'"):
        cluster("dgx-h1000")


def test_a_cluster_asked_for_as_one_device_says_what_it_is() -> None:
    with pytest.raises(DeviceError, match="'dgx-h100' is a cluster of 8 h100-sxm"):
        device("dgx-h100")


def test_aliases_of_clusters_are_found() -> None:
    assert cluster("selene").id == "dgx-a100-superpod"
    assert is_cluster("SELENE")
    assert not is_cluster("t4")
