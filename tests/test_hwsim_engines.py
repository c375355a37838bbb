"""Numbers of each engine checked by hand on the toy machine: 1e12 FLOP/s, 1e11 B/s, every efficiency 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwsim
from devices import Device
from graphs.ir import OperatorGraph
from hwsim.engines.cpu import query_blocks
from hwsim.engines.demand import AttentionRows
from hwsim.engines.simt import SPLITS, TILES
from hwsim.engines.splitting import fixed_split
from hwsim.errors import HwsimError
from hwsim.result import Estimate
from tests.toys import (
    ENGINES,
    NO_SOFTWARE,
    attention_graph,
    gather_graph,
    gemm_graph,
    ideal,
    stream_graph,
    toy,
)

FAST_MEMORY = {"device.memory.dram.bandwidth": "1 PB/s", "device.memory.l2.bandwidth": "1 PB/s"}
LARGE_CACHE = {"device.memory.l2.capacity": "1 GB"}
ALIGNED = {"coefficient.unaligned_share": 1.0, "coefficient.unaligned_traffic": 1.0}


def price(
    graph: OperatorGraph, device: Device, overrides: dict[str, Any] | None = None, **sizes: float
) -> Estimate:
    changes = {**ideal(device), **(overrides or {})}
    result = hwsim.estimate(graph, device, stack=NO_SOFTWARE, overrides=changes, **sizes)
    assert isinstance(result, Estimate)
    return result


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stream_takes_its_bytes_over_the_bandwidth(engine: str, tmp_path: Path) -> None:
    """Two operands in and one result out, 4 bytes each, over 1e11 B/s."""
    e = 1_000_000
    assert price(stream_graph(), toy(tmp_path, engine), e=e).latency_s == pytest.approx(3 * e * 4 / 1e11)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stream_spends_the_energy_of_its_parts(engine: str, tmp_path: Path) -> None:
    """10 pJ per DRAM byte, 1 pJ per on-chip byte, 4 pJ per addition, 2 W for the time it takes."""
    e = 1_000_000
    energy = price(stream_graph(), toy(tmp_path, engine), e=e).energy_by_j
    assert energy["dram"] == pytest.approx(12 * e * 10e-12)
    assert energy["onchip"] == pytest.approx(12 * e * 1e-12)
    assert energy["compute"] == pytest.approx(e * 4e-12)
    assert energy["static"] == pytest.approx(2.0 * 12 * e / 1e11)


@pytest.mark.parametrize("engine", ENGINES)
def test_launches_and_ramps_add_up_per_kernel(engine: str, tmp_path: Path) -> None:
    device = toy(tmp_path, engine)
    plain = price(stream_graph(), device, e=1000).latency_s
    stack = hwsim.estimate(
        stream_graph(), device, stack=NO_SOFTWARE, e=1000,
        overrides={**ideal(device), "coefficient.kernel_ramp_s": 2e-6, "stack.launch": "3 us"},
    )  # fmt: skip
    assert stack.latency_s == pytest.approx(plain + 5e-6)
    assert stack.breakdown_s["overhead"] == pytest.approx(5e-6)


def test_a_cpu_dispatches_and_then_computes(tmp_path: Path) -> None:
    device = toy(tmp_path, "cpu")
    plain = price(stream_graph(), device, e=1000).latency_s
    changes = {"stack.dispatch": "100 us", "coefficient.host_slowdown": 0.5}
    assert price(stream_graph(), device, changes, e=1000).latency_s == pytest.approx(plain + 50e-6)


@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "cpu"])
def test_a_slow_host_hides_the_device_behind_its_dispatch(engine: str, tmp_path: Path) -> None:
    """The host needs 100 us per kernel and its first dispatch precedes the device: 200 us for one kernel."""
    device = toy(tmp_path, engine)
    result = price(stream_graph(), device, {"stack.dispatch": "100 us"}, e=1000)
    assert result.latency_s == pytest.approx(200e-6)


def test_gpu_gemm_in_full_waves_reaches_the_peak(tmp_path: Path) -> None:
    """2560 x 2560 outputs are 200 tiles of 256 x 128: exactly 20 waves on 10 units."""
    result = price(gemm_graph(), toy(tmp_path, "simt"), {**FAST_MEMORY}, b=1, m=2560, n=2560, k=256)
    assert result.latency_s == pytest.approx(2 * 2560 * 2560 * 256 / 1e12)
    assert result.flops == 2 * 2560 * 2560 * 256
    assert result.flops_executed == result.flops


def test_gpu_gemm_pays_for_the_last_wave(tmp_path: Path) -> None:
    """11 column tiles on 10 units; K in 8 parts makes 88 tiles, 9 waves of an eighth of a tile's time."""
    result = price(gemm_graph(), toy(tmp_path, "simt"), FAST_MEMORY, b=1, m=16, n=11 * 64, k=4096)
    assert result.latency_s == pytest.approx(9 / 8 * 10 * (2 * 16 * 64 * 4096) / 1e12)
    assert result.ops[0].choice in ("16x64 split-K 8", "16x64 split-K 16")


