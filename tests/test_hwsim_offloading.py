"""What lies in the memory or on the drive of a host: bytes over the link, time beside the work, memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hwsim
from devices import device
from graphs.errors import GraphError
from graphs.parallel import Parallel
from hwsim.errors import HwsimError


def priced(offload: str = "none", phase: str = "decode", **changes: Any) -> hwsim.Estimate:
    sizes = {"batch": 4, "dtype": "fp16"} | ({"context": 512} if phase == "decode" else {"seq": 128})
    found: hwsim.Estimate = hwsim.estimate(
        "gpt2", "rtx-a6000", phase=phase, parallel={"offload": offload}, overrides=changes, **sizes
    )
    return found


def sent(found: hwsim.Estimate) -> float:
    return float(found.energy_by_j["link"]) / 8e-11  # the link's energy of a byte, see network.toml


def test_off_loaded_weights_leave_two_blocks_on_the_device() -> None:
    here, away = priced(), priced("weights")
    assert away.memory_bytes["weights"] == 0
    assert away.memory_bytes["offloaded"] == here.memory_bytes["weights"]
    block = 2 * 12 * 768 * 768  # bytes in fp16 of the products of one of twelve blocks
    head = 2 * 50257 * 768
    buffers = float(away.memory_bytes["activations"] - here.memory_bytes["activations"])
    assert head <= buffers <= head + 2 * 1.01 * block
    assert away.peak_memory_bytes < here.peak_memory_bytes


def test_every_weight_crosses_the_link_once_a_token() -> None:
    weights = float(priced().memory_bytes["weights"])
    rows = 2 * (1024 - 1) * 768  # of the position table, one row is read
    assert sent(priced("weights")) == pytest.approx(weights - rows, rel=1e-3)


def test_the_cache_is_read_and_its_new_tokens_are_written_back() -> None:
    per_token = 2 * 2 * 4 * 12 * 768  # keys and values in fp16 of four sequences over twelve layers
    assert sent(priced("kv")) == pytest.approx(per_token * (513 + 1), rel=1e-6)


def test_work_hides_the_stream_as_far_as_it_is_long_enough() -> None:
    rates = np.geomspace(1e8, 1e15, 8)
    found = priced("weights", **{"device.links.pcie.bandwidth": rates})
    waited = np.asarray(found.breakdown_s["communication"])
    assert np.all(np.diff(found.latency_s) <= 0)
    assert waited[-1] == 0
    reached = 0.86361  # of a host link's rate, network.toml
    stream_s = sent(priced("weights")) / (rates[0] * reached)
    work_s = float(found.breakdown_s["compute"][0] + found.breakdown_s["memory"][0])
    assert waited[0] == pytest.approx(stream_s - work_s, rel=2e-2)


def test_a_drive_is_never_faster_than_the_memory_before_it() -> None:
    drives = np.array([1e9, 7e9, 1e12])
    found = priced("weights:nvme", **{"device.memory.nvme.bandwidth": drives})
    assert np.all(np.diff(found.latency_s) < 0)
    assert found.latency_s[-1] == pytest.approx(priced("weights").latency_s)


def test_devices_of_a_host_share_its_drive_and_not_their_links() -> None:
    one, two = (
        hwsim.estimate(
            "gpt2", "dgx-h100", phase="decode", batch=1, context=64,
            parallel={"tp": 2, "offload": f"weights:{place}"},
        )
        for place in ("host", "nvme")
    )  # fmt: skip
    alone = hwsim.estimate(
        "gpt2", "dgx-h100", phase="decode", batch=1, context=64, parallel={"offload": "weights"}
    )
    assert one.latency_s < 0.6 * alone.latency_s
    assert two.latency_s > 4 * one.latency_s


def test_states_of_an_optimizer_come_and_go_once_a_step() -> None:
    here, away = priced(phase="train"), priced("optimizer", "train")
    states = float(here.memory_bytes["optimizer"])
    assert away.memory_bytes["offloaded"] == states
    assert sent(away) == pytest.approx(2 * states, rel=1e-6)
    assert away.peak_memory_bytes < here.peak_memory_bytes


def test_weights_are_fetched_for_both_passes_of_a_step_and_sent_back_once() -> None:
    away = priced("weights", "train")
    weights = float(away.memory_bytes["offloaded"])
    assert sent(away) == pytest.approx(3 * weights, rel=0.02)


def test_where_things_lie_is_an_axis_of_a_sweep() -> None:
    found = hwsim.sweep(
        {
            "model": "gpt2", "phase": "decode", "device": "rtx-a6000", "set": {"batch": 4},
            "axes": {"parallel.offload": ["none", "weights", "weights:nvme"], "parallel.tp": [1, 2]},
            "columns": ["latency", "devices", "offloaded_bytes", "bubble_s", "shortfall_bytes"],
        }
    )  # fmt: skip
    alone = found["devices"] == 1
    assert np.all(np.diff(found["latency_s"][alone]) > 0)
    away = found["offloaded_bytes"]
    assert away[alone].tolist() == [0.0, away[alone][1], away[alone][1]]
    assert np.all(away[~alone] < 0.6 * away[alone] + 1)
    assert not found["bubble_s"].any()
    assert not found["shortfall_bytes"].any()


@pytest.mark.parametrize(
    ("offload", "message"),
    [
        ("wights", "offload='wights' is not possible; name each of weights, kv, optimizer at most once"),
        ("kv:disk", "offload='kv:disk' is not possible"),
        ("kv+kv", r"offload='kv\+kv' is not possible"),
        ("optimizer", "offload=optimizer: gpt2 holds no optimizer in phase decode"),
    ],
)
def test_what_cannot_lie_elsewhere_is_one_line(offload: str, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        priced(offload)


def test_a_device_without_a_host_says_so() -> None:
    with pytest.raises(HwsimError, match="device 'jetson-nano' has no link to a host"):
        hwsim.estimate("gpt2", "jetson-nano", parallel={"offload": "weights"})


def test_every_card_with_a_host_link_knows_a_drive_and_its_source() -> None:
    card = device("l40s")
    assert card.host_link == "pcie"
    assert card.memory.nvme is not None
    assert card.sources["memory.nvme"] == "assumed: one PCIe 4.0 x4 drive (devices/hosts.toml)"
    assert card.replace(**{"memory.nvme.bandwidth": "14 GB/s"}).memory.nvme.bandwidth_byte_per_s == 14e9  # type: ignore[union-attr]


def test_layouts_name_what_is_off_loaded() -> None:
    assert Parallel(offload="weights:nvme+kv").offloaded == {"weights": "nvme", "kv": "host"}
    assert str(Parallel(offload="kv")) == "offload=kv"
