"""Systolic cycles against a cycle-level simulator's, row by row."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwsim.engines.demand import GemmRows
from hwsim.engines.systolic import gemm_cycles, sram_elements
from hwsim.engines.tiling import best_tiling

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


def test_utilisation_and_buffer_traffic_of_the_reference_are_met(stall_free: list[dict[str, str]]) -> None:
    """Multiply-adds over cells and cycles; elements read of both operands and written of the results."""
    for row in stall_free:
        rows, columns = map(int, row["array"].split("x"))
        m, n, k = int(row["M"]), int(row["N"]), int(row["K"])
        cycles = gemm_cycles(m, n, k, rows, columns, row["dataflow"], overlap=False)
        assert m * n * k / cycles / (rows * columns) == pytest.approx(float(row["utilisation"]), abs=2e-6)
        left, right, out = sram_elements(m, n, k, rows, columns, row["dataflow"])
        assert (left, right) == (int(row["sram_ifmap_reads"]), int(row["sram_filter_reads"])), row
        if row["dataflow"] == "os":  # the tool counts the empty slots of every fold's drain as writes
            out = out + np.ceil(m / rows) * np.ceil(n / columns) * (rows + columns)
        assert out == int(row["sram_ofmap_writes"]), row


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


@given(m=size, n=size, k=size, dataflow=st.sampled_from(DATAFLOWS), arrays=st.sampled_from([1, 2, 4, 16]))
def test_arrays_together_never_beat_their_cells(m: int, n: int, k: int, dataflow: str, arrays: int) -> None:
    for parts in (1, 2, 8):
        cycles = gemm_cycles(m, n, k, 16, 16, dataflow, batch=3, arrays=arrays, parts=parts)
        assert cycles * 256 * arrays >= 3 * m * n * k


@given(n=st.integers(8, 80), k=st.integers(8, 80), m=size, dataflow=st.sampled_from(DATAFLOWS))
def test_doubling_both_sides_never_slows_a_product_that_fills_them(
    m: int, n: int, k: int, dataflow: str
) -> None:
    """Sides that are multiples of the larger array's."""
    for side in (4, 8):
        sizes = (m * 2 * side, n * 2 * side, k * 2 * side)
        small = gemm_cycles(*sizes, side, side, dataflow)
        assert gemm_cycles(*sizes, 2 * side, 2 * side, dataflow) <= small


buffer = st.floats(1.0, 1e9)


@given(m=size, n=size, k=size, capacity=buffer, more=st.floats(1.0, 100.0))
def test_a_larger_buffer_never_moves_more_bytes(m: int, n: int, k: int, capacity: float, more: float) -> None:
    width = np.full((1, 1), 2.0)
    shape = {"b": np.full((1, 1), 3.0), "m": np.full((1, 1), m * 1.0), "n": np.full((1, 1), n * 1.0)}
    rows = GemmRows(**shape, k=np.full((1, 1), k * 1.0), left_byte=width, right_byte=width, out_byte=width)
    small, large = best_tiling(rows, capacity), best_tiling(rows, capacity * more)
    assert 0 <= large.reread_byte <= small.reread_byte
