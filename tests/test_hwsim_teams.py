"""Models on devices of their own that work at once, and what joins them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import cli
import hwsim
from devices import device
from hwsim.errors import HwsimError
from hwsim.teams import Member, Team

SUB = Member(model="ed-vit-b-10", device="raspberry-pi-4", count=10)
JOIN = Member(model="ed-vit-b-10-fusion", device="raspberry-pi-4")


def ten(link: str | None = "ethernet", **sizes: object) -> Team:
    return hwsim.team([SUB], join=JOIN, link=link, stack="engine", **sizes)


def test_time_is_the_slowest_member_the_transfer_and_the_join() -> None:
    found = ten()
    alone = hwsim.estimate("ed-vit-b-10", "raspberry-pi-4", stack="engine")
    join = hwsim.estimate("ed-vit-b-10-fusion", "raspberry-pi-4", stack="engine")
    assert found.transfer_byte == 10 * 128 * 4  # a class token of each
    assert found.latency_s == pytest.approx(alone.latency_s + found.transfer_s + join.latency_s)
    assert found.devices == 10
    assert found.energy_j > 10 * alone.energy_j


def test_a_slow_member_keeps_the_others_waiting() -> None:
    quick = Member(model="ed-vit-b-10", device="jetson-nano", count=5)
    slow = Member(model="ed-vit-b-10", device="raspberry-pi-4", count=5)
    mixed, alike = (hwsim.team(parts, join=JOIN) for parts in ([quick, slow], [slow]))
    assert mixed.link == "ethernet"
    assert mixed.latency_s == pytest.approx(alike.latency_s)
    assert mixed.energy_j > alike.energy_j


def test_ten_boards_are_never_more_than_ten_times_their_share_as_fast() -> None:
    whole = hwsim.estimate("ed-vit-original", "raspberry-pi-4", stack="engine")
    found = ten()
    work = whole.flops / (10 * found.members[0][0].flops)
    assert whole.latency_s / found.latency_s <= 10 * work * 1.05


def test_radio_is_slower_than_a_wire_and_shared_by_all_that_send() -> None:
    assert ten("wifi").transfer_s > ten("ethernet").transfer_s
    radio, wire = (
        hwsim.estimate("ed-vit-original", machine, stack="engine", parallel={"tp": 4})
        for machine in ("raspberry-pi-wifi", "raspberry-pi-cluster")
    )
    rates = {name: link.bandwidth_byte_per_s for name, link in device("raspberry-pi-4").links.items()}
    slower = float(radio.breakdown_s["communication"] / wire.breakdown_s["communication"])
    assert slower > rates["ethernet"] / rates["wifi"]


def test_sizes_may_be_arrays() -> None:
    found = ten(batch=np.array([1.0, 4.0]))
    assert np.shape(found.latency_s) == (2,)
    assert found.transfer_byte.tolist() == [5120.0, 20480.0]


def test_without_a_join_nothing_is_sent() -> None:
    found = hwsim.team([SUB], stack="engine")
    assert found.latency_s == found.members_s
    assert found.to_dict()["join"] is None


def test_the_command_prints_the_parts_and_their_sum() -> None:
    words = ["team", "ed-vit-b-10@raspberry-pi-4*10", "--join", "ed-vit-b-10-fusion@raspberry-pi-4"]
    result = CliRunner().invoke(cli.app, [*words, "--stack", "engine", "--over", "ethernet"])
    assert result.exit_code == 0, result.stderr
    assert "5.12 kB over ethernet" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    document = json.loads(CliRunner().invoke(cli.app, [*words, "--stack", "engine", "--json"]).stdout)
    assert document["schema"] == "hwsim.team/1"
    assert document["latency_s"] == pytest.approx(sum(document["breakdown_s"].values()))
    assert document["latency_s"] == pytest.approx(float(ten().latency_s))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ed-vit-b-10", "'ed-vit-b-10' is no member; write MODEL@DEVICE"),
        ("ed-vit-b-10@raspberry-pi-4*x", "is no member"),
        ("ed-vit-b-10@raspberry-pi-4*0", "0 devices of a member are not possible"),
    ],
)
def test_a_member_is_read_from_its_text(text: str, message: str) -> None:
    with pytest.raises(HwsimError, match=message):
        Member.read(text)


def test_a_link_that_a_device_lacks_is_one_line() -> None:
    with pytest.raises(HwsimError, match=r"has no link 'ether'; did you mean 'ethernet'\?"):
        ten("ether")
    with pytest.raises(HwsimError, match="no link class joins h100-sxm, raspberry-pi-4"):
        hwsim.team([Member(model="ed-vit-b-10", device="h100-sxm")], join=JOIN)
    with pytest.raises(HwsimError, match="a team without members does nothing"):
        hwsim.team([])
