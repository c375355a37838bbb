"""Devices that run some operators only: what goes to the host, what crossing costs, and that all adds up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import devices
import hwsim
from devices import Device, DeviceError
from devices.device import Host
from graphs.expressions import number, product, symbol
from graphs.ir import (
    ACTIVATION,
    DEVICE,
    HOST,
    INPUT,
    WEIGHT,
    Operator,
    OperatorGraph,
    OpNode,
    SizeSymbol,
    Storage,
    TensorSpec,
)  # fmt: skip
from graphs.passes.placing import Border, place
from hwsim.estimating import estimate
from hwsim.result import Estimate
from tests.toys import toy

OWN = Host(
    device="raspberry-pi-4", accelerated=("gemm:weight", "relu"), dtype="fp32", shares_memory=False,
    bandwidth_byte_per_s=1e9, latency_s=1e-5,
)  # fmt: skip
SHARED = replace(OWN, shares_memory=True, bandwidth_byte_per_s=None, latency_s=None)
SIZES = {"m": 64, "k": 256}


def chain(dtype: str = "fp16") -> OperatorGraph:
    """x W, relu, gelu, times W: the middle is a product, an op named, an op not named."""
    m, k = symbol("m"), symbol("k")

    def spec(shape: Any, role: str) -> TensorSpec:
        return TensorSpec(shape, dtype, role, product(shape))

    x, w, hidden = spec((m, k), INPUT), spec((k, k), WEIGHT), spec((m, k), ACTIVATION)
    dims = (("b", number(1)), ("m", m), ("n", k), ("k", k))

    def gemm(left: TensorSpec) -> Operator:
        return Operator("gemm", "aten.mm", dims, (left, w), (hidden,))

    def pointwise(name: str) -> Operator:
        return Operator("pointwise", f"aten.{name}", (), (hidden,), (hidden,))

    steps = (gemm(x), pointwise("relu"), pointwise("gelu"), gemm(hidden))
    nodes = tuple(
        OpNode(one, (at + 1, 0) if one.kind == "gemm" else (at + 1,), (at + 2,), 0, at)
        for at, one in enumerate(steps)
    )
    stored = [Storage(w.elements, dtype, WEIGHT, -1, 4, 4, "w"), Storage(x.elements, dtype, INPUT, -1, 0, 4)]
    stored += [Storage(hidden.elements, dtype, ACTIVATION, at, at + 1, at + 1) for at in range(4)]
    return OperatorGraph(
        model="chain", phase="forward", dtype=dtype,
        symbols=tuple(SizeSymbol(name=n, default=number(1), minimum=number(1)) for n in ("m", "k")),
        guards=(), nodes=nodes, storages=tuple(stored), modules=("",), provenance={},
    )  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> Device:
    return toy(tmp_path, "systolic")


def priced(device: Device, **more: Any) -> Estimate:
    found = estimate(chain(), device, stack="compiled", **{**SIZES, **more})
    assert isinstance(found, Estimate)
    return found


def test_what_is_not_named_goes_to_the_host_and_values_are_converted_there() -> None:
    dealt = place(chain(), Border(accelerated=frozenset(OWN.accelerated), dtype="fp32"))
    told = [(node.operator.name.rpartition(".")[2], node.place) for node in dealt.nodes]
    assert told == [
        ("fp32_to_fp16", HOST), ("send", DEVICE), ("mm", DEVICE), ("relu", DEVICE),
        ("send", DEVICE), ("fp16_to_fp32", HOST), ("gelu", HOST),
        ("fp32_to_fp16", HOST), ("send", DEVICE), ("mm", DEVICE), ("send", DEVICE), ("fp16_to_fp32", HOST),
    ]  # fmt: skip
    assert {spec.dtype for spec in dealt.nodes[6].operator.inputs} == {"fp32"}
    sent = dealt.nodes[4].operator.inputs[0]
    assert sent.dtype == "fp16"  # over the link in the narrower of the two


def test_a_value_crosses_once_however_many_read_it() -> None:
    graph = chain()
    last = graph.nodes[-1]
    twice = graph.with_nodes((*graph.nodes, replace(last, at=4)))
    dealt = place(twice, Border(accelerated=frozenset(OWN.accelerated), dtype="fp32"))
    sent = [node.operator.name for node in dealt.nodes].count("send")
    assert sent == 3  # x, what GELU reads, what both products read; the longer graph gives no result


def test_nothing_is_sent_in_shared_memory_and_nothing_converted_in_one_dtype() -> None:
    border = Border(accelerated=frozenset(OWN.accelerated), dtype="fp16", sends=False)
    assert len(place(chain(), border).nodes) == 4


def test_parts_and_rows_add_up_with_a_host(machine: Device) -> None:
    found = priced(replace(machine, host=OWN))
    assert sum(found.breakdown_s.values()) == pytest.approx(found.latency_s, rel=1e-12)
    assert sum(row.latency_s for row in found.ops) == pytest.approx(found.latency_s, rel=1e-12)
    assert sum(row.energy_j for row in found.ops) == pytest.approx(found.energy_j, rel=1e-9)
    assert {row.place for row in found.ops} == {DEVICE, HOST}
    assert found.energy_by_j["host"] > 0
    assert found.breakdown_s["communication"] > 4 * 1e-5
    assert "toy-systolic does not run gelu: 1 kernels run on its host raspberry-pi-4" in found.warnings[-1]


def test_a_device_that_runs_all_in_shared_memory_is_as_one_without_a_host(machine: Device) -> None:
    everything = replace(SHARED, accelerated=("gemm", "pointwise"), dtype="fp16")
    alone, hosted = priced(machine), priced(replace(machine, host=everything))
    assert hosted.latency_s == alone.latency_s
    assert hosted.energy_j == alone.energy_j
    assert hosted.warnings == alone.warnings


def test_a_faster_border_is_never_slower_and_traffic_of_the_cpu_never_helps(machine: Device) -> None:
    rates = np.array([1e8, 1e9, 1e10])
    seconds = priced(replace(machine, host=OWN), overrides={"device.host.bandwidth": rates}).latency_s
    assert np.all(np.diff(seconds) < 0)
    one = priced(replace(machine, host=OWN), overrides={"device.host.bandwidth": 1e9}).latency_s
    assert seconds[1] == pytest.approx(one, rel=1e-12)
    taken = np.array([0.0, 4e10, 9e10])
    busy = priced(replace(machine, host=SHARED), m=1, overrides={"device.host.traffic": taken}).latency_s
    assert np.all(np.diff(busy) > 0)


def test_traffic_that_takes_all_bandwidth_is_refused(machine: Device) -> None:
    with pytest.raises(hwsim.HwsimError, match=r"host\.traffic of 'toy-systolic' takes all"):
        priced(replace(machine, host=SHARED), overrides={"device.host.traffic": 1e11})


def test_cooling_slows_what_the_boards_limit_would_allow(machine: Device) -> None:
    sizes = {"m": 4096, "k": 4096}
    free = priced(machine, **sizes)
    capped = priced(machine, **sizes, overrides={"device.power.sustained": 0.85 * free.average_power_w})
    same = priced(machine, **sizes, overrides={"device.power.limit": 0.85 * free.average_power_w})
    assert capped.latency_s > free.latency_s
    assert capped.latency_s == same.latency_s
    assert capped.average_power_w <= 0.85 * free.average_power_w * (1 + 1e-6)


BORDER = '[host]\ndevice = "raspberry-pi-4"\naccelerated = ["conv"]\ndtype = "fp32"\nsource = "made up"\n'


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('memory = "own"', "how fast values cross"),
        ('memory = "own"\nbandwidth = "1 GB/s"\ntraffic = "1 GB/s"', "is of shared memory"),
        ('memory = "shared"\nlatency = "1 us"', "nothing is sent"),
    ],
)
def test_borders_that_contradict_themselves_are_refused(tmp_path: Path, more: str, said: str) -> None:
    text = Path(devices.__file__).with_name("coral-edge-tpu.toml").read_text(encoding="utf-8")
    start = text.index("[host]")
    path = tmp_path / "wrong.toml"
    path.write_text(text[:start] + f"{BORDER}{more}\n\n" + text[text.index("[power]") :], encoding="utf-8")
    with pytest.raises(DeviceError, match=said):
        devices.device(str(path))


def test_a_host_that_has_a_host_is_refused(machine: Device) -> None:
    with pytest.raises(hwsim.HwsimError, match="which has a host itself"):
        priced(replace(machine, host=replace(OWN, device="coral-edge-tpu")))


@pytest.mark.parametrize("one", [d for d in devices.devices() if d.host], ids=lambda d: d.id)
def test_every_profile_with_a_border_names_a_host_that_runs_everything(one: Device) -> None:
    assert one.host is not None
    assert devices.device(one.host.device).host is None
    assert one.sources["host"]


@pytest.mark.needs_torch
def test_memory_that_computes_beats_its_host_at_one_sequence_and_not_at_many() -> None:
    def seconds(device: str, batch: int) -> float:
        found = hwsim.estimate("gpt2", device, phase="decode", dtype="bf16", batch=batch, context=256)
        return float(found.latency_s - found.breakdown_s["overhead"] - found.breakdown_s["communication"])

    assert seconds("gddr6-aim", 1) < 0.7 * seconds("xeon-8480plus", 1)
    assert seconds("gddr6-aim", 256) > seconds("xeon-8480plus", 256)


@pytest.mark.needs_torch
def test_machines_with_weights_in_sram_touch_no_dram_and_say_when_weights_do_not_fit() -> None:
    small = hwsim.estimate("gpt2", "cerebras-wse-3", phase="decode", context=64)
    assert small.fits
    assert small.dram_bytes == 0
    assert small.energy_by_j["dram"] == 0
    assert small.bytes_by_level["onchip"] > 2 * small.params
    assert small.main_bytes > 2 * small.params
    assert not any("SRAM" in warning for warning in small.warnings)
    large = hwsim.estimate("gpt2", "groq-tsp", phase="decode", dtype="fp16", context=64)
    assert not large.fits
    assert any("holds everything in SRAM and this needs" in warning for warning in large.warnings)
