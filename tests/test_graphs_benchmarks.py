"""The operators that a calibration times: what runs is what is priced, and threads are left as found."""

from __future__ import annotations

import os

import pytest

from graphs.canary import LIMIT
from graphs.ir import WEIGHT
from graphs.timing import Timer, Window, judged

torch = pytest.importorskip("torch")
from graphs.benchmarks import Benchmark, Pool, benchmarks, operands, runner  # noqa: E402  # needs torch
from graphs.canary import Canary  # noqa: E402
from graphs.expressions import evaluate  # noqa: E402
from graphs.measuring import measure, points  # noqa: E402
from graphs.threads import WAITING, team  # noqa: E402
from graphs.tracing.listening import reached  # noqa: E402

pytestmark = pytest.mark.needs_torch
SINGLE = [one for one in benchmarks() if one.stack == "kernel"]


def smallest(one: Benchmark) -> dict[str, int]:
    return dict(min(one.grid, key=lambda sizes: sum(sizes.values())))


@pytest.mark.parametrize("one", SINGLE, ids=lambda one: one.name)
def test_what_runs_is_the_operator_of_the_graph_that_prices_it(one: Benchmark) -> None:
    sizes = smallest(one)
    (operator,) = one.graph("fp32").operators
    found = reached(runner(one, sizes, torch.float32, Pool(1e6)))
    if operator.kind in ("attention", "rms_norm"):  # torch calls several of its own there
        return
    assert operator.kind in found.kinds.values()
    wanted = {name: float(evaluate(expr, sizes)) for name, expr in operator.dims if name in "bmnk"}
    told = [dict(part.split("=") for part in dims.split()) for dims in found.dims.values() if "=" in dims]
    if wanted:
        assert any(all(float(t.get(n, -1)) == v for n, v in wanted.items()) for t in told)


@pytest.mark.parametrize("one", SINGLE, ids=lambda one: one.name)
def test_operands_are_as_large_as_those_that_are_priced(one: Benchmark) -> None:
    sizes = smallest(one)
    (operator,) = one.graph("fp32").operators
    (first,) = operands(one, sizes, torch.float32, Pool(1e6))[:1]
    priced = [float(evaluate(spec.elements, sizes)) for spec in operator.inputs]
    assert sorted(tensor.numel() for tensor in first) == sorted(priced)
    assert all(spec.role != WEIGHT or spec.elements.symbols for spec in operator.inputs)


def test_cold_operands_exceed_the_caches() -> None:
    cold = next(one for one in SINGLE if one.cold)
    copies = operands(cold, smallest(cold), torch.float32, Pool(1e7))
    assert sum(t.numel() * 4 for copy in copies for t in copy) > 5e6
    assert len({copy[0].data_ptr() for copy in copies}) == len(copies)


def test_threads_are_pinned_for_a_while_and_free_afterwards() -> None:
    before, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    with team(1) as workers:
        assert torch.get_num_threads() == workers.count == 1
        assert workers.pinned == (len(os.sched_getaffinity(0)) == 1)
        seconds, waiting = workers.watched(lambda: sum(range(10_000)))
        assert seconds > 0
        assert waiting >= 0
    assert torch.get_num_threads() == before
    assert os.sched_getaffinity(0) == cores


def window(canary_s: float, waiting: float) -> Window:
    return Window(round=0, seconds=1.0, canary_s=canary_s, valid=True, waiting=waiting)


def test_a_window_counts_beside_a_quick_canary_and_without_waiting() -> None:
    found = judged([window(1.0, 0.0), window(LIMIT * 1.01, 0.0), window(1.0, WAITING * 1.01)], best_s=1.0)
    assert [one.valid for one in found] == [True, False, False]


def test_a_timer_repeats_what_is_short_and_keeps_every_window() -> None:
    calls = []
    with team(1) as workers:
        timer = Timer(lambda: calls.append(1), Canary(workers, 1e-4, 64), workers, window_s=1e-4)
        timer.sample(3, deadline=0.0, least=2, most=4)
    assert len(timer.windows) == 2
    assert {one.round for one in timer.windows} == {3}
    assert len(calls) > 2 * len(timer.windows)


def test_rounds_that_were_timed_before_are_not_timed_again() -> None:
    relu = next(one for one in SINGLE if one.name == "relu")
    first, second = points([relu], ["fp32"])[:2]
    done = [Window(round=number, seconds=1e-5, canary_s=1.0, valid=True) for number in range(4)]
    kept = []
    found = measure(
        [first, second],
        beyond_byte=0.0,
        rounds=1,
        budget_s=5.0,
        threads=1,
        known={first.key: done},
        keep=lambda point, windows: kept.append((point.key, len(windows))),
    )
    assert found.threads == 1
    assert {key for key, _ in kept} >= {second.key}
    assert found.timed[1].windows
    assert found.timed[0].windows[: len(done)] == judged(done, 1e-3)
