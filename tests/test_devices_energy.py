"""Component energies against published per-operation tables, as circuits and memories spend them."""

from __future__ import annotations

import pytest

from devices.energy import Technology, component_energy, dram_energy, op_exponent, sram_energy

# pJ of one multiply and one addition at 45 nm and 0.9 V: Horowitz, ISSCC 2014; of a half-precision pair the
# addition is in single precision, of int8 in 32 bits, as accumulators are
MULTIPLY_ADD_45NM = {
    "fp32": (3.7, 0.9), "fp16": (1.1, 0.9), "int32": (3.1, 0.1), "int8": (0.2, 0.1),
}  # fmt: skip
SCALE = (7.0 / 45.0) ** op_exponent()


@pytest.mark.parametrize("dtype", MULTIPLY_ADD_45NM)
def test_multiplications_and_additions_are_those_of_the_45_nm_table(dtype: str) -> None:
    multiply, add = MULTIPLY_ADD_45NM[dtype]
    flop_j, addition_j = component_energy(dtype)
    assert 2e12 * flop_j == pytest.approx(multiply + add, rel=0.01)
    assert 1e12 * addition_j == pytest.approx(add, rel=0.01)


# pJ of a multiply and an addition at 7 nm: Jouppi et al., ISCA 2021, table 2, from memory, unverified; of an
# int8 product the addition is that of int32
@pytest.mark.parametrize(
    ("dtype", "picojoule"), [("fp32", 1.31 + 0.38), ("bf16", 0.21 + 0.38), ("int8", 0.07 + 0.03)]
)
def test_one_exponent_carries_the_table_to_7_nm_within_a_factor(dtype: str, picojoule: float) -> None:
    assert 2e12 * component_energy(dtype)[0] * SCALE == pytest.approx(picojoule, rel=0.35)


def test_a_multiply_add_of_tpu_v4i_is_met() -> None:
    """0.084 pJ of an int8 multiply-add in the accelforge model of the 7 nm chip."""
    assert 2e12 * component_energy("int8")[0] * SCALE == pytest.approx(0.084, rel=0.25)


def test_sram_of_tpu_v4i_is_met_by_size() -> None:
    """0.249 pJ per bit of small and 1.88 of large buffers in the same model."""
    chip = Technology(engine="systolic", process_nm=7.0)
    small, large = sram_energy(chip, "l1"), sram_energy(chip, "l2")
    assert small is not None
    assert large is not None
    assert 1e12 * small / 8 == pytest.approx(0.249, rel=0.02)
    assert 1e12 * large / 8 == pytest.approx(1.88, rel=0.02)


def test_a_byte_of_dram_costs_what_is_published_of_its_kind() -> None:
    """pJ per bit: HBM2 and GDDR5 of O'Connor et al. 2017, DDR4 of Horowitz and Jouppi 2021."""
    chip = Technology(engine="systolic", process_nm=7.0)
    for kind, per_bit in {"HBM2": 3.9, "GDDR5": 14.0, "DDR4": 1300 / 64}.items():
        assert 1e12 * dram_energy(chip, kind) / 8 == pytest.approx(per_bit, rel=0.25), kind
