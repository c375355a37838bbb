"""Scores of predictions, against numbers worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hwsim.measurements.judging import document, judge, pairs
from hwsim.measurements.predicting import Predictions
from tests.measured import A100, GEMM, answered


def _with(tmp_path: Path, ratios: list[float], spread: float = 1.5) -> Predictions:
    """Rows measured at 100 us whose predictions are these ratios of it."""
    made = answered(tmp_path, GEMM, *[f"{A100},fp16,64,64,{64 + i},100" for i in range(len(ratios))])
    value = 100 * np.array(ratios)
    made.values["latency_us"][:] = value
    made.low["latency_us"][:], made.high["latency_us"][:] = value / spread, value * spread
    return made


def test_errors_are_of_predicted_over_measured(tmp_path: Path) -> None:
    score = judge(_with(tmp_path, [0.5, 1.0, 2.0])).overall
    assert score.mape == pytest.approx((0.5 + 0 + 1) / 3)
    assert score.median_ape == pytest.approx(0.5)
    assert score.bias == pytest.approx(0.0)
    assert score.coverage == pytest.approx(1 / 3)
    assert (score.rows, score.predicted, score.compared) == (3, 3, 3)


def test_rows_without_either_side_count_but_are_not_compared(tmp_path: Path) -> None:
    lines = [f"{A100},fp16,64,64,64,{text}" for text in ("10", "", "0", "-5")] + [f"{A100},odd,1,1,1,10"]
    score = judge(answered(tmp_path, GEMM, *lines)).overall
    assert (score.rows, score.predicted, score.compared) == (5, 4, 1)


def test_each_row_counts_once_with_its_first_measured_target(tmp_path: Path) -> None:
    header = "device,model,mode,dtype,layout,compiled,batch_size,img_size,torch,latency_us"
    header += ",throughput_samples_per_s"
    line = "NVIDIA RTX 3090,vit_small_patch32_384,infer,amp_fp16,nchw,0,64,384,210"
    made = answered(tmp_path, header, f"{line},1000,64000", f"{line},,64000", f"{line},1000,")
    found = pairs(made)
    assert found.measured.tolist() == [1000, 64000, 1000]
    judged = judge(made)
    assert judged.overall.compared == 3
    assert [one.compared for one in judged.by_target] == [2, 2]


def test_groups_add_up_to_the_whole(tmp_path: Path) -> None:
    lines = [
        f"{device},{dtype},64,64,64,9" for device in (A100, "NVIDIA L4", "odd") for dtype in ("fp16", "fp8")
    ]
    judged = judge(answered(tmp_path, GEMM, *lines))
    for group in (judged.by_device, judged.by_op):
        assert sum(one.rows for one in group) == 6
        assert sum(one.predicted for one in group) == judged.overall.predicted == 4
    assert {one.label for one in judged.by_device} == {"a100-80gb-sxm", "l4", "odd"}


def test_the_document_is_json_without_numbers_that_are_none(tmp_path: Path) -> None:
    made = answered(tmp_path, GEMM, f"{A100},odd,64,64,64,10")
    found = json.loads(json.dumps(document(made), allow_nan=False))
    assert found["schema"] == "hwsim.measured/1"
    assert (found["layout"], found["rows"], found["predicted"], found["mape"]) == ("gemm", 1, 0, None)
    assert found["notes"] == {"dtype 'odd' is unknown": 1}
    assert found["by_op"]["gemm odd"]["rows"] == 1
    assert found["others"] == {}


def test_others_are_judged_on_the_rows_that_both_have(tmp_path: Path) -> None:
    header = "device,op,input_shapes,output_shape,fw_ops,bw_ops,fw_us,pred_neusight_fw_us,pred_habitat_fw_us"
    line = 'Tesla T4,VECgelu,"[[64,64]]","(64,64)","[]","[]"'
    made = answered(tmp_path, header, f"{line},100,110,", f"{line},100,80,50", f"{line},,80,50")
    one, two = judge(made).rivals
    assert (one.label, one.rows) == ("neusight", 2)
    assert one.mape == pytest.approx(0.15)
    assert (two.label, two.rows, two.mape) == ("habitat", 1, pytest.approx(0.5))
    ours = made.values["fw_us"][0] / 100 - 1
    assert one.ours_mape == pytest.approx(abs(ours))
