"""Real runs of small models: what is timed, what is discarded, and that a profile drops nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from graphs import catalog
from graphs.canary import LIMIT
from graphs.errors import GraphError
from graphs.profiling import BETWEEN, NOT_WORK, UNMAPPED, VIEWS, OperatorTime, Profile
from graphs.running import Job, Measurement, Session, job, run_plan
from graphs.threads import WAITING
from graphs.timing import Window
from graphs.trace import trace_module

torch = pytest.importorskip("torch")
from graphs.tracing.listening import kinds_reached  # noqa: E402  # needs torch

pytestmark = pytest.mark.needs_torch
LAYERS = 2
SIZES = {"batch": 2, "seq": 8, "context": 5}


def small(name: str, **changes: Any) -> catalog.VariantEntry:
    """A model of two layers that runs in a millisecond."""
    entry = catalog.find(name)
    config = {**entry.config, "layers": LAYERS, "hidden": 32, "heads": 4, "intermediate": 64, "vocab": 50}
    return replace(entry, config={**config, **changes})


def small_job(phase: str, dtype: str = "fp32") -> Job:
    return job(small("gpt2"), phase, SIZES, dtype)


def windows(*timed: tuple[int, float, bool]) -> Measurement:
    found = tuple(
        Window(round=number, seconds=seconds, canary_s=0.01, valid=valid) for number, seconds, valid in timed
    )
    nothing = Profile(seconds=0.0, operators=())
    return Measurement(
        job=small_job("forward"), windows=found, profile=nothing, profile_canary_s=0.01, profile_valid=True
    )


@pytest.fixture(scope="module")
def session() -> Session:
    return run_plan([small_job("forward"), small_job("decode")], rounds=2, budget_s=2.0)


def test_an_operator_has_the_kind_of_the_rule_that_reads_it() -> None:
    data, table = torch.randn(2, 3, 4), torch.randn(5, 4)
    index = torch.tensor([[1, 2], [0, 4]])

    def run() -> None:
        torch.layer_norm(data, [4]).transpose(0, 1).contiguous()
        torch.nn.functional.linear(data, table)
        table.index_put((index,), table[index])
        torch.special.airy_ai(data)

    assert kinds_reached(run).items() >= {
        ("aten::native_layer_norm", "norm"),
        ("aten::transpose", VIEWS),
        ("aten::clone", "copy"),
        ("aten::mm", "gemm"),
        ("aten::index", "gather"),
        ("aten::index_put", "scatter"),
        ("aten::special_airy_ai", UNMAPPED),
    }


def test_every_job_is_timed_in_every_round(session: Session) -> None:
    assert session.rounds >= 2
    assert session.canary_s > 0
    for measured in session.measurements:
        assert {0, 1} <= {window.round for window in measured.windows}
        assert all(window.seconds > 0 for window in measured.windows)


def test_a_window_beside_a_slow_canary_is_discarded_and_counted(session: Session) -> None:
    for measured in session.measurements:
        slow = [w for w in measured.windows if w.canary_s > LIMIT * session.canary_s or w.waiting > WAITING]
        assert [w for w in measured.windows if not w.valid] == slow
        assert measured.discarded == len(slow)
        assert measured.profile_valid == (measured.profile_canary_s <= LIMIT * session.canary_s)


def test_the_parts_of_a_profile_add_up_to_the_run(session: Session) -> None:
    for measured in session.measurements:
        kinds = measured.profile.by_kind()
        assert sum(seconds for seconds, _ in kinds.values()) == pytest.approx(measured.profile.seconds)
        assert kinds[BETWEEN][1] == 1
        assert UNMAPPED not in kinds


def test_a_profile_counts_the_operators_that_a_trace_records() -> None:
    entry = small("gpt2", dropout=0.0, attention_dropout=0.0)
    module = catalog.load(entry)
    (measured,) = run_plan([job(entry, "forward", SIZES, "fp32")], rounds=1, budget_s=0.5).measurements
    graph = trace_module(
        lambda: module.build(entry.config),
        module.example(entry.config, "forward"),
        symbols={name: catalog.size_symbols(entry, "forward")[name] for name in ("batch", "seq")},
    )
    traced = Counter(node.operator.kind for node in graph.nodes)
    ran = {kind: count for kind, (_, count) in measured.profile.by_kind().items() if kind not in NOT_WORK}
    matter = ("gemm", "attention", "norm", "pointwise", "gather")
    assert {kind: ran[kind] for kind in matter} == {kind: traced[kind] for kind in matter}
    assert ran["attention"] == LAYERS


def test_a_real_training_step_runs_the_operators_of_a_traced_one() -> None:
    """torch's fused optimizer is one operator over all parameters."""
    entry = small("gpt2", dropout=0.0, attention_dropout=0.0)
    module = catalog.load(entry)
    (measured,) = run_plan([job(entry, "train", SIZES, "fp32")], rounds=1, budget_s=0.5).measurements
    graph = trace_module(
        lambda: module.build(entry.config),
        module.example(entry.config, "forward"),
        symbols={name: catalog.size_symbols(entry, "train")[name] for name in ("batch", "seq")},
        phase="train",
        loss=entry.loss,
    )
    traced = Counter(node.operator.kind for node in graph.nodes)
    ran = {kind: count for kind, (_, count) in measured.profile.by_kind().items() if kind not in NOT_WORK}
    matter = ("gemm", "attention", "attention_backward", "norm", "norm_backward", "log_softmax_backward")
    assert {kind: ran[kind] for kind in matter} == {kind: traced[kind] for kind in matter}
    assert ran["optimizer"] == 1
    assert UNMAPPED not in ran


