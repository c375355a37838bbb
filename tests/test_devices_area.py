"""Area and peak power of array machines: by hand on the toy machine, against published dies, and laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from devices import device
from devices.area import area_mm2, bitcell_um2, peak_w
from tests.toys import toy

PUBLISHED = (
    "eyeriss-v1", "tpu-v1", "tpu-v4i", "gemmini", "tpu-v3", "cerebras-wse-2", "cerebras-wse-3",
    "graphcore-ipu-mk2", "nvdla-large",
)  # fmt: skip


def test_area_is_cells_and_bits_and_what_surrounds_them(tmp_path: Path) -> None:
    """500 cells of fp32 and 250 lanes at 7 nm, each four times its multiplier and adder, and 1 MB of bits;
    half of a chip is neither.
    """
    logic = (1e12 + 5e11) / 2e9 * 11900e-6 * (7 / 45) ** 1.8 * 4
    bits = 8e6 * 0.027e-6 / 0.35
    assert area_mm2(toy(tmp_path, "systolic")) == pytest.approx((logic + bits) / 0.5)


def test_a_machine_without_an_array_has_no_estimate() -> None:
    assert area_mm2(device("h100-sxm")) is None


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_dies_come_out_within_half_again(name: str) -> None:
    found = device(name)
    assert found.die_area_mm2 is not None
    assert 1 / 1.5 < area_mm2(found) / found.die_area_mm2 < 1.5


def test_bitcells_lie_on_published_nodes_and_between_them() -> None:
    assert bitcell_um2(28.0) == pytest.approx(0.127)
    assert 0.070 < bitcell_um2(20.0) < 0.092


def test_a_larger_array_or_memory_is_never_smaller_nor_cooler() -> None:
    base = device("gemmini")
    sides = np.array([8.0, 16.0, 32.0, 64.0])
    arrays = base.replace(**{"compute.array.rows": sides, "compute.array.columns": sides})
    memories = base.replace(**{"memory.l1.capacity": sides * 2**20})
    for many in (area_mm2(arrays), area_mm2(memories), peak_w(arrays)):
        assert np.all(np.diff(many) > 0)


def test_a_smaller_node_shrinks_area_and_energy_and_leaves_dram_alone() -> None:
    base = device("gemmini")
    small = base.replace(process="7 nm")
    assert area_mm2(small) < area_mm2(base) / 3
    ratio = 7 / 22
    assert small.energy.matrix_j_per_flop["int8"] == pytest.approx(
        base.energy.matrix_j_per_flop["int8"] * ratio**0.58
    )
    assert small.memory.l1.energy_j_per_byte == pytest.approx(base.memory.l1.energy_j_per_byte * ratio**0.3)
    assert small.memory.dram == base.memory.dram
    assert small.compute == base.compute


def test_a_port_that_was_derived_from_the_array_grows_with_it() -> None:
    """Two bytes in for a row and four out for a column each clock; a published bandwidth stays."""
    base = device("gemmini")
    wide = base.replace(**{"compute.array.rows": 64, "compute.array.columns": 32})
    assert wide.memory.l1.bandwidth_byte_per_s == pytest.approx((64 * 2 + 32 * 4) * 1e9)
    given = device("tpu-v4").replace(**{"compute.array.rows": 256})
    assert given.memory.l1 == device("tpu-v4").memory.l1
