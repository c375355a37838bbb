"""What one unit of a GPU architecture does per clock."""

from __future__ import annotations

import pytest

from devices import DeviceError
from devices.architecture import architecture, architectures
from devices.device import DTYPES


def test_every_architecture_is_whole_and_says_where_its_numbers_come_from() -> None:
    for name in architectures():
        unit = architecture(name)
        assert set(unit.matrix) | set(unit.vector) <= set(DTYPES)
        assert unit.vector["fp32"] == 2 * unit.lanes
        assert unit.addressable_byte <= unit.l1_byte
        assert len(unit.source) > 10


def test_geforce_variants_halve_what_accumulates_in_fp32_and_nothing_else() -> None:
    for name in architectures():
        if not name.endswith("-geforce"):
            continue
        halved, plain = architecture(name), architecture(name.removesuffix("-geforce"))
        for dtype, rate in plain.matrix.items():
            kept = dtype.startswith("int") or dtype.endswith("acc16") or dtype == "fp4"
            assert halved.matrix[dtype] == (rate if kept else rate / 2), (name, dtype)


def test_an_unknown_architecture_names_a_near_one() -> None:
    with pytest.raises(
        DeviceError, match=r"no architecture 'sm_91' in architectures.toml; did you mean 'sm_"
    ):
        architecture("sm_91")