@pytest.mark.parametrize("sizes", [(1, 2, 1, 1), (3, 77, 501, 90), (1, 1000, 37, 4096), (64, 33, 129, 65)])
def test_gpu_gemm_takes_the_cheapest_of_all_tiles(sizes: tuple[int, int, int, int], tmp_path: Path) -> None:
    """The formula of the engine written out for every tile and split; 4-byte elements, nothing read again."""
    b, m, n, k = sizes
    dram = 4 * b * (m * k + k * n + m * n) / 1e11
    seconds = []
    for rows, columns in TILES:
        for split in SPLITS:
            tiles = b * -(-m // rows) * -(-n // columns) * split
            depth = -(-k // (32 * split)) * 32
            compute = -(-tiles // 10) * (2 * rows * columns * depth) / (1e12 / 10)
            loads = tiles * depth * 4 * (min(rows, m) + min(columns, n))
            partial = 2 * 4 * split * b * m * n if split > 1 else 0
            onchip = (loads + 4 * b * m * n + partial) / 1e12
            seconds.append(max(compute, dram, onchip))
    result = price(gemm_graph(), toy(tmp_path, "simt"), {**LARGE_CACHE, **ALIGNED}, b=b, m=m, n=n, k=k)
    assert result.latency_s == pytest.approx(min(seconds))


def test_gpu_product_of_one_row_runs_on_lanes_where_tiles_are_slower(tmp_path: Path) -> None:
    """A quarter of 1 TFLOP/s, as each multiply-add loads an operand; two rows have tiles only."""
    device = toy(tmp_path, "simt")
    changes = {**FAST_MEMORY, "device.compute.vector.fp32": "1 TFLOP/s"}
    one, two = (price(gemm_graph(), device, changes, b=1, m=m, n=4096, k=4096) for m in (1, 2))
    assert one.ops[0].choice == "direct"
    assert one.latency_s == pytest.approx(2 * 4096 * 4096 / 0.25 / 1e12)
    assert two.ops[0].choice.startswith("16x64")
    assert two.latency_s > one.latency_s


def test_gpu_rows_that_vector_loads_cannot_take_slow_the_main_loop(tmp_path: Path) -> None:
    """1022 elements of 4 bytes do not begin at multiples of 16 bytes; both sizes take as many tiles."""
    device = toy(tmp_path, "simt")
    changes = {**FAST_MEMORY, "coefficient.unaligned_share": 0.5}
    whole, ragged = (price(gemm_graph(), device, changes, b=10, m=1024, n=n, k=1024) for n in (1024, 1022))
    assert ragged.latency_s == pytest.approx(2 * whole.latency_s)
    assert ragged.flops_executed == whole.flops_executed


def test_gpu_gemm_on_one_unit_is_limited_by_the_bytes_that_unit_takes(tmp_path: Path) -> None:
    """One tile of K = 32: 32 x (16 + 32) elements of 4 bytes through one unit at 8 B per 1 GHz clock."""
    device = toy(tmp_path, "simt")
    changes = {
        **FAST_MEMORY,
        "coefficient.unit_byte_per_clock": 8.0,
        "coefficient.unit_sharing": 1.0,
        "device.compute.matrix.fp32": "1 PFLOP/s",
    }
    assert price(gemm_graph(), device, changes, b=1, m=16, n=32, k=32).latency_s == pytest.approx(
        32 * (16 + 32) * 4 / 8e9
    )


def test_gpu_attention_without_mask_is_two_products(tmp_path: Path) -> None:
    """10 heads of 128 queries are 10 tiles on 10 units, one wave without padding."""
    q, k, d = 128, 1024, 64
    result = price(
        attention_graph(), toy(tmp_path, "simt"), FAST_MEMORY, batch=10, sets=1, group=1, q=q, k=k, d=d
    )
    assert result.latency_s == pytest.approx(10 * 2 * q * k * (d + d) / 1e12)
    assert result.flops == result.flops_executed == 10 * 2 * q * k * 2 * d


def test_gpu_attention_skips_what_a_causal_mask_hides(tmp_path: Path) -> None:
    """1024 queries in tiles of 128: tile i sees i x 128 keys, 4.5 of 8 on average, rounded up to 5 steps."""
    q, d = 1024, 64
    sizes = {"batch": 10, "sets": 1, "group": 1, "q": q, "k": q, "d": d}
    result = price(attention_graph("causal"), toy(tmp_path, "simt"), FAST_MEMORY, **sizes)
    assert result.flops == 10 * 2 * q * q * 2 * d
    assert result.flops_executed == pytest.approx(10 * 8 * (2 * 128 * 5 * 128 * 2 * d))
    assert result.latency_s == pytest.approx(result.flops_executed / 1e12)


def test_gpu_decode_packs_the_heads_that_share_keys_into_one_tile(tmp_path: Path) -> None:
    """8 query heads on one key head fill half a tile of 16 rows; keys are read once, not 8 times."""
    k, d = 4096, 128
    device = toy(tmp_path, "simt")
    result = price(attention_graph(), device, batch=10, sets=1, group=8, q=1, k=k, d=d)
    assert result.flops_executed == 10 * 2 * 16 * k * 2 * d
    assert result.dram_bytes == 4 * 10 * (2 * k * d + 2 * 8 * d)
    assert result.latency_s == pytest.approx(result.dram_bytes / 1e11)


def test_gpu_split_kv_spreads_one_long_sequence_over_all_units(tmp_path: Path) -> None:
    """One head of one query: a single tile whole; in 64 parts 7 waves on 10 units, better than 8 in one."""
    device = toy(tmp_path, "simt")
    sizes = {"batch": 1, "sets": 1, "group": 1, "q": 1, "k": 8192, "d": 64}
    overrides = {**ideal(device), **FAST_MEMORY}
    whole = hwsim.estimate(attention_graph(), device, stack=NO_SOFTWARE, overrides=overrides, **sizes)
    overrides["stack.attention_kernel"] = "flash_split_kv"
    split = hwsim.estimate(attention_graph(), device, stack=NO_SOFTWARE, overrides=overrides, **sizes)
    assert whole.breakdown_s["compute"] == pytest.approx(10 * 2 * 16 * 8192 * 128 / 1e12)
    assert split.breakdown_s["compute"] == pytest.approx(whole.breakdown_s["compute"] * 7 / 64)


def test_gpu_stream_k_deals_all_key_steps_evenly(tmp_path: Path) -> None:
    """11 heads of 8 steps of 128 keys on 10 units: two waves a head each, or 88 steps of which the busiest
    unit has 9; more contexts or heads leave every unit at work. Both pad one query to 64 rows.
    """
    device = toy(tmp_path, "simt")
    sizes = {"batch": 1, "sets": 11, "group": 1, "q": 1, "k": 1024, "d": 64}
    overrides = {**ideal(device), **FAST_MEMORY, "stack.attention_kernel": "flash_attention_2"}
    whole = hwsim.estimate(attention_graph(), device, stack=NO_SOFTWARE, overrides=overrides, **sizes)
    overrides["stack.attention_kernel"] = "stream_k"
    even = hwsim.estimate(attention_graph(), device, stack=NO_SOFTWARE, overrides=overrides, **sizes)
    assert whole.breakdown_s["compute"] == pytest.approx(2 * 10 * 2 * 64 * 1024 * 128 / 1e12)
    assert even.breakdown_s["compute"] == pytest.approx(whole.breakdown_s["compute"] * 9 / 16)
    assert even.flops_executed == whole.flops_executed
    assert even.ops[0].choice == "stream-K"


def test_gpu_flash_decoding_splits_by_its_rule_and_not_by_the_best(tmp_path: Path) -> None:
    """6 heads on 10 units: 3 parts fill 2 waves to 18 of 20, the fullest 5 parts to 30 of 30; 3 will do.
    9 heads fill the units to 80 % and are not split, though 10 parts would lose nothing.
    """
    device = toy(tmp_path, "simt")
    overrides = {**ideal(device), **FAST_MEMORY, "stack.attention_kernel": "flash_decoding"}
    a_head = 2 * 64 * 15360 * 128 / 1e11
    for sets, seconds in ((6, 2 * a_head / 3), (9, a_head)):
        sizes = {"batch": 1, "sets": sets, "group": 1, "q": 1, "k": 15360, "d": 64}
        found = hwsim.estimate(attention_graph(), device, stack=NO_SOFTWARE, overrides=overrides, **sizes)
        assert found.breakdown_s["compute"] == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("heads", "keys", "parts"), [(8, 65536, 12), (48, 65536, 2), (86, 65536, 5), (87, 65536, 1), (8, 512, 2)]
)
def test_the_split_rule_of_flash_attention_2(heads: int, keys: int, parts: int) -> None:
    """On 108 units: 12 x 8 and 2 x 48 are 89 % of a wave; 86 heads need 5 parts for 4 whole waves, 87 are
    more than 80 % of the units; 512 keys are 2 blocks and cannot be more parts.
    """
    one = {name: np.full((1, 1), value) for name, value in
           {"heads": heads, "kv_heads": heads, "q_len": 1, "kv_len": keys, "head_dim": 64, "value_dim": 64,
            "causal": 0, "byte": 2, "query_byte": 2}.items()}  # fmt: skip
    assert fixed_split(AttentionRows(**one), np.ones((1, 1, 1)), 108) == parts


def test_a_systolic_product_is_folds_times_cycles(tmp_path: Path) -> None:
    """100 x 32 times 32 x 64 on two 16 x 16 arrays, weights stationary, half the columns on each:
    2 x 2 folds that stream 100 rows, the first load, fill and drain of 16 + 16 + 16 - 2 cycles.
    """
    result = price(gemm_graph(), toy(tmp_path, "systolic"), FAST_MEMORY, b=1, m=100, n=64, k=32)
    cycle = 2 * (2 * 16 * 16) / 1e12
    assert result.latency_s == pytest.approx((4 * 100 + 46) * cycle)


def test_folds_that_arrays_share_badly_are_cut_in_halves(tmp_path: Path) -> None:
    """48 columns and 16 of depth are 3 folds, 2 rounds on 2 arrays; 6 halves of 50 rows are 3 rounds."""
    result = price(gemm_graph(), toy(tmp_path, "systolic"), FAST_MEMORY, b=1, m=100, n=48, k=16)
    assert result.latency_s == pytest.approx((3 * 50 + 46) * 1.024e-9)
    assert result.ops[0].choice.startswith("ws, rows in 2, tile ")


def test_products_of_a_batch_share_the_arrays(tmp_path: Path) -> None:
    """Five products of one fold each are 3 rounds of 100 rows on 2 arrays, in halves 5 of 50."""
    result = price(gemm_graph(), toy(tmp_path, "systolic"), FAST_MEMORY, b=5, m=100, n=16, k=16)
    assert result.latency_s == pytest.approx((5 * 50 + 46) * 1.024e-9)


def test_systolic_attention_is_a_product_for_scores_and_one_for_values(tmp_path: Path) -> None:
    """Two heads on two arrays: scores 64 x 16 x 64 are 4 folds of 64 rows, and so are values 64 x 64 x 16."""
    device = toy(tmp_path, "systolic")
    result = price(attention_graph(), device, FAST_MEMORY, batch=1, sets=2, group=1, q=64, k=64, d=16)
    assert result.latency_s == pytest.approx(2 * (4 * 64 + 46) * 1.024e-9)


def test_an_unknown_dataflow_is_refused() -> None:
    from hwsim.engines.systolic import gemm_cycles

    with pytest.raises(HwsimError, match="dataflow 'xs' is unknown; use 'ws', 'os' or 'is'"):
        gemm_cycles(1, 1, 1, 4, 4, "xs")


def test_a_small_cpu_product_stays_on_one_core(tmp_path: Path) -> None:
    """13 x 9 outputs are padded to 18 x 16 (panels of 6, vectors of 8): too few for a second core."""
    result = price(gemm_graph(), toy(tmp_path, "cpu"), FAST_MEMORY, b=1, m=13, n=9, k=64)
    assert result.latency_s == pytest.approx(2 * 18 * 16 * 64 / (1e12 / 10))
    assert result.flops_executed == 2 * 18 * 16 * 64


def test_a_large_cpu_product_fills_all_cores(tmp_path: Path) -> None:
    result = price(gemm_graph(), toy(tmp_path, "cpu"), FAST_MEMORY, b=1, m=600, n=800, k=512)
    assert result.latency_s == pytest.approx(2 * 600 * 800 * 512 / 1e12)


def test_cpu_attention_gives_a_head_to_a_core(tmp_path: Path) -> None:
    """One head of 32 queries keeps one of ten cores busy; ten heads take as long."""
    device = toy(tmp_path, "cpu")
    sizes = {"batch": 1, "group": 1, "q": 32, "k": 100, "d": 8}
    one = price(attention_graph(), device, FAST_MEMORY, sets=1, **sizes)
    ten = price(attention_graph(), device, FAST_MEMORY, sets=10, **sizes)
    assert one.latency_s == pytest.approx(2 * 32 * 100 * 16 / (1e12 / 10))
    assert ten.latency_s == pytest.approx(one.latency_s)


def test_a_block_of_cpu_attention_costs_something_however_few_its_scores(tmp_path: Path) -> None:
    """160 queries are 5 blocks, 600 keys two: ten of 1e6 FLOP for each of 20 heads, dealt to ten cores."""
    device = toy(tmp_path, "cpu")
    sizes = {"batch": 1, "sets": 20, "group": 1, "q": 160, "k": 600, "d": 8}
    plain = price(attention_graph(), device, FAST_MEMORY, **sizes)
    paid = price(attention_graph(), device, {**FAST_MEMORY, "coefficient.block_flop": 1e6}, **sizes)
    assert paid.latency_s - plain.latency_s == pytest.approx(20 * 10 * 1e6 / 1e12)


def test_blocks_of_queries_are_larger_the_more_there_are_and_never_fewer() -> None:
    assert query_blocks(np.array([1, 32, 33, 192, 400, 768, 5000])).tolist() == [1, 1, 2, 6, 7, 12, 20]
    assert np.all(np.diff(query_blocks(np.arange(1.0, 3000.0))) >= 0)


def test_weights_from_dram_are_waited_for_before_anything_is_multiplied(tmp_path: Path) -> None:
    """8 x 1000 weights of 4 bytes are 32 kB; waited for are as many again and 100 bytes for each column."""
    device = toy(tmp_path, "cpu")
    sizes = {"b": 1, "m": 1, "n": 8, "k": 1000}
    waits = {"coefficient.weight_wait": 1.0, "coefficient.row_start_byte": 100.0}
    plain, waited = (price(gemm_graph(), device, changes, **sizes) for changes in ({}, waits))
    memory_s = 4 * (1000 + 8000 + 8) / 1e11
    assert plain.latency_s == pytest.approx(memory_s)
    assert waited.dram_bytes == plain.dram_bytes
    # what multiplies is on one core beside the wait, and the longer of this and of the memory counts
    busy_s = 2 * 8 * 1000 / (1e12 / 10) + (32000 + 8 * 100) / 1e11
    assert waited.latency_s == pytest.approx(max(busy_s, memory_s))


def test_a_kind_that_takes_longer_to_call_takes_that_much_longer(tmp_path: Path) -> None:
    device = toy(tmp_path, "cpu")
    sizes = {"b": 1, "m": 600, "n": 800, "k": 512}
    plain, slow = (
        price(gemm_graph(), device, {**FAST_MEMORY, **changes}, **sizes)
        for changes in ({}, {"coefficient.bmm_call_s": 1e-3})
    )
    assert slow.latency_s - plain.latency_s == pytest.approx(1e-3)


def test_a_spatial_product_takes_the_best_of_four_mappings(tmp_path: Path) -> None:
    """32 x 16 outputs lie on a 16 x 16 grid in 2 passes of K = 100 steps and 30 of fill and drain."""
    result = price(gemm_graph(), toy(tmp_path, "spatial"), FAST_MEMORY, b=1, m=32, n=16, k=100)
    assert result.latency_s == pytest.approx(2 * (100 + 30) * (2 * 256 / 1e12))


def test_spatial_scores_that_outgrow_the_buffer_go_to_memory_and_back(tmp_path: Path) -> None:
    """1000 x 1000 scores of 4 bytes in a buffer of 1 MB: 3 MB of each head are written and read again."""
    sizes = {"batch": 1, "sets": 3, "group": 1, "q": 1000, "k": 1000, "d": 16}
    result = price(attention_graph(), toy(tmp_path, "spatial"), **sizes)
    assert result.dram_bytes == pytest.approx(4 * 3 * 4 * 1000 * 16 + 3 * 2 * (4e6 - 1e6))


@pytest.mark.parametrize("engine", ["simt", "cpu", "systolic"])
def test_a_gather_of_short_runs_fetches_whole_granules(engine: str, tmp_path: Path) -> None:
    """Runs of 4 bytes where an access fetches a granule; indices and results stay contiguous."""
    device = toy(tmp_path, engine)
    rows = 10_000
    result = price(
        gather_graph(), device, {"coefficient.gather_granule_byte": 64.0}, rows=rows, run=1, t=10**6
    )
    assert result.dram_bytes == pytest.approx(rows * (64 + 4 + 4))


@pytest.mark.parametrize("engine", ["simt", "cpu", "systolic"])
def test_a_table_that_stays_on_chip_is_fetched_once_however_often_it_is_read(
    engine: str, tmp_path: Path
) -> None:
    """100 000 picks of 4 bytes out of 4 kB in a buffer of 1 MB: waste of DRAM is at most the table."""
    changes = {"coefficient.gather_granule_byte": 64.0}
    rows = 100_000
    result = price(gather_graph(), toy(tmp_path, engine), changes, rows=rows, run=1, t=1000)
    assert result.dram_bytes == pytest.approx(rows * 3 * 4 + 4000)


@pytest.mark.parametrize("engine", ["systolic", "spatial"])
def test_a_tiling_is_searched_under_the_buffer(engine: str, tmp_path: Path) -> None:
    """Half of 1 MB holds a tile of sums 256 x 405 with 32 of depth of each operand: of 2000 x 2000 that are
    8 x 5 tiles, so the left operand streams 5 times, the right one 8 times.
    """
    result = price(gemm_graph(), toy(tmp_path, engine), b=1, m=2000, n=2000, k=2000)
    assert (256 * 405 * 4 + (256 + 405) * 32 * 4) < 5e5 < (256 * 406 * 4 + (256 + 406) * 32 * 4)
    assert result.dram_bytes == pytest.approx((5 + 8 + 1) * 16e6)
    assert result.ops[0].choice.endswith("tile 256x32x405, sums stay")


@pytest.mark.parametrize("engine", ["simt", "cpu"])
def test_operands_larger_than_the_chip_are_read_again(engine: str, tmp_path: Path) -> None:
    """Two operands of 2000 x 2000 x 4 B = 16 MB and a buffer of 1 MB, half of it for a block: one stays
    in 32 pieces and the other streams past each, or partial sums stay in a square of side sqrt(5e5 / 4) and
    rows and columns stream past: 2 x 2000^3 elements over the side, which is less.
    """
    side = (5e5 / 4) ** 0.5
    panels, squares = 16e6 + 32 * 16e6, 2 * 4 * 2000**3 / side
    result = price(gemm_graph(), toy(tmp_path, engine), b=1, m=2000, n=2000, k=2000)
    assert squares < panels
    assert result.dram_bytes == pytest.approx(squares + 16e6)


def test_softmax_limits_attention_when_exponentials_are_slow(tmp_path: Path) -> None:
    """One exponential per score at 1 GOP/s, five vector operations at 5e11 FLOP/s."""
    device = toy(tmp_path, "simt")
    changes = {**FAST_MEMORY, "device.compute.special": "1 GOP/s"}
    result = price(attention_graph(), device, changes, batch=10, sets=1, group=1, q=128, k=1024, d=64)
    scores = 10 * 128 * 1024
    assert result.latency_s == pytest.approx(scores / 1e9 + 5 * scores / 5e11)


def test_a_causal_mask_halves_the_softmax_too(tmp_path: Path) -> None:
    device = toy(tmp_path, "simt")
    changes = {**FAST_MEMORY, "device.compute.special": "1 GOP/s"}
    result = price(attention_graph("causal"), device, changes, batch=10, sets=1, group=1, q=128, k=128, d=64)
    scores = 10 * 128 * 129 / 2
    assert result.latency_s == pytest.approx(scores / 1e9 + 5 * scores / 5e11)
