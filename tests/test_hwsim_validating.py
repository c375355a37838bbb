"""Validation: scores by hand, and a real run beside its estimate."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import pytest

import hwsim
from graphs.errors import GraphError
from graphs.profiling import NOT_WORK
from graphs.running import CPP_COMPILERS
from hwsim.accuracy import Pair, accuracy
from hwsim.errors import HwsimError
from hwsim.validation import OperatorRow, Validation
from tests.validations import kind, row, validation


def test_the_scores_are_those_of_hand() -> None:
    pairs = [
        Pair(measured=1.0, predicted=1.5, low=0.5, high=2.0),
        Pair(measured=2.0, predicted=1.0, low=0.5, high=1.5),
        Pair(measured=4.0, predicted=4.0, low=3.0, high=5.0),
    ]
    found = accuracy(pairs, 4)
    assert (found.rows, found.predicted) == (4, 3)
    assert found.mape == pytest.approx((0.5 + 0.5 + 0.0) / 3)
    assert found.median_ape == pytest.approx(0.5)
    assert found.bias == pytest.approx((1.5 * 0.5 * 1.0) ** (1 / 3) - 1)
    assert found.coverage == pytest.approx(2 / 3)
    assert found.spearman == pytest.approx(0.5)  # ranks 1 2 3 against 2 1 3


def test_errors_of_a_factor_either_way_have_no_bias() -> None:
    found = accuracy([Pair(measured=1.0, predicted=2.0), Pair(measured=2.0, predicted=1.0)], 2)
    assert found.bias == pytest.approx(0.0)
    assert found.coverage is None


def test_too_few_rows_have_no_scores_rather_than_wrong_ones() -> None:
    assert accuracy([], 1).mape is None
    assert accuracy([Pair(measured=1.0, predicted=1.0)] * 2, 2).spearman is None
    assert accuracy([Pair(measured=1.0, predicted=1.0)] * 3, 3).spearman is None


def test_a_row_that_could_not_be_measured_is_counted_and_not_compared() -> None:
    found = validation(row("a", 1.0, 1.5), row("b", None, 1.0))
    assert (found.overall.rows, found.overall.predicted) == (2, 1)
    assert found.rows[1].note == "no quiet window of 12"
    assert found.rows[1].error is None


def test_operators_of_a_kind_are_scored_one_by_one_and_those_of_one_side_are_not() -> None:
    blank = OperatorRow(
        kind="gemm", name="aten.mm", dims="m=1", measured_s=1.0, measured_count=2, predicted_s=1.5,
        predicted_count=2,
    )  # fmt: skip
    operators = (blank, replace(blank, predicted_s=0.9), replace(blank, measured_s=None))
    found = validation(row("a", 1.0, 1.5, operators=operators)).by_operator["gemm"]
    assert (found.rows, found.predicted, found.mape) == (3, 2, pytest.approx(0.3))
    noisy = tuple(replace(one, quiet=False) for one in operators)
    assert validation(row("a", 1.0, 1.5, operators=noisy)).by_operator == {}


def test_kinds_that_one_side_lacks_are_counted_and_not_compared() -> None:
    one = row("a", 1.0, 1.5, kinds=(kind("gemm", 0.8, 1.2), kind("copy", None, 0.3)))
    found = validation(one).by_kind
    assert found["gemm"].mape == pytest.approx(0.5)
    assert (found["copy"].rows, found["copy"].predicted, found["copy"].mape) == (1, 0, None)


def test_a_profile_of_a_busy_machine_is_shown_and_not_compared() -> None:
    busy = tuple(replace(one, quiet=False) for one in row("a", 1.0, 1.5).kinds)
    found = validation(row("a", 1.0, 1.5, kinds=busy, profile_quiet=False)).by_kind
    assert (found["gemm"].rows, found["gemm"].predicted) == (1, 0)
    assert busy[0].measured_s is not None
    assert busy[0].error is None


def test_the_document_is_plain_json_with_its_schema() -> None:
    document = json.loads(validation(row("a", 1.0, 1.5), row("b", None, 1.0)).to_json())
    assert document["schema"] == "hwsim.validation/1"
    assert document["rows"][0]["error"] == pytest.approx(0.5)
    assert document["rows"][1]["measured_s"] is None
    assert document["all"]["predicted"] == 1
    assert document["host"]["threads"] == 2


@pytest.fixture(scope="module")
def found() -> Validation:
    """Two small models for real; bert-base alone knows the size."""
    return hwsim.validate(["deit-ti", "bert-base"], seq=16, minutes=0.06)


@pytest.mark.needs_torch
def test_a_real_run_stands_beside_its_estimate(found: Validation) -> None:
    assert [one.model for one in found.rows] == ["deit-ti", "bert-base"]
    assert (found.device, found.stack, found.tier) == ("local", "eager", "datasheet")
    assert found.host.threads == found.host.cores
    for one in found.rows:
        expected = hwsim.estimate(one.model, "local", stack="eager", overrides=dict(one.sizes))
        assert one.predicted_s == pytest.approx(expected.latency_s)
        assert one.low_s < one.predicted_s < one.high_s
        assert one.profiled_s > 0
        assert (one.measured_s is None) == (one.discarded == one.windows)
        assert one.windows >= found.protocol.rounds


@pytest.mark.needs_torch
def test_the_kinds_of_a_real_run_add_up_on_both_sides(found: Validation) -> None:
    for one in found.rows:
        assert sum(part.measured_s or 0.0 for part in one.kinds) == pytest.approx(one.profiled_s)
        assert sum(part.predicted_s or 0.0 for part in one.kinds) == pytest.approx(one.predicted_s)
        gemm = next(part for part in one.kinds if part.kind == "gemm")
        assert gemm.measured_count == gemm.predicted_count > 0
        assert one.kinds[-1].kind in NOT_WORK


@pytest.mark.needs_torch
def test_a_size_is_given_to_the_models_that_have_it_and_the_others_are_named(found: Validation) -> None:
    assert found.rows[1].sizes["seq"] == 16
    assert "seq" not in found.rows[0].sizes
    assert found.warnings[0] == "deit-ti has no size 'seq' and runs without it"
    assert found.protocol.others_share <= 0.1 or "other programs took" in found.warnings[-1]


@pytest.mark.needs_torch
def test_what_cannot_be_run_here_is_refused_before_anything_runs() -> None:
    with pytest.raises(HwsimError, match="device 'l4' is not this machine"):
        hwsim.validate("deit-ti", "l4")
    with pytest.raises(HwsimError, match=r"0 models in 1\.5 minutes"):
        hwsim.validate([])
    with pytest.raises(HwsimError, match=r"graph\.json is a graph without its module and cannot be run"):
        hwsim.validate("graph.json")
    with pytest.raises(GraphError, match="no model 'deit-tiny'"):
        hwsim.validate("deit-tiny")
    with pytest.raises(HwsimError, match="stack 'engine' cannot be run here; use eager or compiled"):
        hwsim.validate("deit-ti", stack="engine")
    with pytest.raises(HwsimError, match=r"running deit-ti needs [\d.]+ GB and [\d.]+ GB of RAM are free"):
        hwsim.validate("deit-ti", batch=10**6)
    with pytest.raises(HwsimError, match="has no size 'nonsense'"):
        hwsim.validate("deit-ti", nonsense=3)
    with pytest.raises(HwsimError, match=r"batch=1\.5: a real run of deit-ti needs a whole number"):
        hwsim.validate("deit-ti", batch=1.5)  # type: ignore[arg-type]
    with pytest.raises(GraphError, match="deit-ti cannot be run in int8 here"):
        hwsim.validate("deit-ti", dtype="int8")


@pytest.mark.needs_torch
def test_without_a_compiler_the_compiled_stack_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        GraphError,
        match=r"torch\.compile needs a C\+\+ compiler, and none of g\+\+, clang\+\+, c\+\+ is here",
    ):
        hwsim.validate("deit-ti", stack="compiled", minutes=0.03)


@pytest.mark.slow
@pytest.mark.needs_torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
@pytest.mark.skipif(not any(map(shutil.which, CPP_COMPILERS)), reason="torch.compile needs a C++ compiler")
def test_compiled_runs_stand_beside_estimates_for_the_compiled_stack() -> None:
    found = hwsim.validate(["deit-ti", "bert-base"], seq=32, stack="compiled", minutes=0.3)
    assert found.stack == "compiled"
    for one in found.rows:
        expected, eager = (
            hwsim.estimate(one.model, "local", stack=stack, overrides=dict(one.sizes))
            for stack in ("compiled", "eager")
        )
        assert one.predicted_s == pytest.approx(expected.latency_s)
        assert one.predicted_s < float(eager.latency_s)
        assert one.windows >= found.protocol.rounds
        # what is inside compiled kernels reaches the profiler under no operator's name
        ran = {part.kind: part.measured_count for part in one.kinds}
        assert ran.get("pointwise", 0) < sum(row.count for row in eager.ops if row.kind == "pointwise")


def test_an_error_is_relative_to_what_was_measured() -> None:
    assert row("a", 2.0, 1.0).error == pytest.approx(-0.5)
    assert math.isclose(kind("gemm", 1.0, 3.0).error or 0.0, 2.0)


@pytest.mark.slow
@pytest.mark.needs_torch
def test_wide_and_deep_attention_run_here_beside_their_estimates() -> None:
    """One layer of 48 heads against six of 8: the same products in a sixth of the operators, and quicker."""
    found = hwsim.validate(["wide-attention-6x8", "wide-attention-1x48"], batch=1, seq=256, minutes=0.06)
    deep, wide = ({one.kind: one for one in row.kinds} for row in found.rows)
    for kinds in (deep, wide):
        assert kinds["gemm"].measured_count == kinds["gemm"].predicted_count
        assert (kinds["gemm"].measured_s or 0.0) > 0
    assert deep["gemm"].measured_count > 4 * wide["gemm"].measured_count
    assert found.rows[0].predicted_s > 1.2 * found.rows[1].predicted_s
