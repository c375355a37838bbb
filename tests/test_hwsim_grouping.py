"""Sums of operator rows."""

from __future__ import annotations

import pytest

from hwsim.errors import HwsimError
from hwsim.grouping import group_rows, longest
from tests.estimates import ATTENTION, GEMM, NORM, ROWS

AMOUNTS = ("latency_s", "compute_s", "memory_s", "overhead_s", "energy_j", "flops", "dram_bytes")


@pytest.mark.parametrize("what", ["op", "kind", "module"])
def test_groups_add_up_to_the_rows_and_come_longest_first(what: str) -> None:
    groups = group_rows(ROWS, what)
    for name in AMOUNTS:
        total = sum(getattr(row, name) for row in ROWS)
        assert sum(getattr(group, name) for group in groups) == pytest.approx(total)
    assert sum(group.count for group in groups) == sum(row.count for row in ROWS)
    assert sum(group.share for group in groups) == pytest.approx(1)
    times = [group.latency_s for group in groups]
    assert times == sorted(times, reverse=True)


def test_a_row_is_split_between_its_modules_by_their_runs() -> None:
    groups = {group.label: group for group in group_rows([NORM], "module")}
    assert groups["norm"].latency_s == pytest.approx(NORM.latency_s / 25)
    assert groups["layers.*.mlp_norm"].latency_s == pytest.approx(NORM.latency_s * 12 / 25)
    assert groups["layers.*.mlp_norm"].count == 12


def test_the_bound_of_a_group_is_its_largest_sum() -> None:
    kinds = {group.label: group.bound for group in group_rows(ROWS, "kind")}
    assert kinds == {"gemm": "compute", "norm": "memory", "attention": "memory", "gather": "overhead"}


def test_rows_that_differ_only_in_reuse_are_one_op() -> None:
    (group,) = group_rows([GEMM, GEMM], "op")
    assert group.label == "linear m=512 n=3072 k=768 bf16"
    assert group.count == 48


def test_the_rest_of_a_long_list_is_one_line_and_nothing_is_lost() -> None:
    groups = longest(group_rows(ROWS, "op"), 2)
    assert [group.label for group in groups][2] == "2 others"
    assert sum(group.latency_s for group in groups) == pytest.approx(400e-6)
    assert longest(group_rows([GEMM, ATTENTION], "op"), 1) == group_rows([GEMM, ATTENTION], "op")


def test_no_rows_give_no_groups() -> None:
    assert group_rows([], "kind") == ()


def test_an_unknown_grouping_is_refused_with_the_near_one() -> None:
    with pytest.raises(
        HwsimError, match=r"cannot group by 'modul'; use op, kind, module, phase; did you mean 'module'"
    ):
        group_rows(ROWS, "modul")
