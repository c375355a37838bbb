"""Chrome traces of torch.profiler as measurements: kernels go to operators, and nothing is dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwsim.errors import HwsimError
from hwsim.measurements.predicting import predict, questions_of
from hwsim.measurements.table import read_table
from hwsim.measurements.torch_trace import NO_OPERATOR


def event(name: str, cat: str, ts: float, dur: float, **args: Any) -> dict[str, Any]:
    return {"ph": "X", "name": name, "cat": cat, "ts": ts, "dur": dur, "tid": 1, "args": args}


def operator(name: str, ts: float, dur: float, *shapes: list[int], id: int = 0) -> dict[str, Any]:
    told = {"Input Dims": [*shapes], "Input type": ["float"] * len(shapes), "External id": id}
    return event(name, "cpu_op", ts, dur, **told)


def write(path: Path, *events: dict[str, Any], gpu: str = "") -> Path:
    document: dict[str, Any] = {"traceEvents": list(events)}
    if gpu:
        document["deviceProperties"] = [{"name": gpu}]
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.fixture
def gpu_trace(tmp_path: Path) -> Path:
    """Two equal products of two kernels each, a gelu, an op without a rule and a kernel of nobody."""
    product = ([512], [1024, 256], [256, 512])
    return write(
        tmp_path / "trace.json",
        operator("aten::addmm", 0, 5, *product, id=1),
        operator("aten::addmm", 10, 5, *product, id=2),
        operator("aten::gelu", 20, 5, [1024, 512], id=3),
        operator("mylib::odd", 30, 5, [7], id=4),
        event("gemm_main", "kernel", 1, 90.0, **{"External id": 1}),
        event("gemm_tail", "kernel", 2, 10.0, **{"External id": 1}),
        event("gemm_main", "kernel", 11, 120.0, **{"External id": 2}),
        event("gelu", "kernel", 21, 8.0, **{"External id": 3}),
        event("odd", "kernel", 31, 4.0, **{"External id": 4}),
        event("graph_kernel", "kernel", 40, 3.0, **{"External id": 99}),
        gpu="NVIDIA A100-SXM4-80GB",
    )


def test_kernels_belong_to_the_operator_that_launched_them(gpu_trace: Path) -> None:
    table = read_table(gpu_trace)
    found = dict(zip(table.text("torch_op"), table.number("latency_us").tolist(), strict=True))
    assert found == {"aten::addmm": 110.0, "aten::gelu": 8.0, "mylib::odd": 4.0, NO_OPERATOR: 3.0}
    assert dict(zip(table.text("torch_op"), table.text("count"), strict=True))["aten::addmm"] == "2"


def test_every_operator_of_a_trace_is_predicted_or_named(gpu_trace: Path) -> None:
    made = predict(gpu_trace)
    notes = dict(zip(made.table.text("torch_op"), made.notes, strict=True))
    assert made.predicted.sum() == 2
    assert notes["mylib::odd"] == "mylib::odd is not mapped to an operator of ours"
    assert notes[NO_OPERATOR] == f"{NO_OPERATOR} is not mapped to an operator of ours"
    assert {made.devices[row] for row in np.flatnonzero(made.predicted)} == {"a100-80gb-sxm"}


def test_a_product_of_a_trace_has_its_sizes(gpu_trace: Path) -> None:
    (question, measured), *_ = [pair for pair in questions_of(gpu_trace) if pair[0].op == "aten::addmm"]
    sizes = {name: float(value[0]) for name, value in question.parts[0].sizes.items()}
    assert sizes == {"m": 1024.0, "k": 256.0, "n": 512.0}
    assert measured.tolist() == [pytest.approx(110e-6)]


def test_without_kernels_an_operator_has_its_own_time_less_that_of_what_it_calls(tmp_path: Path) -> None:
    path = write(
        tmp_path / "cpu.json",
        operator("aten::linear", 0, 100, [4, 8], [16, 8]),
        operator("aten::addmm", 10, 80, [16], [4, 8], [8, 16]),
        operator("aten::copy_", 20, 5, [4, 16], [4, 16]),
    )
    table = read_table(path)
    found = dict(zip(table.text("torch_op"), table.number("latency_us").tolist(), strict=True))
    assert found == {"aten::linear": 20.0, "aten::addmm": 75.0, "aten::copy_": 5.0}
    assert set(table.text("device")) == {"local"}


@pytest.mark.parametrize("text", ['{"no": 1}', "[1, 2]", "{"])
def test_what_is_no_trace_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(HwsimError, match="is no Chrome trace"):
        read_table(path)


def test_a_trace_without_shapes_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(HwsimError, match="has no operators; profile with record_shapes=True"):
        read_table(write(tmp_path / "empty.json"))


@pytest.mark.needs_torch
def test_a_trace_that_torch_exports_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    left, right = torch.randn(64, 32), torch.randn(32, 48)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True
    ) as recorded:
        torch.nn.functional.gelu(left @ right)
    path = tmp_path / "real.json"
    recorded.export_chrome_trace(str(path))
    made = predict(path)
    ops = [made.ops[row] for row in np.flatnonzero(made.predicted)]
    assert {"aten::mm", "aten::gelu"} <= set(ops)
