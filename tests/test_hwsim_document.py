"""The JSON contract of an estimate."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from tests.estimates import bert_on

CONTRACT = {
    "schema": None,
    "model": None,
    "device": None,
    "workload": {"phase", "sizes", "dtype", "stack", "parallel", "training"},
    "latency_s": {"value", "low", "high"},
    "breakdown_s": {"compute", "memory", "overhead", "communication", "power"},
    "energy_j": {"value", "dynamic", "static", "by"},
    "average_power_w": None,
    "bytes_by_level": {"dram", "onchip"},
    "memory_bytes": {
        *("weights", "activations", "kv_cache", "gradients", "optimizer"),
        *("reserve", "total", "capacity", "fits", "shortfall"),
    },
    "changes_that_fit": None,
    "flops": None,
    "flops_executed": None,
    "macs": None,
    "params": None,
    "dram_bytes": None,
    "arithmetic_intensity": None,
    "mfu": None,
    "hfu": None,
    "mbu": None,
    "bound": None,
    "throughput": {"samples_per_s", "tokens_per_s"},
    "cost_usd": None,
    "carbon_g": None,
    "ops": None,
    "warnings": None,
    "provenance": {"graph", "device", "calibration", "version", "tier", "coverage"},
}


def test_the_document_has_the_keys_of_the_contract_and_no_others() -> None:
    document = json.loads(bert_on("h100-sxm").to_json())
    assert set(document) == set(CONTRACT)
    for key, inner in CONTRACT.items():
        if inner is not None:
            assert set(document[key]) == inner, key
    assert set(document["energy_j"]["by"]) == {"compute", "onchip", "dram", "link", "static"}
    assert document["schema"] == "hwsim.estimate/1"
    assert document["memory_bytes"]["fits"] is True


def test_operator_rows_are_listed_longest_first() -> None:
    ops = bert_on("h100-sxm").to_dict()["ops"]
    assert [op["name"] for op in ops] == ["linear", "layer_norm", "attention", "embedding"]
    assert ops[0]["modules"] == [
        {"module": "layers.*.mlp.up", "runs": 12},
        {"module": "layers.*.mlp.down", "runs": 12},
    ]
    assert bert_on("h100-sxm").to_dict(ops=False)["ops"] == []


def test_what_is_absent_or_not_a_number_is_null() -> None:
    estimate = bert_on("h100-sxm", tokens=None, clock_scale=float("nan"), latency_s=float("inf"))
    document = json.loads(replace(estimate, energy_by_j={"dram": 1.0, "static": 0.0}).to_json())
    assert document["throughput"]["tokens_per_s"] is None
    assert document["latency_s"]["value"] is None
    assert document["energy_j"]["by"]["link"] is None


def test_arrays_become_nested_lists() -> None:
    estimate = bert_on(
        "h100-sxm",
        latency_s=np.array([[1e-3, np.nan], [2e-3, 4e-3]]),
        memory_bytes={"total": np.array([[1.0, 3.0], [1.0, 1.0]]), "capacity": 2.0},
        breakdown_s={"compute": np.array([[2.0, 1.0], [3.0, 1.0]]), "memory": np.full((2, 2), 1.5)},
        sizes={"batch": np.array([1.0, 2.0]), "seq": np.float64(512)},
    )
    document = json.loads(estimate.to_json())
    assert document["latency_s"]["value"] == [[1e-3, None], [2e-3, 4e-3]]
    assert document["throughput"]["samples_per_s"] == [[1000.0, None], [500.0, 250.0]]
    assert document["memory_bytes"]["fits"] == [[True, False], [True, True]]
    assert document["bound"] == [["compute", "memory"], ["compute", "memory"]]
    assert document["workload"]["sizes"] == {"batch": [1.0, 2.0], "seq": 512.0}
    assert document["ops"] == []
