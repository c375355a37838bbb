"""Laws of every profile: peaks follow from units and clocks, bandwidth from the bus, power from energy."""

from __future__ import annotations

import math
from functools import cache

import pytest

from devices import Device, devices
from devices.architecture import architecture
from devices.balance import peak_power_w, ridge_flop_per_byte, vector_power_w
from devices.catalog import profile_of
from devices.profile import DeviceProfile

ALL = devices()
GPUS = [one for one in ALL if one.architecture]
# Blackwell Ultra gives int8 up for fp4.
CUT_INTEGERS = ("b300", "gb300")
# Rates of sources that units and clock do not give: NVIDIA's table of the L40S has as much int4 as int8, and
# fp64, int8 and fp4 of Blackwell follow the marketing tables.
NOT_FROM_UNITS = {("l40s", "int4"), ("b200", "fp64"), ("gb200", "fp64")} | {
    (id, dtype) for id in CUT_INTEGERS for dtype in ("fp64", "int8", "fp4")
}


def each(devices: list[Device]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("one", devices, ids=[one.id for one in devices])


def number(value: object) -> float:
    assert isinstance(value, float)
    return value


def within(value: float, expected: float, tolerance: float = 0.03) -> bool:
    return abs(value / expected - 1) <= tolerance


@cache
def profile(id: str) -> DeviceProfile:
    return profile_of(id)


def test_the_catalogue_holds_eighty_machines_of_every_kind_and_engine() -> None:
    assert len(ALL) >= 80
    assert {one.kind for one in ALL} == {"gpu", "tpu", "edge", "cpu", "accelerator"}
    assert {one.engine for one in ALL} == {"simt", "systolic", "spatial", "cpu"}


@each(ALL)
def test_every_number_has_a_source_and_a_date(one: Device) -> None:
    levels = [name for name in ("register", "l1", "l2", "l3", "dram", "host") if getattr(one.memory, name)]
    groups = ["identity", "compute", "power", "energy", *(f"memory.{name}" for name in levels)]
    groups += [f"links.{name}" for name in one.links]
    groups += ["compute.array"] if one.compute.array is not None else []
    groups += ["price"] if one.price.usd_per_hour is not None else []
    assert all(len(one.sources[group]) > 3 for group in groups)
    assert one.date >= "2026"
    assert one.price.usd_per_hour is None or one.price.date


@each(ALL)
def test_the_matrix_peak_is_what_the_array_does_in_a_second(one: Device) -> None:
    array = one.compute.array
    if array is None:
        return
    cells = number(array.rows) * number(array.columns) * number(array.count)
    peak = 2 * cells * number(array.macs_per_pe_per_cycle) * number(one.compute.clock_hz)
    assert any(within(number(rate), peak) for rate in one.compute.matrix_flop_per_s.values())


@each(ALL)
def test_the_vector_peak_is_lanes_times_clock(one: Device) -> None:
    compute = one.compute
    if compute.lanes_per_unit is None:
        return
    clock = compute.clock_hz if one.engine == "cpu" else compute.boost_clock_hz
    peak = 2 * number(compute.units) * number(compute.lanes_per_unit) * number(clock)
    assert within(number(compute.vector_flop_per_s["fp32"]), peak)


@each(GPUS)
def test_peaks_are_units_times_operations_per_clock_times_clock(one: Device) -> None:
    unit, compute = architecture(one.architecture), one.compute
    clocks = {number(compute.clock_hz), number(compute.boost_clock_hz or compute.clock_hz)}
    for per_clock, rates in (
        (unit.matrix, compute.matrix_flop_per_s),
        (unit.vector, compute.vector_flop_per_s),
    ):
        for dtype in set(per_clock) & set(rates) - {d for id, d in NOT_FROM_UNITS if id == one.id}:
            peaks = [number(compute.units) * per_clock[dtype] * clock for clock in clocks]
            assert any(within(number(rates[dtype]), peak) for peak in peaks), dtype


@each(GPUS)
def test_a_card_has_no_matrix_type_that_its_architecture_lacks(one: Device) -> None:
    given = {dtype for id, dtype in NOT_FROM_UNITS if id == one.id}
    assert set(one.compute.matrix_flop_per_s) - given <= set(architecture(one.architecture).matrix)


@each(GPUS)
def test_a_unit_has_the_lanes_and_memories_of_its_architecture(one: Device) -> None:
    unit, memory = architecture(one.architecture), one.memory
    assert one.compute.lanes_per_unit == unit.lanes
    assert memory.register is not None
    assert memory.l1 is not None
    assert memory.register.capacity_byte == unit.register_byte
    assert memory.l1.capacity_byte == unit.l1_byte


@each(ALL)
def test_the_bandwidth_of_dram_is_bus_times_rate(one: Device) -> None:
    dram = profile(one.id).memory.dram
    assert (dram.bus is None) == (dram.rate is None)
    if dram.bus is not None and dram.rate is not None and dram.bandwidth is not None:
        assert within(dram.bandwidth, dram.bus / 8 * dram.rate)


@each(ALL)
def test_narrower_types_are_never_slower(one: Device) -> None:
    rates = one.compute.matrix_flop_per_s
    integers = () if one.id in CUT_INTEGERS else ("int8", "int4")
    for chain in (("tf32", "bf16", "fp8", "fp4"), ("tf32", "fp16", *integers), ("fp32", "bf16", *integers)):
        known = [number(rates[dtype]) for dtype in chain if dtype in rates]
        assert known == sorted(known)


@each(ALL)
def test_geforce_cards_halve_floats_that_accumulate_in_fp32(one: Device) -> None:
    rates = one.compute.matrix_flop_per_s
    if "GeForce" in one.name and "fp16" in rates:
        assert within(2 * number(rates["fp16"]), number(rates["fp16_acc16"]))


@each(ALL)
def test_the_ridge_of_the_roofline_is_where_ridges_are(one: Device) -> None:
    fastest = max(
        number(ridge_flop_per_byte(one, dtype)) for dtype in one.compute.matrix_flop_per_s or ["fp32"]
    )
    # Weights that stream over a narrow host link: 4 TOP/s over 0.4 GB/s and 26 TOP/s over 3.94 GB/s. Weights
    # that stand in SRAM: a wafer reads a byte for every operation.
    bounds = {"coral-edge-tpu": (1.0, 10_001.0), "hailo-8": (1.0, 7_000.0), "tpu-v1": (1.0, 3_000.0)}
    bounds |= {"cerebras-wse-2": (0.3, 1.0), "cerebras-wse-3": (0.3, 1.0)}
    low, high = bounds.get(one.id, (1.0, 2_500.0))
    assert low <= fastest <= high


@each(ALL)
def test_power_at_peak_is_near_the_power_limit(one: Device) -> None:
    limit = number(one.power.limit_w)
    matrix = [number(peak_power_w(one, dtype)) / limit for dtype in one.compute.matrix_flop_per_s]
    vector = number(vector_power_w(one)) / limit
    assert 0.4 <= max([*matrix, vector]) <= 4.0


def test_the_boards_known_to_throttle_are_power_limited_at_peak() -> None:
    limited = {one.id for one in ALL if peak_power_w(one, "bf16") > one.power.limit_w}
    assert {"t4", "l4", "h100-sxm", "mi300x"} <= limited
    assert not {"rtx-3090", "p100-pcie", "raspberry-pi-4", "tpu-v3"} & limited


@each(ALL)
def test_every_shared_level_is_larger_than_the_one_before_it(one: Device) -> None:
    memory = one.memory
    # The L3 of Sapphire Rapids holds what L2 does not, and is smaller than all L2 together.
    cache = memory.l3 if one.id == "xeon-8480plus" else memory.l2
    shared = [cache, memory.l3, memory.dram]
    capacities = [number(level.capacity_byte) for level in shared if level is not None]
    assert capacities == sorted(capacities)
    assert memory.last_level_cache is not None
    assert not memory.last_level_cache.per_unit


@each(ALL)
def test_every_on_chip_level_below_the_registers_has_a_bandwidth(one: Device) -> None:
    for level in (one.memory.l1, one.memory.l2, one.memory.l3):
        if level is not None:
            assert level.bandwidth_byte_per_s is not None


@each(ALL)
def test_what_is_nearer_to_the_units_is_faster(one: Device) -> None:
    levels = [one.memory.l1, one.memory.l2, one.memory.l3, one.memory.dram]
    rates = [number(level.bandwidth_byte_per_s) for level in levels if level is not None]
    assert rates == sorted(rates, reverse=True)


@each(ALL)
def test_every_energy_is_a_number_for_every_dtype(one: Device) -> None:
    assert set(one.compute.matrix_flop_per_s) <= set(one.energy.matrix_j_per_flop)
    assert set(one.compute.vector_flop_per_s) <= set(one.energy.vector_j_per_flop)
    assert all(number(value) >= 0 for value in one.energy.matrix_j_per_flop.values())


@each(ALL)
def test_a_conflict_names_the_field_and_what_was_used(one: Device) -> None:
    for conflict in one.conflicts:
        field, colon, rest = conflict.partition(": ")
        assert colon
        assert field.partition(".")[0] in {
            "compute",
            "memory",
            "links",
            "power",
            "identity",
            "process",
            "year",
        }
        assert any(character.isdigit() for character in rest) or "left out" in rest


def test_no_source_text_names_a_sparse_peak_as_used() -> None:
    for one in ALL:
        assert not any(
            "used" in c.partition(";")[0] and "sparse" in c.partition(";")[0] for c in one.conflicts
        )


def test_matrix_units_do_a_power_of_two_per_clock() -> None:
    for one in ALL:
        rates = one.compute.matrix_flop_per_s
        if one.engine == "simt" and "fp16" in rates and one.id != "h20":
            per_clock = number(rates["fp16"]) / number(one.compute.units) / number(one.compute.clock_hz)
            assert within(per_clock, 2 ** round(math.log2(per_clock))), one.id
