"""Lowering: cached, complete, and clear about what it does not know."""

from __future__ import annotations

import dataclasses

import pytest

import devices
import hwsim
from graphs.workload import Precision
from hwsim.errors import HwsimError
from hwsim.lower import lower
from tests.toys import NO_SOFTWARE, gemm_graph, one_op

COMPILED = devices.stack("compiled")


def test_the_same_question_gives_the_same_table() -> None:
    graph = gemm_graph()
    assert lower(graph, Precision(), COMPILED) is lower(graph, Precision(), COMPILED)


def test_what_changes_the_table_makes_another() -> None:
    graph = gemm_graph()
    table = lower(graph, Precision(), COMPILED)
    assert lower(graph, Precision(activations="fp16"), COMPILED) is not table
    assert lower(graph, Precision(), COMPILED.replace(attention_kernel="math")) is not table
    assert lower(graph, Precision(), COMPILED.replace(passes=())) is not table
    assert lower(gemm_graph(), Precision(), COMPILED) is not table


def test_overheads_change_no_table() -> None:
    """They are priced, not lowered: a sweep over them walks no op list again."""
    graph = gemm_graph()
    table = lower(graph, Precision(), COMPILED)
    assert lower(graph, Precision(), COMPILED.replace(dispatch="9 us", launch="1 us")) is table


def test_an_unknown_pass_is_refused_by_name() -> None:
    stack = dataclasses.replace(COMPILED, passes=("fusion", "magic"))
    with pytest.raises(HwsimError, match="stack 'compiled' names pass 'magic'; passes are"):
        lower(gemm_graph(), Precision(), stack)


def test_an_op_without_a_rule_is_counted_costed_and_refused_when_strict() -> None:
    from graphs.expressions import symbol

    e = symbol("e")
    graph = one_op("unknown", "aten.mystery", (), [(e,)], (e,))
    found = hwsim.estimate(graph, "h100-sxm", e=10**6, stack=NO_SOFTWARE)
    assert any("aten.mystery" in warning for warning in found.warnings)
    assert found.provenance["coverage"]["ops_without_rule"] == 1
    assert found.dram_bytes == 2 * 4 * 10**6
    with pytest.raises(HwsimError, match=r"no work rule for op aten\.mystery"):
        hwsim.estimate(graph, "h100-sxm", e=10**6, strict=True)


@pytest.mark.needs_torch
@pytest.mark.parametrize("stack", ["eager", "compiled", "engine"])
def test_every_node_has_a_row_and_rows_are_far_fewer(stack: str) -> None:
    table = lower(hwsim.trace("llama-3-8b", phase="decode"), Precision(), devices.stack(stack))
    assert len(table.row_of_node) == len(table.graph.nodes) == table.kernels
    assert table.counts.sum() == table.kernels
    assert set(table.row_of_node.tolist()) == set(range(len(table.rows)))
    assert len(table.rows) <= 80
    for row, module in table.runs:
        assert table.runs[row, module] > 0
    assert sum(table.runs.values()) == table.kernels


@pytest.mark.needs_torch
def test_fusion_keeps_the_work_and_lessens_kernels_and_traffic() -> None:
    asked = {"phase": "decode", "batch": 4, "context": 512}
    plain, fused = (
        hwsim.estimate("llama-3-8b", "h100-sxm", overrides={"stack.passes": passes}, **asked)
        for passes in ((), ("fusion",))
    )
    assert fused.flops == plain.flops
    assert fused.bytes_by_level["onchip"] < plain.bytes_by_level["onchip"]
    kernels = [estimate.provenance["coverage"]["kernels"] for estimate in (plain, fused)]
    assert kernels[1] < kernels[0] / 1.5
    assert fused.latency_s < plain.latency_s