def test_operators_of_one_shape_share_a_line(session: Session) -> None:
    operators = session.measurements[0].profile.operators
    names = [(one.name, one.shapes) for one in operators]
    assert len(names) == len(set(names))
    gemms = [one for one in operators if one.kind == "gemm"]
    assert sum(one.count for one in gemms) == 4 * LAYERS + 1
    assert all("x" in one.shapes for one in gemms)


def test_the_lower_quartile_of_the_valid_windows_counts() -> None:
    measured = windows(
        (0, 5.0, True), (0, 1.0, True), (1, 2.0, True), (1, 3.0, True), (2, 4.0, True), (2, 0.1, False)
    )
    assert measured.seconds == 2.0
    assert measured.discarded == 1


def test_repeatability_is_the_spread_of_the_medians_of_the_rounds() -> None:
    measured = windows((0, 1.0, True), (1, 2.0, True), (1, 2.2, True), (1, 9.0, True), (2, 2.0, True))
    assert measured.repeatability == pytest.approx((2.2 - 1.0) / 2.0)
    assert windows((0, 1.0, True), (1, 2.0, False)).repeatability is None


def test_a_machine_that_was_never_quiet_gives_no_number() -> None:
    assert windows((0, 1.0, False)).seconds is None
    assert windows((0, 1.0, True)).seconds == 1.0


def test_kinds_are_summed_longest_first() -> None:
    operators = [
        OperatorTime(name=f"aten::{kind}", kind=kind, shapes=shapes, count=2, seconds=seconds)
        for kind, shapes, seconds in (("copy", "1", 1.0), ("gemm", "1", 2.0), ("gemm", "2", 3.0))
    ]
    found = Profile(seconds=6.0, operators=tuple(operators)).by_kind()
    assert list(found.items()) == [("gemm", (5.0, 4)), ("copy", (1.0, 2))]


def test_a_model_runs_in_the_dtype_that_is_asked() -> None:
    (measured,) = run_plan([small_job("forward", "bf16")], rounds=1, budget_s=0.5).measurements
    assert measured.job.dtype == "bf16"
    assert not any(one.name == "aten::_to_copy" for one in measured.profile.operators)


def test_a_run_leaves_threads_dtype_and_random_numbers_of_torch_as_they_were() -> None:
    def state() -> tuple[Any, ...]:
        return (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled())

    before, seed = state(), torch.get_rng_state()
    found = run_plan([small_job("prefill", "bf16")], rounds=1, budget_s=0.5, threads=1)
    assert found.threads == 1
    assert state() == before
    assert torch.equal(torch.get_rng_state(), seed)


def test_progress_is_told_and_never_runs_backwards() -> None:
    told: list[tuple[float, str]] = []
    run_plan(
        [small_job("forward")],
        rounds=1,
        budget_s=0.5,
        progress=lambda done, what: told.append((done, what)),
    )
    assert told[-1][0] == 1.0
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert any("gpt2" in what for _, what in told)


def test_sizes_that_no_input_has_are_left_to_the_model_unless_asked() -> None:
    entry = catalog.find("mixtral-8x7b")
    sizes = {"batch": 1.0, "seq": 4.0, "active_experts": 3.0, "expert_tokens": 2.5}
    assert job(entry, "forward", sizes, "bf16").sizes == {"batch": 1, "seq": 4}
    assert job(entry, "forward", sizes, "bf16", asked=["active_experts"]).sizes == {
        "batch": 1,
        "seq": 4,
        "active_experts": 3,
    }


def test_what_cannot_be_run_is_one_line() -> None:
    with pytest.raises(GraphError, match="gpt2 cannot be run in fp8 here; use fp32, bf16"):
        small_job("forward", "fp8")
    with pytest.raises(GraphError, match="0 jobs in 3 rounds are nothing to run"):
        run_plan([])
