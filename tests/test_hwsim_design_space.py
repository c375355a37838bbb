"""Area, peak power, process nodes and carbon in estimates and sweeps."""

from __future__ import annotations

import numpy as np
import pytest

import hwsim
from devices.area import area_mm2, peak_w
from tests.toys import gemm_graph

SIZES = {"b": 1, "m": 512, "n": 512, "k": 512}


def test_area_and_peak_power_constrain_a_sweep() -> None:
    spec = {
        "model": "bert-base", "device": "gemmini", "dtype": "int8", "stack": "engine",
        "where": ["area_mm2 < 2", "tdp < 3W"], "columns": ["latency", "area_mm2", "tdp_w"],
        "axes": {
            "device.compute.array.rows, device.compute.array.columns": [16, 64, 128],
            "device.process": ["22 nm", "7 nm"],
        },
    }  # fmt: skip
    found = hwsim.sweep(spec)
    rows, nodes = found["device.compute.array.rows"], found["device.process"]
    for side, node, area, watts, feasible in zip(
        rows, nodes, found["area_mm2"], found["tdp_w"], found["feasible"], strict=True
    ):
        one = hwsim.device("gemmini").replace(
            **{"compute.array.rows": side, "compute.array.columns": side, "process": node}
        )
        assert (area, watts) == pytest.approx((area_mm2(one), peak_w(one)))
        assert feasible == (area < 2 and watts < 3)
    assert 0 < np.sum(found["feasible"]) < len(rows)


def test_carbon_is_energy_times_what_the_grid_emits() -> None:
    made = hwsim.estimate(
        gemm_graph("fp16"), "l4", overrides={"device.carbon.intensity": "360 g/kWh"}, **SIZES
    )
    assert made.carbon_g == pytest.approx(made.energy_j / 3.6e6 * 360)
    assert made.to_dict()["carbon_g"] == made.carbon_g


def test_without_a_grid_there_is_no_carbon() -> None:
    assert hwsim.estimate(gemm_graph("fp16"), "l4", **SIZES).carbon_g is None


def test_a_smaller_node_saves_energy_and_takes_the_same_time() -> None:
    nodes = np.array([28.0, 16.0, 7.0])
    made = hwsim.estimate(gemm_graph("fp16"), "gemmini", overrides={
        "device.process": nodes, "device.power.limit": "1 kW"}, **SIZES)  # fmt: skip
    assert np.all(np.diff(made.energy_by_j["compute"]) < 0)
    assert np.all(made.latency_s == made.latency_s[0])
