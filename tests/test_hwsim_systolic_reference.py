"""Systolic cycles against a cycle-level simulator's, row by row."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwsim.engines.systolic import gemm_cycles

DATAFLOWS = ("ws", "os", "is")
side = st.sampled_from([4, 8, 14, 16, 32, 128, 256])
size = st.integers(1, 5000)


@pytest.fixture(scope="module")
def stall_free(shared_folder: Path) -> list[dict[str, str]]:
    """Rows that the simulator computed with unlimited bandwidth."""
    path = shared_folder / "reference" / "systolic_scalesim.csv"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with path.open(encoding="utf-8") as lines:
        return [row for row in csv.DictReader(lines) if row["mode"] == "CALC"]


def test_every_stall_free_row_of_the_reference_is_met_exactly(stall_free: list[dict[str, str]]) -> None:
    assert len(stall_free) >= 50
    for row in stall_free:
        rows, columns = map(int, row["array"].split("x"))
        m, n, k = int(row["M"]), int(row["N"]), int(row["K"])
        found = gemm_cycles(m, n, k, rows, columns, row["dataflow"], overlap=False)
        assert found == int(row["cycles"]), row


@given(m=size, n=size, k=size, rows=side, columns=side, dataflow=st.sampled_from(DATAFLOWS))
def test_no_dataflow_beats_its_multiply_accumulate_cells(
    m: int, n: int, k: int, rows: int, columns: int, dataflow: str
) -> None:
    """Cycles x cells hold at least the work, with loads hidden and without."""
    for overlap in (False, True):
        cycles = gemm_cycles(m, n, k, rows, columns, dataflow, overlap)
        assert cycles * rows * columns >= m * n * k


@given(m=size, n=size, k=size, rows=side, columns=side, dataflow=st.sampled_from(DATAFLOWS))
def test_hiding_loads_never_costs_cycles(
    m: int, n: int, k: int, rows: int, columns: int, dataflow: str
) -> None:
    hidden = gemm_cycles(m, n, k, rows, columns, dataflow)
    assert hidden <= gemm_cycles(m, n, k, rows, columns, dataflow, overlap=False) + 1


@given(m=size, n=size, k=size, dataflow=st.sampled_from(DATAFLOWS), more=st.integers(1, 100))
def test_a_larger_product_never_takes_fewer_cycles(m: int, n: int, k: int, dataflow: str, more: int) -> None:
    cycles = gemm_cycles(m, n, k, 16, 16, dataflow)
    assert gemm_cycles(m + more, n, k, 16, 16, dataflow) >= cycles
    assert gemm_cycles(m, n + more, k, 16, 16, dataflow) >= cycles
    assert gemm_cycles(m, n, k + more, 16, 16, dataflow) >= cycles


def test_cycles_of_many_products_come_as_one_array() -> None:
    sizes = np.array([1.0, 16.0, 17.0, 4096.0])
    found = gemm_cycles(sizes, 64, 64, 16, 16, "ws")
    for one, cycles in zip(sizes, found, strict=True):
        assert cycles == gemm_cycles(one, 64, 64, 16, 16, "ws")
