"""What-ifs: a device with values at paths changed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from devices import DeviceError, device


def test_a_path_takes_text_or_an_si_number() -> None:
    h100 = device("h100-sxm")
    by_text = h100.replace(**{"memory.dram.bandwidth": "4 TB/s"})
    by_number = h100.replace(**{"memory.dram.bandwidth": 4e12})
    assert by_text == by_number != h100
    assert by_text.memory.dram is not None
    assert by_text.memory.dram.bandwidth_byte_per_s == 4e12
    assert h100.memory.dram is not None
    assert h100.memory.dram.bandwidth_byte_per_s == 3.35e12


def test_an_array_makes_many_machines_at_once() -> None:
    points = np.array([1e12, 2e12, 3e12])
    many = device("h100-sxm").replace(**{"compute.matrix.bf16": points, "power.limit": [300, 500, 700]})
    used, rate = many.peak("bf16")
    assert used == "bf16"
    assert np.array_equal(rate, points)
    assert np.array_equal(many.power.limit_w, [300.0, 500.0, 700.0])


def test_every_listed_path_can_be_replaced() -> None:
    for id in ("h100-sxm", "tpu-v4", "eyeriss-v1", "raspberry-pi-4", "mi300x"):
        one = device(id)
        for path in one.paths():
            assert one.replace(**{path: 123.0}) != one, path


def test_more_units_bring_their_peaks_and_caches_with_them() -> None:
    h100 = device("h100-sxm")
    double = h100.replace(**{"compute.units": 264})
    assert double.peak("bf16")[1] == 2 * 989.4e12
    assert double.memory.units == 264.0
    assert h100.memory.l1 is not None
    assert double.memory.l1 is not None
    assert double.memory.l1.bandwidth_byte_per_s == 2 * h100.memory.l1.bandwidth_byte_per_s  # type: ignore[operator]  # given
    assert double.memory.l2 == h100.memory.l2
    assert double.memory.dram == h100.memory.dram


def test_a_faster_clock_speeds_up_all_that_is_clocked() -> None:
    t4 = device("t4")
    fast = t4.replace(**{"compute.clock": 2 * 1590e6})
    assert fast.peak("fp16")[1] == 130e12
    assert fast.vector_peak("fp32")[1] == 16.2e12
    assert fast.compute.boost_clock_hz == 2 * 1590e6
    assert fast.memory.dram == t4.memory.dram


def test_a_larger_array_has_a_larger_peak() -> None:
    tpu = device("tpu-v4").replace(**{"compute.array.rows": 256, "compute.array.columns": 256})
    assert tpu.peak("bf16")[1] == 4 * 275e12
    eyeriss = device("eyeriss-v1").replace(**{"compute.array.rows": np.array([12, 24])})
    assert np.array_equal(eyeriss.compute.units, [168.0, 336.0])
    assert np.array_equal(eyeriss.memory.units, [168.0, 336.0])


def test_a_peak_named_in_the_same_call_is_not_scaled() -> None:
    one = device("h100-sxm").replace(**{"compute.units": 264, "compute.matrix.bf16": "1000 TFLOP/s"})
    assert one.peak("bf16") == ("bf16", 1e15)
    assert one.peak("fp16") == ("fp16", 2 * 989.4e12)


def test_a_device_can_be_given_a_dtype_it_lacks() -> None:
    assert device("h100-sxm").replace(**{"compute.matrix.int4": "4 POP/s"}).peak("int4") == ("int4", 4e15)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "memory.dram.bandwith",
            1.0,
            "no path 'memory.dram.bandwith' in this device; did you mean 'memory.dram.band",
        ),
        ("memory.l3.capacity", "1 MB", "no path 'memory.l3.capacity'"),
        (
            "compute.matrix.fp17",
            1.0,
            "no path 'compute.matrix.fp17' in this device; did you mean 'compute.matrix.fp",
        ),
        (
            "memory.dram.bandwidth",
            float("nan"),
            "memory.dram.bandwidth = nan: every value must be finite and above",
        ),
        ("memory.dram.bandwidth", [1e12, -1.0], "every value must be finite and above zero"),
        ("memory.dram.bandwidth", [1e12, float("inf")], "every value must be finite and above zero"),
        ("memory.dram.bandwidth", [], "memory.dram.bandwidth is an empty array"),
        ("memory.dram.bandwidth", 0, "every value must be finite and above zero"),
        ("memory.dram.bandwidth", "4 TB", "memory.dram.bandwidth: '4 TB' is not a byte_per_s"),
        ("memory.dram.bandwidth", None, "memory.dram.bandwidth = None"),
        ("memory.dram.bandwidth", [[1], [2, 3]], "is no number, text with a unit, or array"),
        ("power.limit", "-5 W", "power.limit: '-5 W' is negative"),
    ],
)
def test_a_bad_change_is_refused_in_one_line(path: str, value: object, message: str) -> None:
    with pytest.raises(DeviceError) as refused:
        device("h100-sxm").replace(**{path: value})
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_static_power_and_energy_may_be_zero() -> None:
    quiet = device("t4").replace(**{"energy.static": 0, "memory.dram.energy": 0.0})
    assert quiet.energy.static_w == 0.0


def test_the_fingerprint_follows_values_and_not_prose() -> None:
    t4 = device("t4")
    assert t4.fingerprint() == device("Tesla T4").fingerprint()
    assert t4.replace(**{"power.limit": 71}).fingerprint() != t4.fingerprint()
    points = np.array([70.0, 71.0])
    assert t4.replace(**{"power.limit": points}) == t4.replace(**{"power.limit": points.copy()})
    assert t4.replace(**{"power.limit": points}) != t4.replace(**{"power.limit": points[::-1]})


def test_a_device_survives_pickling() -> None:
    t4 = device("t4")
    assert pickle.loads(pickle.dumps(t4)) == t4
    assert hash(pickle.loads(pickle.dumps(t4))) == hash(t4)
